"""What the log says of clipping that nobody reported: norms against float64, by whatever it was done; or unknown."""

import logging
import math

import pytest
import torch
from torch import nn

import gradflow as gf

T, B, D, H = 5, 4, 3, 6


class Net(nn.Module):
    """Words, a recurrent layer and a read-out, so that there are gradients of very different norms."""

    def __init__(self, sparse=False):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.recurrent = nn.Embedding(7, D, sparse=sparse), nn.GRU(D, H)
        self.read_out = nn.Linear(H, 2)

    def loss(self, seed=0):
        x = torch.randint(0, 7, (T, B), generator=torch.Generator().manual_seed(seed))
        return self.read_out(self.recurrent(self.words(x))[0]).square().mean()


def norms(net):
    """Name -> float64 norm of its gradient."""
    dense = {name: p.grad.to_dense() if p.grad.is_sparse else p.grad for name, p in net.named_parameters()}
    return {name: float(gradient.double().norm()) for name, gradient in dense.items()}


def recorded(path, *, change=lambda net: None, backward=None, net=None, step=None):
    """The row of one iteration of a loop of one's own, and the norms that were really there before and after."""
    net = net or Net()
    with gf.record(net, path, examples=B) as recorder:
        (backward or (lambda net: net.loss().backward()))(net)
        before = norms(net)
        given = change(net)
        after = norms(net)
        recorder.step(**(step or {}), clipping=given if isinstance(given, gf.Clipping) else None)
    return gf.open_run(path).scalars.iloc[0], before, after


def assert_norms(row, before, after, scale=1.0):
    for when, expected, factor in (("before", before, scale), ("after", after, 1.0)):
        found = {name: row[f"log_grad_{when}.{name}"] for name in expected}
        assert found == pytest.approx({name: math.log(norm / factor) for name, norm in expected.items()}, abs=1e-5)
        total = math.log(math.hypot(*expected.values()) / factor)
        assert row[f"log_grad_norm_{when}"] == pytest.approx(total, abs=1e-5)


def all_of(change):
    """The same done to each gradient."""
    return lambda net: [change(parameter) for parameter in net.parameters()]


def clamp(parameter):
    parameter.grad.clamp_(-0.001, 0.001)


def replace(parameter):
    parameter.grad = parameter.grad * 0.3


SCALED = {  # way -> (what the script does, coefficient; None: that of the norms)
    "torch's norm": (lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.01), None),
    "torch's norm, not foreach": (lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.01, foreach=False), None),
    "torch's largest entry": (lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.01, "inf"), None),
    "gradflow's, not handed over": (lambda net: gf.clip_grad_norm_(net.parameters(), 0.01) and None, None),
    "by hand, behind autograd": (all_of(lambda p: p.grad.data.mul_(0.3)), 0.3),
    "another tensor": (all_of(replace), 0.3),
}
PARTLY = {
    "torch's value": lambda net: nn.utils.clip_grad_value_(net.parameters(), 0.001),
    "value, behind autograd": all_of(lambda p: p.grad.data.clamp_(-0.001, 0.001)),
    "each by its own norm": all_of(lambda p: nn.utils.clip_grad_norm_(p, 0.01)),
    "a part": lambda net: nn.utils.clip_grad_norm_(net.recurrent.parameters(), 0.001),
    "parts apart": lambda net: [nn.utils.clip_grad_norm_(part.parameters(), 0.001) for part in net.children()],
}


@pytest.mark.parametrize(("change", "coefficient"), SCALED.values(), ids=SCALED)
def test_one_factor_for_all(change, coefficient, tmp_path):
    row, before, after = recorded(tmp_path, change=change)
    assert_norms(row, before, after)
    assert row.coefficient == pytest.approx(
        coefficient or math.hypot(*after.values()) / math.hypot(*before.values()), 1e-5
    )
    assert row[["clipped", "clipping_reported"]].tolist() == [1, 0]


def test_sparse_gradients(tmp_path):
    row, before, after = recorded(tmp_path, change=SCALED["gradflow's, not handed over"][0], net=Net(sparse=True))
    assert_norms(row, before, after)
    assert row.coefficient == pytest.approx(math.hypot(*after.values()) / math.hypot(*before.values()))
    assert row.clipped == 1


@pytest.mark.parametrize("change", PARTLY.values(), ids=PARTLY)
def test_clipping_without_one_factor(change, tmp_path):
    row, before, after = recorded(tmp_path, change=change)
    assert_norms(row, before, after)
    assert row[["clipped", "clipping_reported"]].tolist() == [1, 0]
    assert math.isnan(row.coefficient)


@pytest.mark.parametrize("change", [lambda net: None, lambda net: nn.utils.clip_grad_norm_(net.parameters(), 1e6)])
def test_nothing_happened(change, tmp_path):
    row, before, after = recorded(tmp_path, change=change)
    assert_norms(row, before, after)
    assert row[["coefficient", "clipped", "clipping_reported"]].tolist() == [1, 0, 0]


@pytest.mark.parametrize("handed", [0, 1])
def test_parts_clipped_apart_with_one_result_handed_over(handed, tmp_path):
    def change(net):
        return [gf.clip_grad_norm_(part.parameters(), 0.001) for part in (net.recurrent, net.read_out)][handed]

    row, before, after = recorded(tmp_path, change=change)
    assert_norms(row, before, after)
    assert row[["clipped", "clipping_reported"]].tolist() == [1, 1]
    assert math.isnan(row.coefficient)


def test_a_part_clipped_without_effect_beside_one_that_was_not_reported(tmp_path):
    def change(net):
        nn.utils.clip_grad_norm_(net.read_out.parameters(), 0.001)
        return gf.clip_grad_norm_(net.recurrent.parameters(), 1e6)

    row, before, after = recorded(tmp_path, change=change)
    assert_norms(row, before, after)
    assert row.clipped == 1


# --- Nobody can tell: unknown, never "without clipping" ------------------------------------------------------------


def unknown(row):
    return math.isnan(row.clipped) and math.isnan(row.coefficient)


def test_gradients_that_grew_were_not_clipped(tmp_path):
    row, before, after = recorded(tmp_path, change=all_of(lambda p: p.grad.add_(1.0)))
    assert_norms(row, before, after)
    assert unknown(row)


@pytest.mark.parametrize("when", ["before it is accumulated", "after", "after, hooked in later"])
def test_a_hook_that_changes_a_gradient_on_its_way(when, tmp_path):
    """Clamping in a hook on the parameter: what backward made of it nobody sees."""
    net = Net()
    weight = net.recurrent.weight_hh_l0

    def backward(net):
        if when == "after, hooked in later":
            weight.register_post_accumulate_grad_hook(clamp)
        net.loss().backward()

    if when == "before it is accumulated":
        weight.register_hook(lambda gradient: gradient.clamp(-0.001, 0.001))
    elif when == "after":
        weight.register_post_accumulate_grad_hook(clamp)
    row, before, _ = recorded(tmp_path, net=net, backward=backward)
    assert unknown(row)
    assert math.isnan(row.log_grad_norm_before)
    assert math.isnan(row["log_grad_before.recurrent.weight_hh_l0"])
    assert row["log_grad_before.words.weight"] == pytest.approx(math.log(before["words.weight"]), abs=1e-5)


def test_gradients_that_the_script_sets_itself(tmp_path):
    def backward(net):
        parameters = list(net.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(net.loss(), parameters), strict=True):
            parameter.grad = gradient

    row, _, _ = recorded(tmp_path, backward=backward)
    assert unknown(row)
    assert math.isnan(row.log_grad_norm_before)


def test_gradients_that_are_averaged_over_processes(tmp_path, monkeypatch):
    for name, value in {"is_available": True, "is_initialized": True, "get_world_size": 2}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    row, _, after = recorded(tmp_path)
    assert unknown(row)
    assert row.log_grad_norm_after == pytest.approx(math.log(math.hypot(*after.values())))


def test_gradients_that_are_no_longer_finite(tmp_path):
    row, _, _ = recorded(tmp_path, change=all_of(lambda p: p.grad.mul_(math.inf)))
    assert unknown(row)
    assert row.non_finite == 1


def test_gradients_that_were_set_to_zero(tmp_path):
    row, _, _ = recorded(tmp_path, change=lambda net: net.zero_grad(set_to_none=False), net=Net())
    assert (row.coefficient, row.clipped, row.log_grad_norm_after) == (0, 1, -math.inf)


def test_a_backward_pass_that_failed_is_forgotten(tmp_path):
    """The next one is seen as ever."""

    def backward(net):
        def fail(gradient):
            raise ZeroDivisionError

        loss = net.loss()
        handle = net.words.weight.register_hook(fail)
        with pytest.raises(ZeroDivisionError):
            loss.backward()
        handle.remove()
        net.zero_grad()
        net.loss().backward()

    row, before, after = recorded(tmp_path, backward=backward)
    assert_norms(row, before, after)
    assert row.clipped == 0


def test_gradients_that_were_not_finite_and_were_mended(tmp_path):
    row, _, _ = recorded(
        tmp_path,
        backward=lambda net: (math.inf * net.loss()).backward(),
        change=all_of(lambda p: p.grad.nan_to_num_(0, 0, 0)),
    )
    assert unknown(row)
    assert row.non_finite == 0


def test_gradients_of_what_the_loss_does_not_use(tmp_path):
    """Zeros that are left from before; or more, of which nobody knows whether they were clipped."""
    for left, is_known in ((0.0, True), (1.0, False)):
        net = Net()
        net.other = nn.Parameter(torch.ones(3))
        net.other.grad = torch.full((3,), left)
        row, _, _ = recorded(tmp_path / str(left), net=net)
        assert unknown(row) == (not is_known)
        assert is_known == (row.clipped == 0)


# --- Accumulated gradients, and the scale of mixed precision ---------------------------------------------------------


def micro_batches(net, between=lambda net: None):
    for seed in range(3):
        (net.loss(seed) / 3).backward()
        between(net)


def test_accumulated_gradients_are_compared_as_a_whole(tmp_path):
    change = lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.01)  # noqa: E731
    row, before, after = recorded(tmp_path, backward=micro_batches, change=change)
    assert_norms(row, before, after)
    assert row.clipped == 1
    row, before, after = recorded(tmp_path / "plain", backward=micro_batches)
    assert_norms(row, before, after)
    assert row[["coefficient", "clipped"]].tolist() == [1, 0]


def test_gradients_clipped_between_micro_batches(tmp_path):
    def clip(net):
        nn.utils.clip_grad_norm_(net.parameters(), 0.01)

    row, _, _ = recorded(tmp_path, backward=lambda net: micro_batches(net, clip))
    assert unknown(row)


@pytest.mark.parametrize("scale", [2.0**12, 1000.0])
@pytest.mark.parametrize("clip", [None, "norm", "value"])
def test_the_scale_of_a_grad_scaler_is_divided_out(clip, scale, tmp_path):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    def change(net):
        scaler.unscale_(optimizer)
        if clip == "norm":
            nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        elif clip == "value":
            nn.utils.clip_grad_value_(net.parameters(), 0.001)

    def backward(net):
        scaler.scale(net.loss()).backward()

    row, before, after = recorded(tmp_path, net=net, backward=backward, change=change, step={"loss_scale": scale})
    assert_norms(row, before, after, scale)
    assert row.clipped == float(clip is not None)
    expected = {None: 1.0, "norm": 0.01 * scale / math.hypot(*before.values()), "value": math.nan}[clip]
    assert row.coefficient == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_a_scale_that_nobody_spoke_of_is_no_clipping(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        row, _, _ = recorded(tmp_path, change=all_of(lambda p: p.grad.mul_(2.0**-10)))
    assert unknown(row)
    assert "a power of 2 is no clipping but a GradScaler's scale" in caplog.text
    assert "loss_scale=scaler.get_scale()" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype, tmp_path):
    change = all_of(lambda p: p.grad.mul_(0.3))
    for path, done in ((tmp_path / "clipped", change), (tmp_path / "plain", lambda net: None)):
        row, before, after = recorded(path, net=Net().to(dtype), change=done)
        assert row.log_grad_norm_before == pytest.approx(math.log(math.hypot(*before.values())), abs=1e-5)
        assert row.log_grad_norm_after == pytest.approx(math.log(math.hypot(*after.values())), abs=1e-5)
        assert row.clipped == float(done is change)
        assert row.coefficient == pytest.approx(0.3 if done is change else 1.0, rel=1e-2)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_beyond_the_squares_of_float32(size, tmp_path):
    """torch's norm of these is 0 or inf."""
    backward = lambda net: (size * net.loss()).backward()  # noqa: E731
    change = all_of(lambda p: p.grad.mul_(0.3))
    row, before, after = recorded(tmp_path, backward=backward, change=change)
    assert row.log_grad_norm_before == pytest.approx(math.log(math.hypot(*before.values())), abs=1e-4)
    assert row.log_grad_norm_after == pytest.approx(math.log(math.hypot(*after.values())), abs=1e-4)
    assert (row.clipped, row.coefficient) == (1, pytest.approx(0.3, rel=1e-4))
