"""Scripts that cut a sequence, its gradients or its memory into parts."""

import pytest
import torch
from silent_scripts import Net, every_case, initial, plain_loss, script_of
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradflow as gf

case = every_case

# --- Chunks of a sequence -------------------------------------------------------------------------------------------


def detached(hx):
    return tuple(h.detach() for h in hx) if isinstance(hx, tuple) else hx.detach()


def chunks(net, x, cut=detached):
    """The loss of each third of a sequence, the state carried and cut off between."""
    hx = initial(net, x)
    for part in x.split(2):
        y, hx = net.encoder(part, hx)
        hx = cut(hx)
        yield net.head(y).square().sum()


def test_truncated_backpropagation(case):
    def script(net, x):
        for loss in chunks(net, x):
            net.zero_grad()
            loss.backward()
            yield

    case.prove(script, chunks)


@pytest.mark.parametrize("cut", [detached, lambda hx: hx])
def test_chunks_with_one_backward_pass(case, cut):
    """Each chunk is a call if it is cut off, else one sequence; W_hh's gradient is the sum."""

    def loss(net, x):
        return sum(chunks(net, x, cut))

    case.prove(*script_of(loss), joined=cut is not detached)


def test_chunks_whose_backward_passes_reach_into_those_before(case):
    """A sliding window: the second loss goes back through both chunks."""

    def losses(net, x):
        first, second, _ = chunks(net, x, lambda hx: hx)
        yield first
        yield second

    def script(net, x):
        for loss in losses(net, x):
            net.zero_grad()
            loss.backward(retain_graph=True)
            yield

    case.judge(script, losses, joined=True)


def test_a_part_of_the_sequence_without_gradients(case):
    def loss(net, x):
        with torch.no_grad():
            _, hx = net.encoder(x[:3])
        return net(x[3:], hx).square().sum()

    case.prove(*script_of(loss))


def test_a_part_in_the_middle_without_gradients(case):
    def loss(net, x):
        y, hx = net.encoder(x[:2])
        with torch.no_grad():
            _, hx = net.encoder(x[2:4], hx)
        return net.head(y).square().sum() + net(x[4:], hx).square().sum()

    case.prove(*script_of(loss))


def test_a_learned_initial_state(case):
    """The gradient passes on through h_0."""

    class Learned(Net):
        def __init__(self, kind):
            super().__init__(kind)
            self.h_0 = nn.Parameter(torch.full((1, 1, 4), 0.3))

        def forward(self, x):
            h = self.h_0.expand(1, x.shape[1], -1).contiguous()
            return super().forward(x, (h, h) if isinstance(self.encoder, nn.LSTM) else h)

    case.prove(build=Learned)


# --- Checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["layer", "model"])
def test_a_checkpoint(case, what):
    """The forward pass runs a second time, inside backward."""

    def script(net, x):
        if what == "layer":
            answer = net.head(checkpoint(net.encoder, x, use_reentrant=False)[0])
        else:
            answer = checkpoint(net, x, use_reentrant=False)
        answer.square().sum().backward()
        yield

    case.judge(script, plain_loss)


def test_a_checkpoint_of_every_chunk(case):
    def script(net, x):
        hx, losses = initial(net, x), []
        for part in x.split(2):
            y, hx = checkpoint(net.encoder, part, hx, use_reentrant=False)
            losses.append(net.head(y).square().sum())
        sum(losses).backward()
        yield

    def losses(net, x):
        yield sum(chunks(net, x, lambda hx: hx))

    case.judge(script, losses, joined=True)


@pytest.mark.parametrize("since", [0, 1])
def test_chunks_that_begin_where_nothing_is_recorded(tmp_path, since):
    """There nobody has looked for hooks between them: what passes is unknown at the first such iteration."""
    torch.manual_seed(0)
    encoder, head, x = nn.GRU(3, 4), nn.Linear(4, 1), torch.randn(6, 2, 3)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.1)
    with gf.record(nn.ModuleDict({"encoder": encoder, "head": head}), tmp_path, every=10) as recorder:
        for iteration in range(2):
            optimizer.zero_grad()
            hx = None
            for part in x.split(3 if iteration >= since else 6):
                y, hx = encoder(part, hx)
            head(y[-1]).square().sum().backward()
            recorder.step()
            optimizer.step()
    frame = gf.open_run(tmp_path).frame("time", ["log_direct_gradient_non_finite"]).reset_index().set_index("iteration")
    unknown = frame.loc[[1], "log_direct_gradient_non_finite"]
    assert unknown.tolist() == ([0, 0, 2, 0, 0, 0] if since else [0] * 6)
