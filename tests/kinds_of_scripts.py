"""Training scripts of many kinds, as their users write them.

Each is given `record`, which is called as :func:`gradflow.record` without the path, in the one line that is added; and
`note`, told before each update of what the own loop of the test needs: models, the batch, and of those that clip the
norm before. Either may do nothing.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy, ctc_loss, dropout, mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf

TOKENS, MAX_NORM = 7, 0.02


@dataclass(frozen=True)
class Sizes:
    """Steps, examples, units, and updates of a training."""

    T: int = 6
    B: int = 3
    H: int = 4
    updates: int = 3


# --- A language model: the state is carried over, detached ------------------------------------------------------------


class LanguageModel(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(TOKENS, hidden), nn.LSTM(hidden, hidden, num_layers=2)
        self.decoder = nn.Linear(hidden, TOKENS)

    def forward(self, x, state):
        output, state = self.rnn(self.embed(x), state)
        return self.decoder(output), state


def language_model(record, note, size):
    model = LanguageModel(size.H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    record(model, optimizer=optimizer)
    text = torch.randint(TOKENS, (size.updates * size.T + 1, size.B))
    state = torch.zeros(2, size.B, size.H), torch.zeros(2, size.B, size.H)
    for start in range(0, len(text) - 1, size.T):
        x, y = text[start : start + size.T], text[start + 1 : start + size.T + 1]
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad()
        logits, after = model(x, state)
        cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, x, y, state, norm=norm)
        optimizer.step()
        state = after
    return model


# --- Time series: cells in a loop, LBFGS -----------------------------------------------------------------------------


class Waves(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.lstm1, self.lstm2 = nn.LSTMCell(1, hidden), nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, x):
        outputs = []
        h, c = torch.zeros(len(x), self.lstm1.hidden_size), torch.zeros(len(x), self.lstm1.hidden_size)
        h2, c2 = torch.zeros_like(h), torch.zeros_like(h)
        for x_t in x.split(1, dim=1):
            h, c = self.lstm1(x_t, (h, c))
            h2, c2 = self.lstm2(h, (h2, c2))
            outputs.append(self.linear(h2))
        return torch.cat(outputs, dim=1)


def time_series(record, note, size):
    model = Waves(size.H)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8, max_iter=4)
    record(model, optimizer=optimizer)
    wave = torch.sin(torch.arange(size.T + 1.0) / 2 + torch.rand(size.B, 1) * 6)
    x, y = wave[:, :-1], wave[:, 1:]
    for _ in range(size.updates):

        def closure():
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            return loss

        note(model, x, y)
        optimizer.step(closure)
    return model


# --- A character model, called once a step ----------------------------------------------------------------------------


class CharacterModel(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.encoder, self.gru = nn.Embedding(TOKENS, hidden), nn.GRU(hidden, hidden, num_layers=2)
        self.decoder = nn.Linear(hidden, TOKENS)

    def forward(self, characters, hidden):
        output, hidden = self.gru(self.encoder(characters).unsqueeze(0), hidden)
        return self.decoder(output.squeeze(0)), hidden


def character_model(record, note, size):
    model = CharacterModel(size.H)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer)
    for _ in range(size.updates):
        chunk = torch.randint(TOKENS, (size.T + 1, size.B))
        hidden, loss = torch.zeros(2, size.B, size.H), 0.0
        optimizer.zero_grad()
        for t in range(size.T):
            logits, hidden = model(chunk[t], hidden)
            loss = loss + cross_entropy(logits, chunk[t + 1])
        loss.backward()
        note(model, chunk)
        optimizer.step()
    return model


# --- A recurrent policy: episodes end within a batch ------------------------------------------------------------------


class Policy(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.base, self.gru = nn.Linear(2, hidden), nn.GRUCell(hidden, hidden)
        self.actor, self.critic = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, observation, h, mask):
        h = self.gru(torch.tanh(self.base(observation)), h * mask)
        return self.actor(h), self.critic(h).squeeze(1), h


def policy(record, note, size):
    model = Policy(size.H)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer)
    h, mask = torch.zeros(size.B, size.H), torch.zeros(size.B, 1)
    for _ in range(size.updates):
        seen, losses, start = [], [], h
        for _ in range(size.T):
            observation = torch.randn(size.B, 2)
            logits, value, h = model(observation, h, mask)
            actions = torch.distributions.Categorical(logits=logits)
            action = actions.sample()
            reward = observation.gather(1, action.clamp(max=1).unsqueeze(1)).squeeze(1)
            advantage = reward - value
            losses.append(advantage.square() - advantage.detach() * actions.log_prob(action))
            seen.append((observation, mask, action, reward))
            mask = (torch.rand(size.B, 1) > 0.2).to(mask.dtype)
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, seen, start, norm=norm)
        optimizer.step()
        h = h.detach()
    return model


class PolicyInChunks(nn.Module):
    """Runs from one end of an episode to the next at once."""

    def __init__(self, hidden):
        super().__init__()
        self.base, self.gru = nn.Linear(2, hidden), nn.GRU(hidden, hidden)
        self.actor, self.critic = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, observations, h, masks):
        x, outputs = torch.tanh(self.base(observations)), []
        ends = (masks[1:] == 0).flatten(1).any(1).nonzero().flatten().add(1).tolist()
        for start, end in zip([0, *ends], [*ends, len(x)], strict=True):
            output, h = self.gru(x[start:end], h * masks[start])
            outputs.append(output)
        features = torch.cat(outputs)
        return self.actor(features), self.critic(features).squeeze(2), h


def policy_in_chunks(record, note, size):
    model = PolicyInChunks(size.H)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer)
    h = torch.zeros(1, size.B, size.H)
    for _ in range(size.updates):
        observations, actions = torch.randn(size.T, size.B, 2), torch.randint(3, (size.T, size.B))
        rewards, masks = torch.randn(size.T, size.B), (torch.rand(size.T, size.B, 1) > 0.2).to(h.dtype)
        logits, values, after = model(observations, h, masks)
        advantage = rewards - values
        chosen = logits.log_softmax(-1).gather(2, actions.unsqueeze(2)).squeeze(2)
        optimizer.zero_grad()
        (advantage.square() - advantage.detach() * chosen).mean().backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, list(zip(observations, masks, actions, rewards, strict=True)), h[0], norm=norm)
        optimizer.step()
        h = after.detach()
    return model


# --- Encoder and decoder: attention, teacher forcing by chance, an optimiser each -------------------------------------


class Encoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(TOKENS, hidden), nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, x):
        return self.gru(self.embedding(x))


class Decoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding, self.query = nn.Embedding(TOKENS, hidden), nn.Linear(hidden, hidden)
        self.gru, self.out = nn.GRU(2 * hidden, hidden, batch_first=True), nn.Linear(hidden, TOKENS)

    def forward(self, memory, hidden, target, forced):
        word, outputs = torch.zeros_like(target[:, :1]), []
        for t in range(target.shape[1]):
            scores = self.query(hidden[-1]).unsqueeze(1) @ memory.transpose(1, 2)
            context = torch.softmax(scores, -1) @ memory
            output, hidden = self.gru(torch.cat((self.embedding(word), context), 2), hidden)
            logits = self.out(output)
            outputs.append(logits)
            word = target[:, t : t + 1] if forced else logits.argmax(-1).detach()
        return torch.cat(outputs, 1)


def encoder_decoder(record, note, size):
    encoder, decoder = Encoder(size.H), Decoder(size.H)
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.01) for part in (encoder, decoder)]
    record({"encoder": encoder, "decoder": decoder}, optimizer=optimizers)
    for _ in range(size.updates):
        x, y = torch.randint(TOKENS, (size.B, size.T + 2)), torch.randint(TOKENS, (size.B, size.T))
        forced = bool(torch.rand(()) < 0.5)
        for optimizer in optimizers:
            optimizer.zero_grad()
        memory, hidden = encoder(x)
        logits = decoder(memory, hidden, y, forced)
        cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        note({"encoder": encoder, "decoder": decoder}, x, y, logits.argmax(-1), forced)
        for optimizer in optimizers:
            optimizer.step()
    return nn.ModuleList((encoder, decoder))


# --- A forecaster of ragged series, which packs inside of its layer ---------------------------------------------------


class PackingLSTM(nn.LSTM):
    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, state = super().forward(packed)
        return pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0], state


class Forecaster(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.lstm, self.head = PackingLSTM(1, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x, lengths):
        return self.head(self.lstm(x, lengths)[0])


def forecaster(record, note, size):
    model = Forecaster(size.H)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer)
    for _ in range(size.updates):
        series = torch.randn(size.B, size.T + 1, 1)
        lengths = torch.randint(2, size.T + 1, (size.B,)).index_fill(0, torch.tensor([1]), size.T)
        counts = (torch.arange(size.T) < lengths.unsqueeze(1)).unsqueeze(2)
        optimizer.zero_grad()
        (mse_loss(model(series[:, :-1], lengths), series[:, 1:], reduction="none") * counts).sum().backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, series, lengths, norm=norm)
        optimizer.step()
    return model


# --- Speech: CTC on a stack of two directions -------------------------------------------------------------------------


class Acoustic(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, num_layers=2, bidirectional=True)
        self.out = nn.Linear(2 * hidden, TOKENS)

    def forward(self, x):
        return self.out(self.lstm(x)[0]).log_softmax(-1)


def speech(record, note, size):
    model = Acoustic(size.H)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer)
    for _ in range(size.updates):
        x, y = torch.randn(size.T, size.B, 3), torch.randint(1, TOKENS, (size.B, 2))
        frames, labels = torch.full((size.B,), size.T), torch.full((size.B,), 2)
        optimizer.zero_grad()
        ctc_loss(model(x), y, frames, labels).backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, x, y, norm=norm)
        optimizer.step()
    return model


# --- WeightDrop: the recurrent weight is dropped out anew in every pass -----------------------------------------------


class WeightDrop(nn.Module):
    def __init__(self, module, p):
        super().__init__()
        self.module, self.p = module, p
        raw = module.weight_hh_l0
        del module.weight_hh_l0
        self.weight_hh_l0_raw = nn.Parameter(raw.data)
        module.weight_hh_l0 = raw.detach().clone()

    def forward(self, x):
        self.module.weight_hh_l0 = dropout(self.weight_hh_l0_raw, self.p, self.training)
        return self.module(x)


class Dropped(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn, self.head = WeightDrop(nn.LSTM(3, hidden), 0.5), nn.Linear(hidden, TOKENS)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def weight_drop(record, note, size):
    model = Dropped(size.H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    record(model, optimizer=optimizer)
    for _ in range(size.updates):
        x, y = torch.randn(size.T, size.B, 3), torch.randint(TOKENS, (size.T, size.B))
        optimizer.zero_grad()
        cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, x, y, model.rnn.module.weight_hh_l0.detach(), norm=norm)
        optimizer.step()
    return model


# --- A step by hand, i2h and h2h: names of several lengths, one at a time ---------------------------------------------


class NameModel(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden
        self.i2h, self.h2h, self.h2o = nn.Linear(TOKENS, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 3)

    def step(self, x_t, h):
        return torch.tanh(self.i2h(x_t) + self.h2h(h))

    def forward(self, name):
        h = torch.zeros(1, self.hidden)
        for x_t in name:
            before, h = h, self.step(x_t, h)
            h = gf.mark("h", h, step=lambda h, x_t=x_t: self.step(x_t, h), previous=before)
        return self.h2o(h)


def names(record, note, size):
    model = NameModel(size.H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    record(model, optimizer=optimizer, states=["h"])
    for update in range(size.updates):
        name = nn.functional.one_hot(torch.randint(TOKENS, (size.T - update % 3, 1)), TOKENS).to(model.i2h.weight.dtype)
        language = torch.randint(3, (1,))
        optimizer.zero_grad()
        cross_entropy(model(name), language).backward()
        note(model, name, language)
        optimizer.step()
    return model


# --- Coupled oscillators: a cell of two states, in gf.Recurrent and by hand -------------------------------------------


class Oscillators(gf.Cell):
    state_names = ("y", "z")

    def __init__(self, hidden):
        super().__init__()
        self.hidden_size, self.inner = hidden, nn.Linear(1 + 2 * hidden, hidden)

    def step(self, x_t, state):
        y, z = state["y"], state["z"]
        z = z + 0.5 * (torch.tanh(self.inner(torch.cat((x_t, y, z), 1))) - y - 0.3 * z)
        return {"y": y + 0.5 * z, "z": z}


class OscillatorModel(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.recurrent, self.head = gf.Recurrent(Oscillators(hidden)), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][-1])


class OscillatorLoop(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden, self.inner = hidden, nn.Linear(1 + 2 * hidden, hidden)
        self.head = nn.Linear(hidden, 1)

    def step(self, x_t, y, z):
        z = z + 0.5 * (torch.tanh(self.inner(torch.cat((x_t, y, z), 1))) - y - 0.3 * z)
        return y + 0.5 * z, z

    def forward(self, x):
        y = z = torch.zeros(x.shape[1], self.hidden)
        for x_t in x:
            before = y, z
            y, z = self.step(x_t, y, z)
            y, z = gf.mark("yz", y, z, step=lambda y, z, x_t=x_t: self.step(x_t, y, z), previous=before)
        return self.head(y)


def _oscillators(model, record, note, size, **options):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    record(model, optimizer=optimizer, **options)
    for _ in range(size.updates):
        x = torch.rand(size.T, size.B, 1)
        optimizer.zero_grad()
        mse_loss(model(x), x[0]).backward()
        note(model, x)
        optimizer.step()
    return model


def oscillators(record, note, size):
    return _oscillators(OscillatorModel(size.H), record, note, size)


def oscillators_by_hand(record, note, size):
    return _oscillators(OscillatorLoop(size.H), record, note, size, states=["yz"])


# --- minGRU: gates of the whole sequence at once, then step by step ---------------------------------------------------


class MinGRU(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed, self.gates = nn.Embedding(TOKENS, hidden), nn.Linear(hidden, 2 * hidden)
        self.head = nn.Linear(hidden, TOKENS)

    def forward(self, x):
        z, candidate = self.gates(self.embed(x)).chunk(2, -1)
        z, h, outputs = torch.sigmoid(z), torch.zeros_like(candidate[0]), []
        for z_t, n_t in zip(z, candidate, strict=True):
            before, h = h, torch.lerp(h, n_t, z_t)
            h = gf.mark("h", h, step=lambda h, z_t=z_t, n_t=n_t: torch.lerp(h, n_t, z_t), previous=before)
            outputs.append(h)
        return self.head(torch.stack(outputs))


def min_gru(record, note, size):
    model = MinGRU(size.H)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    record(model, optimizer=optimizer, states=["h"])
    for _ in range(size.updates):
        text = torch.randint(TOKENS, (size.T + 1, size.B))
        optimizer.zero_grad()
        cross_entropy(model(text[:-1]).flatten(0, 1), text[1:].flatten()).backward()
        norm = clip_grad_norm_(model.parameters(), MAX_NORM)
        note(model, text, norm=norm)
        optimizer.step()
    return model


KINDS = (
    language_model, time_series, character_model, policy, policy_in_chunks, encoder_decoder, forecaster, speech,
    weight_drop, names, oscillators, oscillators_by_hand, min_gru,
)  # fmt: skip
