"""Scripts that clip nothing, twice or in parts: gradients, what is returned and the log agree, or a word is said."""

import logging
import math
from functools import partial

import pytest
import torch
from silent_scripts import Net, loss_of, sequences
from torch import nn

import gradflow as gf

CLIPS = [gf.clip_grad_norm_, gf.clip_grad_parameter_norm_, gf.clip_grad_value_]
REFUSALS = (TypeError, ValueError, UserWarning)  # warnings are errors in these tests


def plain_tensor(gradient=(3.0, 0.0, 4.0)):
    tensor = torch.zeros(torch.tensor(gradient).shape, requires_grad=True)
    tensor.grad = torch.tensor(gradient)
    return tensor


def parameter(gradient=(3.0, 0.0, 4.0)):
    made = nn.Parameter(plain_tensor(gradient).detach())
    made.grad = torch.tensor(gradient)
    return made


def is_clipped(clip, result, tensor):
    """Whether the gradient (3, 0, 4) was clipped at 1 exactly once, and the result says so."""
    norm = float(tensor.grad.norm())
    expected = math.sqrt(2) if clip is gf.clip_grad_value_ else 1.0
    found = (result.norm_before, result.norm_after, norm)
    return result.clipped and found == pytest.approx((5.0, expected, expected), rel=1e-5)


def attempt(clip, given):
    """Clip at 1: what is returned, or None if it is refused; a warning has to speak of clipping, torch's do not."""
    try:
        return clip(given, 1.0)
    except REFUSALS as error:
        if isinstance(error, UserWarning) and "clip" not in str(error):
            raise
        return None


def is_warned(caplog):
    records = [r for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("gradflow")]
    return any("clip" in record.getMessage() for record in records)


# --- What is clipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("gradient", [(3.0, 0.0, 4.0), ((3.0, 0.0), (0.0, 4.0))])
def test_a_plain_tensor_is_clipped_or_refused(clip, gradient):
    """torch takes any tensor with a gradient; iterated over, it falls into rows without one."""
    tensor = plain_tensor(gradient)
    result = attempt(clip, tensor)
    assert result is None or is_clipped(clip, result, tensor)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_list_of_plain_tensors_is_clipped_or_refused(clip):
    tensor = plain_tensor()
    result = attempt(clip, [tensor])
    assert result is None or is_clipped(clip, result, tensor)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_generator_is_clipped(clip):
    one = parameter()
    assert is_clipped(clip, clip((p for p in [one]), 1.0), one)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("lazy", [iter, lambda p: (q for q in p), partial(filter, lambda q: q.requires_grad)])
def test_a_used_up_generator_is_not_passed_over(clip, lazy, caplog):
    """Made before the loop, it clips in the first iteration and nothing ever after."""
    one = parameter()
    parameters = lazy([one])
    clip(parameters, 1.0)
    one.grad = torch.tensor([3.0, 0.0, 4.0])
    assert attempt(clip, parameters) is None or is_warned(caplog)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("times", [2, 3])
def test_a_parameter_given_several_times_is_clipped_once(clip, times):
    """Tied weights in lists that a script puts together."""
    one = parameter()
    result = clip([one] * times, 1.0)
    assert is_clipped(clip, result, one)


def test_a_tied_weight_beside_others():
    tied, other = parameter((3.0, 0.0)), parameter((0.0, 4.0))
    result = gf.clip_grad_norm_([tied, other, tied], 1.0)
    assert result.norm_before == pytest.approx(5.0)
    assert tied.grad.tolist() + other.grad.tolist() == pytest.approx([0.6, 0.0, 0.0, 0.8], rel=1e-5)
    assert dict(zip(result.parameter_ids, result.parameter_norms_before, strict=True)) == pytest.approx(
        {id(tied): 3.0, id(other): 4.0}
    )
    assert sum(n * n for n in result.parameter_norms_after) == pytest.approx(1.0, rel=1e-5)


# --- What the log says of it ----------------------------------------------------------------------------------------


def gradient_norms(net, when):
    """Columns of the log: ln of the norm of every gradient, and of all together."""
    gradients = {name: p.grad.double() for name, p in net.named_parameters()}
    together = torch.cat([gradient.flatten() for gradient in gradients.values()])
    columns = {f"log_grad_{when}.{name}": gradient for name, gradient in gradients.items()}
    return {name: math.log(g.norm()) for name, g in {f"log_grad_norm_{when}": together, **columns}.items()}


def judge(clip, tmp_path, caplog, iterations=1):
    """Record a script that clips with `clip(net, iteration)` and hands what that returns to the recorder.

    Accepted are an error or a warning that speaks of clipping, and a log that holds what was there, or NaN for unknown.
    """
    torch.manual_seed(0)
    net, truth = Net(nn.GRU), []
    try:
        with gf.record(net, tmp_path, every=1, reduction="sum") as recorder:
            for iteration in range(iterations):
                net.zero_grad()
                loss_of(net, (1 + iteration) * sequences().float()).backward()
                before = gradient_norms(net, "before")
                clipping = clip(net, iteration)
                truth.append(before | gradient_norms(net, "after"))
                recorder.step(clipping=clipping)
    except REFUSALS as error:
        if "clip" not in str(error):
            raise
        return "refused"
    if is_warned(caplog):
        return "warned"
    for (_, row), expected in zip(gf.open_run(tmp_path).scalars.iterrows(), truth, strict=True):
        found = row[list(expected)].dropna()
        assert found.to_dict() == pytest.approx({name: expected[name] for name in found.index}, abs=1e-5)
    return "right"


def test_clipping_everything_is_right(tmp_path, caplog):
    assert judge(lambda net, iteration: gf.clip_grad_norm_(net.parameters(), 0.1), tmp_path, caplog) == "right"


@pytest.mark.parametrize("handed", [0, 1])
def test_clipping_in_parts_of_which_one_is_handed_over(handed, tmp_path, caplog):
    """The norm of one part is not that of all."""

    def clip(net, iteration):
        parts = gf.clip_grad_norm_(net.encoder.parameters(), 0.1), gf.clip_grad_norm_(net.head.parameters(), 0.1)
        return parts[handed]

    judge(clip, tmp_path, caplog)


def test_clipping_a_part_and_leaving_the_rest(tmp_path, caplog):
    judge(lambda net, iteration: gf.clip_grad_norm_(net.encoder.parameters(), 0.1), tmp_path, caplog)


def test_clipping_a_tied_weight_given_twice(tmp_path, caplog):
    def clip(net, iteration):
        return gf.clip_grad_norm_([*net.parameters(), net.encoder.weight_hh_l0], 0.1)

    judge(clip, tmp_path, caplog)


def test_clipping_with_a_used_up_generator_in_a_loop(tmp_path, caplog):
    parameters = []

    def clip(net, iteration):
        parameters.append(net.parameters())
        return gf.clip_grad_norm_(parameters[0], 0.1)

    judge(clip, tmp_path, caplog, iterations=2)
