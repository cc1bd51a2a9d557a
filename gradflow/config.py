"""Every setting of one training run, as plain dataclasses.

The one place that names a setting, its default and its allowed values. Nothing here knows Hydra: the scripts in
`experiments/` turn their configuration into a :class:`Config`; a Python user writes ``Config(cell=CellConfig(...))``.
Choices are enumerations and ranges are checked when an object is made, so a wrong value fails before any work starts.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from gradflow.cells.facts import CELLS, GATE_NAMES, GATED
from gradflow.checks import require
from gradflow.tasks import problem, problem_names


class Source(StrEnum):
    """Where the sequences come from: labelled names, or one of the long-range problems of the literature."""

    generated = "generated"
    corpus = "corpus"
    csv = "csv"
    languages = "languages"
    locals().update({name: name for name in problem_names()})  # a member for each file of problems

    @property
    def of_names(self) -> bool:
        """Whether the sequences are names."""
        return self not in problem_names()


class CellName(StrEnum):
    """The recurrent cells. In `gru_before` the reset gate acts before the matrix product, in `gru` (torch) after."""

    locals().update({name: name for name in CELLS})  # a member for each row of facts


class InitName(StrEnum):
    """How the weights start; `remember` is the one that suits each cell."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    identity = "identity"
    normal = "normal"
    sparse = "sparse"
    chrono = "chrono"
    remember = "remember"


class ClipName(StrEnum):
    """How gradients are clipped: not, by global norm, by value, each parameter by its own norm, or at every time step.

    `state` clips the gradient of the states at each step of the backward pass, the others that of the parameters.
    """

    none = "none"
    norm = "norm"
    value = "value"
    parameter = "parameter"
    state = "state"


class OptimizerName(StrEnum):
    """The optimisers."""

    adam = "adam"
    sgd = "sgd"


class Dtype(StrEnum):
    """Floating-point type of the model."""

    float32 = "float32"
    float64 = "float64"


@dataclass
class DataConfig:
    """What is learned from: names and what is kept of them, or a task and its length."""

    source: Source = Source.generated
    path: str | None = None  # file (csv, corpus) or folder/zip (languages); None: packaged, or downloaded
    vocabulary_size: int = 500  # most frequent characters kept
    train_size: int = 10_000  # names; tasks are drawn afresh for every update, the digits are as many as there are
    test_size: int = 1_000
    names_per_sequence: int = 1  # above 1: roll call, the label is that of the first name
    length: int = 50  # T, time steps of a task
    symbols: int = 2  # how many are to be remembered: temporal_order (2 or 3), copy_memory
    gain: float = 2.0  # of the chaotic map h <- tanh(W h), whose entries have the variance gain²/N

    def __post_init__(self) -> None:
        self.source = Source(self.source)
        for name in ("vocabulary_size", "train_size", "test_size", "names_per_sequence"):
            require(getattr(self, name) >= 1, f"data.{name}", "at least 1", getattr(self, name))
        require(self.gain > 0, "data.gain", "a positive number", self.gain)
        if self.source.of_names:
            self._check_names()
            return
        asked = problem(self.source)
        asked.check(self)
        least = asked.shortest(self)
        require(self.length >= least, "data.length", f"at least {least} (data={self.source})", self.length)

    def _check_names(self) -> None:
        require(self.length >= 1, "data.length", "at least 1", self.length)
        if self.source in (Source.csv, Source.languages) and not self.path:
            raise ValueError(
                f"data.path: expected the file or folder of data.source={self.source}, got none; "
                f"set data.path=PATH, or use data=generated, which needs no file"
            )


@dataclass
class CellConfig:
    """The recurrent layer, in torch's words."""

    name: CellName = field(default=CellName("rnn"))
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers"):
            require(getattr(self, name) >= 1, f"cell.{name}", "at least 1", getattr(self, name))


@dataclass
class InitConfig:
    """Initialisation of the weights and of the biases of the gates; see :func:`gradflow.initialise_`."""

    name: InitName = InitName.default
    gain: float = 1.0  # standard deviation gain/sqrt(H) (gaussian); factor (orthogonal, identity); radius (sparse)
    std: float | None = None  # standard deviation of all weights (normal), or of those not recurrent (sparse); .01
    connections: int | None = None  # non-zeros in a row of W_hh (sparse); 15
    time_scale: float | None = None  # longest memory of chrono, in steps; None: the length of the task
    forget_bias: float | None = None  # LSTM only; None leaves torch's default
    update_bias: float | None = None  # GRU only; bias of z, which keeps; None leaves torch's default

    def __post_init__(self) -> None:
        require(0 < self.gain < inf, "init.gain", "a positive number", self.gain)
        for setting, users in INIT_USES.items():
            value = getattr(self, setting)
            if value != (1.0 if setting == "gain" else None) and self.name not in users:
                raise ValueError(
                    f"init.{setting}: only init={', '.join(users)} use it, got {value} with init={self.name}; "
                    f"leave it out"
                )


INIT_USES = {
    "gain": ("gaussian", "orthogonal", "identity", "sparse", "remember"),
    "std": ("normal", "sparse"),
    "connections": ("sparse",),
    "time_scale": ("chrono",),
}
"""Setting -> the starts that use it; see :data:`gradflow.remedies.initialisation.INITIALISATIONS`."""


@dataclass
class ClipConfig:
    """Gradient clipping."""

    name: ClipName = ClipName.none
    threshold: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.threshold < inf, "clip.threshold", "a positive number", self.threshold)


@dataclass
class OmegaConfig:
    """The regulariser that keeps the norm of the gradient from step to step (Pascanu et al. 2013, eq. 9)."""

    weight: float = 0.0  # 0: none; 4 in the paper
    squared: bool = False  # the ratio of squared norms, as in the authors' code, instead of eq. 9

    def __post_init__(self) -> None:
        require(self.weight >= 0, "omega.weight", "a number of at least 0", self.weight)


@dataclass
class FlossingConfig:
    """Gradient flossing: Lyapunov exponents are pulled towards 0 (Engelken 2023)."""

    iterations: int = 0  # updates of flossing alone before training; 0: none
    exponents: int = 16  # how many of the largest
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require(self.iterations >= 0, "flossing.iterations", "at least 0", self.iterations)
        require(self.exponents >= 1, "flossing.exponents", "at least 1", self.exponents)
        require(self.lr > 0, "flossing.lr", "a positive number", self.lr)


@dataclass
class TrainConfig:
    """The optimiser and how long it runs."""

    optimizer: OptimizerName = OptimizerName.adam
    lr: float = 1e-3
    batch_size: int = 100
    iterations: int = 500
    evaluate_every: int = 100  # iterations between evaluations on the test set; the last is always evaluated
    truncate: int | None = None  # time steps after which backpropagation is cut; None: not at all
    stop_when_solved: bool = False  # end at the first evaluation that meets the task's criterion

    def __post_init__(self) -> None:
        require(self.lr >= 0, "train.lr", "a number of at least 0", self.lr)
        if self.truncate is not None:
            require(self.truncate >= 1, "train.truncate", "at least 1, or null", self.truncate)
        for name in ("batch_size", "iterations", "evaluate_every"):
            require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))


@dataclass
class RecordConfig:
    """What the recorder looks at, and how often."""

    every: int = 10  # iterations between recordings of the state gradients
    examples: int = 32  # examples of the batch that are recorded
    spectrum_every: int = 100  # iterations between singular values and eigenvalues of W_hh

    def __post_init__(self) -> None:
        for name in ("every", "examples", "spectrum_every"):
            require(getattr(self, name) >= 1, f"record.{name}", "at least 1", getattr(self, name))


@dataclass
class Config:
    """One run: `seed` decides every random number in it."""

    data: DataConfig = field(default_factory=DataConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    init: InitConfig = field(default_factory=InitConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    omega: OmegaConfig = field(default_factory=OmegaConfig)
    flossing: FlossingConfig = field(default_factory=FlossingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    name: str = "train"
    seed: int = 0
    threads: int = 1  # of torch; small recurrent networks gain little from more, and parallel runs lose
    device: str = "cpu"
    dtype: Dtype = Dtype.float32

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", "a number from 0 to 2**63 - 1", self.seed)
        require(self.threads >= 1, "threads", "at least 1", self.threads)
        cell, init = self.cell.name, self.init
        gates = CELLS[cell].gates
        gated = bool(gates)
        for gate, bias in (("f", init.forget_bias), ("z", init.update_bias)):
            if bias is not None and gate not in gates:
                name, fact = f"init.{GATE_NAMES[gate]}_bias", _who_has(gate)
                raise _wrong_cell(name, fact, cell, "drop it or use init=remember")
        if init.name == InitName.chrono and not gated:
            raise _wrong_cell("init", "gated cells have a chrono start", cell, f"use cell={', '.join(GATED)}")
        if self.omega.weight and gated:
            raise _wrong_cell("omega.weight", "cells without gates have this regulariser", cell, "use cell=rnn")
        if self.omega.weight and self.clip.name == ClipName.state:
            raise ValueError(
                "omega.weight: expected 0 with clip=state, which makes the gradients of the weights anew, got "
                f"{self.omega.weight}; use clip=norm"
            )
        if init.connections is not None:
            limits = f"1 to cell.hidden_size={self.cell.hidden_size}"
            require(1 <= init.connections <= self.cell.hidden_size, "init.connections", limits, init.connections)
        states = self.cell.hidden_size * len(CELLS[cell].states)
        if self.flossing.iterations and self.flossing.exponents > states:
            raise ValueError(
                f"flossing.exponents: expected at most {states}, the size of the state, got {self.flossing.exponents}; "
                f"lower it, or raise cell.hidden_size"
            )
        self._check_time()

    def _check_time(self) -> None:
        """What a setting demands of the length of the sequences."""
        names = self.data.source.of_names
        if self.init.name == InitName.chrono and self.init.time_scale is None:
            if names:
                raise ValueError(
                    f"init.time_scale: expected a number of steps, as data={self.data.source} has none of its own, "
                    f"got none; set init.time_scale=STEPS"
                )
            self.init.time_scale = float(max(self.data.length, 2))
        if self.train.truncate is None:
            return
        if names:
            raise ValueError(
                f"train.truncate: expected a task whose sequences are equally long, got data={self.data.source}; "
                f"use one such as data=adding, or drop it"
            )
        if self.cell.bidirectional:
            raise ValueError(
                "train.truncate: expected cell.bidirectional=false, as the reverse direction starts at the end, got "
                "true; drop one of the two"
            )


def _who_has(gate: str) -> str:
    cells = [f"cell={name}" for name, facts in CELLS.items() if gate in facts.gates]
    return (
        f"{' and '.join(cells)} {'has a' if len(cells) == 1 else 'have a'}{'n' * (gate == 'z')} {GATE_NAMES[gate]} gate"
    )


def _wrong_cell(argument: str, fact: str, cell: CellName, advice: str) -> ValueError:
    return ValueError(f"{argument}: only {fact}, got cell={cell}; {advice}")
