"""The kinds of scripts once more, an example and a step at a time: what the log must say, by autograd, in float64.

To every state that leaves a step zeros are added, once where it goes on and once where it is read: their gradients are
the total one of each state and the direct one, and nothing has to be told apart.
"""

from dataclasses import dataclass
from functools import cached_property

import oracles
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, ctc_loss, log_softmax, mse_loss


class Loop:
    """The steps of one example in one layer and direction.

    Args:
        step: of an input and the states, by name, gives the states.
        **start: the initial states, by name; the first one is shown.
    """

    def __init__(self, step, **start):
        self.step, self.state, self.names = step, start, list(start)
        self.inputs, self.entered, self.added, self.read, self.shown = [], [], [], [], []

    def __call__(self, x: Tensor) -> Tensor:
        """One step; what it shows."""
        self.inputs.append(x.detach())
        self.entered.append({name: part.detach() for name, part in self.state.items()})
        left = dict(zip(self.names, self.step(x, *self.state.values()), strict=True))
        self.added.append({name: torch.zeros_like(part, requires_grad=True) for name, part in left.items()})
        self.state = {name: part + self.added[-1][name] for name, part in left.items()}
        self.read.append(torch.zeros_like(left[self.names[0]], requires_grad=True))
        self.shown.append(self.state[self.names[0]] + self.read[-1])
        return self.shown[-1]

    def gradients(self, name: str) -> Tensor:
        """[T, H], of the loss by one state as it left each step."""
        return torch.stack([grad_of(added[name]) for added in self.added])

    def direct(self) -> Tensor:
        """[T, H], of the loss by the state that is shown, where it is read."""
        return torch.stack([grad_of(read) for read in self.read])

    @cached_property
    def jacobians(self) -> Tensor:
        """[T, S, S], of each step alone, by autograd."""
        found = []
        for x, entered in zip(self.inputs, self.entered, strict=True):
            size = len(entered[self.names[0]])
            of = lambda flat, x=x, size=size: torch.cat(self.step(x, *flat.split(size)))  # noqa: E731
            found.append(torch.autograd.functional.jacobian(of, torch.cat(list(entered.values())), vectorize=True))
        return torch.stack(found)


def grad_of(leaf: Tensor) -> Tensor:
    """Its gradient, zeros if there is none."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


@dataclass
class Expected:
    """One call of a module in one layer and direction: a loop for each example.

    Attributes:
        tops: the layers whose outputs the loss reads, where what is read at s comes through them; else the loops alone
            are gone back through, by their Jacobians.
    """

    module: str
    loops: list[Loop]
    layer: int = 0
    direction: int = 0
    call: int = 0
    tops: list[list[Loop]] | None = None

    def anchored(self, b: int, s: int) -> Tensor:
        """[T, S], of the loss at step s alone, by the states of each step."""
        loop = self.loops[b]
        if self.tops is None:
            return self._through_steps(loop, s)
        reads = [top[b].shown[len(loop.shown) - 1 - s if d else s] for d, top in enumerate(self.tops)]
        arriving = [top[b].read[len(loop.shown) - 1 - s if d else s].grad for d, top in enumerate(self.tops)]
        added = [part for each in loop.added for part in each.values()]
        found = torch.autograd.grad(reads, added, arriving, retain_graph=True, materialize_grads=True)
        return torch.stack(found).reshape(len(loop.added), -1)

    @staticmethod
    def _through_steps(loop: Loop, s: int) -> Tensor:
        delta = torch.cat([grad_of(loop.read[s]), *(torch.zeros_like(loop.read[s]) for _ in loop.names[1:])])
        found = [torch.zeros_like(delta)] * len(loop.read)
        found[s], jacobians = delta, loop.jacobians
        for t in range(s, 0, -1):
            began = all(not bool(part.any()) for part in loop.entered[t].values())
            delta = torch.zeros_like(delta) if began else jacobians[t].T @ delta
            found[t - 1] = delta
        return torch.stack(found)


def layer_loops(layer, inputs, module, starts=None):
    """All layers and directions of a layer of torch over the inputs of each example, [T_b, D]; outputs, Expected."""
    lstm, sides, found = oracles.is_lstm(layer), 2 if layer.bidirectional else 1, []
    for index in range(layer.num_layers):
        columns = []
        for d in range(sides):
            step = lambda x, *states, i=index, d=d: oracles.step(layer, i, d, x, *states)[: 2 if lstm else 1]  # noqa: E731
            loops, shown = [], []
            for b, values in enumerate(inputs):
                zeros = torch.zeros(layer.hidden_size)
                given = [zeros] * (2 if lstm else 1) if starts is None else [part[index, b] for part in starts]
                loop = Loop(step, **dict(zip(("h", "c"), given, strict=False)))
                shown.append([loop(x) for x in (reversed(values) if d else values)][:: -1 if d else 1])
                loops.append(loop)
            found.append(Expected(module, loops, index, d))
            columns.append(shown)
        inputs = [[torch.cat(parts) for parts in zip(*of_b, strict=True)] for of_b in zip(*columns, strict=True)]
    if len(found) > 1:
        for each in found:
            each.tops = [top.loops for top in found[-sides:]]
    return inputs, found


def cell_step(cell, count=1):
    """One step of a cell of torch, in the words of its documentation."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    layer = type("Cell", (torch.nn.LSTM if count == 2 else torch.nn.GRU,), {})(1, 1)
    for name in names:
        layer._parameters[f"{name}_l0"] = getattr(cell, name if hasattr(cell, name) else f"{name}_l0")
    return lambda x, *states: oracles.step(layer, 0, 0, x, *states)[:count]


def columns(x):
    """[T, B, ...] as a list over examples of lists over time."""
    return [list(x[:, b]) for b in range(x.shape[1])]


def language_model(model, x, y, state):
    outputs, found = layer_loops(model.rnn, columns(model.embed(x)), "rnn", state)
    logits = model.decoder(torch.stack([torch.stack(of_b) for of_b in outputs], 1))
    cross_entropy(logits.flatten(0, 1), y.flatten()).backward(retain_graph=True)
    return found


def time_series(model, x, y):
    first, second, outputs = [], [], []
    size = model.lstm1.hidden_size
    for values in x:
        loops = [
            Loop(cell_step(cell, 2), h=torch.zeros(size), c=torch.zeros(size)) for cell in (model.lstm1, model.lstm2)
        ]
        outputs.append(torch.cat([model.linear(loops[1](loops[0](value.view(1)))) for value in values]))
        first.append(loops[0])
        second.append(loops[1])
    mse_loss(torch.stack(outputs), y).backward(retain_graph=True)
    return [Expected("lstm1", first), Expected("lstm2", second)]


def character_model(model, chunk):
    outputs, found = layer_loops(model.gru, columns(model.encoder(chunk[:-1])), "gru")
    logits = model.decoder(torch.stack([torch.stack(of_b) for of_b in outputs], 1))
    (len(logits) * cross_entropy(logits.flatten(0, 1), chunk[1:].flatten())).backward(retain_graph=True)
    return found


def policy(model, seen, start):
    loops, losses = [Loop(cell_step(model.gru), h=h) for h in start.detach()], []
    for observation, mask, action, reward in seen:
        for b, loop in enumerate(loops):
            loop.state = {"h": loop.state["h"] * mask[b]}
            h = loop(torch.tanh(model.base(observation[b])))
            advantage = reward[b] - model.critic(h).squeeze()
            losses.append(advantage.square() - advantage.detach() * log_softmax(model.actor(h), -1)[action[b]])
    torch.stack(losses).mean().backward(retain_graph=True)
    return [Expected("gru", loops)]


policy_in_chunks = policy


def encoder_decoder(models, x, y, said, forced):
    encoder, decoder = models["encoder"], models["decoder"]
    memory, found = layer_loops(encoder.gru, columns(encoder.embedding(x).transpose(0, 1)), "encoder.gru")
    loops, logits = [], []
    for b, values in enumerate(memory):
        step = lambda x_t, h: oracles.step(decoder.gru, 0, 0, x_t, h)[:1]  # noqa: E731
        loop, word = Loop(step, h=values[-1]), torch.tensor(0)
        keys, h = torch.stack(values), values[-1]
        for t in range(y.shape[1]):
            weights = torch.softmax(keys @ decoder.query(h), 0)
            h = loop(torch.cat((decoder.embedding(word), weights @ keys)))
            logits.append(decoder.out(h))
            word = (y if forced else said)[b, t]
        loops.append(loop)
    cross_entropy(torch.stack(logits), y.flatten()).backward(retain_graph=True)
    return [*found, Expected("decoder.gru", loops)]


def forecaster(model, series, lengths):
    values = [list(series[b, :length]) for b, length in enumerate(lengths.tolist())]
    outputs, found = layer_loops(model.lstm, values, "lstm")
    errors = [
        (model.head(torch.stack(of_b)) - series[b, 1 : len(of_b) + 1]).square().sum() for b, of_b in enumerate(outputs)
    ]
    sum(errors).backward(retain_graph=True)
    return found


def speech(model, x, y):
    outputs, found = layer_loops(model.lstm, columns(x), "lstm")
    logits = model.out(torch.stack([torch.stack(of_b) for of_b in outputs], 1)).log_softmax(-1)
    ctc_loss(logits, y, torch.full((len(y),), len(x)), torch.full((len(y),), y.shape[1])).backward(retain_graph=True)
    return found


def weight_drop(model, x, y, dropped):
    model.rnn.module.weight_hh_l0 = dropped
    outputs, found = layer_loops(model.rnn.module, columns(x), "rnn.module")
    logits = model.head(torch.stack([torch.stack(of_b) for of_b in outputs], 1))
    cross_entropy(logits.flatten(0, 1), y.flatten()).backward(retain_graph=True)
    return found


def names(model, name, language):
    loop = Loop(lambda x, h: (torch.tanh(model.i2h(x) + model.h2h(h)),), h=torch.zeros(model.hidden))
    shown = [loop(x_t) for x_t in name[:, 0]]
    cross_entropy(model.h2o(shown[-1]).unsqueeze(0), language).backward(retain_graph=True)
    return [Expected("h", [loop])]


def oscillators(model, x, *, module="recurrent", inner=None):
    inner = model.recurrent.cell.inner if inner is None else inner

    def step(x_t, y, z):
        z = z + 0.5 * (torch.tanh(inner(torch.cat((x_t, y, z)))) - y - 0.3 * z)
        return y + 0.5 * z, z

    zero = torch.zeros(inner.out_features)
    loops = [Loop(step, y=zero, z=zero) for _ in range(x.shape[1])]
    read = torch.stack([[loop(x_t) for x_t in x[:, b]][-1] for b, loop in enumerate(loops)])
    mse_loss(model.head(read), x[0]).backward(retain_graph=True)
    return [Expected(module, loops)]


def oscillators_by_hand(model, x):
    return oscillators(model, x, module="yz", inner=model.inner)


def min_gru(model, text):
    loops, logits = [], []
    for characters in text[:-1].T:
        loop = Loop(lambda gates, h: ((1 - gates[0]) * h + gates[0] * gates[1],), h=torch.zeros(model.head.in_features))
        for character in characters:
            z, candidate = model.gates(model.embed(character)).chunk(2)
            logits.append(model.head(loop(torch.stack((torch.sigmoid(z), candidate)))))
        loops.append(loop)
    cross_entropy(torch.stack(logits), text[1:].T.flatten()).backward(retain_graph=True)
    return [Expected("h", loops)]
