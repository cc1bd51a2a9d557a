"""Every setting of one training run, as plain dataclasses.

The one place that names a setting, its default and its allowed values. Nothing here knows Hydra:
the commands turn Hydra's configuration into a :class:`Config`; a Python user writes ``Config(cell=CellConfig(...))``.
Choices are enumerations; types and ranges are checked when an object is made, so a wrong value fails before any work
starts. A range stands beside its default: `least` and `most`, or `above` a number that itself is not allowed.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args

from gradflow.cells.facts import CELLS, GATE_NAMES, GATED
from gradflow.checks import check_name, real_number, require, whole_number
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


MANY = 10**9  # more than that of anything is a slip of the keyboard, and would fill the memory


def _count(default: int | None, most: int = MANY) -> Any:
    """A whole number from 1."""
    return field(default=default, metadata={"least": 1, "most": most})


def _positive(default: float | None) -> Any:
    return field(default=default, metadata={"above": 0})


def _not_negative(default: float) -> Any:
    return field(default=default, metadata={"least": 0})


def check_value(argument: str, setting: Field, value: Any) -> Any:
    """A value of the type and in the range of a setting.

    Args:
        argument: what the setting is called, for errors.
        setting: the field of its dataclass.
        value: what was given.

    Raises:
        ValueError: With what was expected and what came.
    """
    kind: Any = (get_args(setting.type) or (setting.type,))[0]
    if value is None and NoneType in get_args(setting.type):
        return None
    if kind in (int, float):
        return (whole_number if kind is int else real_number)(argument, value, **setting.metadata)
    if issubclass(kind, StrEnum):
        check_name(argument, value, list(kind))
        return kind(value)
    expected = {str: "text that is not empty", bool: "true or false"}.get(kind, f"a {kind.__name__}")
    require(isinstance(value, kind) and value != "", argument, expected, value)
    return value


def _check(settings: Any, group: str = "") -> None:
    """Brings every setting of a dataclass into its type; raises a ValueError for the first that is wrong."""
    for setting in fields(settings):
        argument = f"{group}.{setting.name}" if group else setting.name
        setattr(settings, setting.name, check_value(argument, setting, getattr(settings, setting.name)))


@dataclass
class DataConfig:
    """What is learned from: names and what is kept of them, or a task and its length."""

    source: Source = Source.generated
    path: str | None = None  # file (csv, corpus) or folder/zip (languages); None: packaged, or downloaded
    vocabulary_size: int = _count(500)  # most frequent characters kept
    train_size: int = _count(10_000, 10**7)  # names; tasks are drawn afresh for every update, the digits are 1,797
    test_size: int = _count(1_000, 10**7)
    names_per_sequence: int = _count(1, 10**4)  # above 1: roll call, the label is that of the first name
    length: int = _count(50, 10**7)  # T, time steps of a task
    symbols: int = _count(2)  # how many are to be remembered: temporal_order (2 or 3), copy_memory
    gain: float = _positive(2.0)  # of the chaotic map h <- tanh(W h), whose entries have the variance gain²/N

    def __post_init__(self) -> None:
        _check(self, "data")
        if self.source.of_names:
            self._check_names()
            return
        _check_memory(
            "data.test_size", self.test_size * self.length, f"{self.test_size} sequences of data.length={self.length}"
        )
        asked = problem(self.source)
        asked.check(self)
        least = asked.shortest(self)
        require(self.length >= least, "data.length", f"at least {least} (data={self.source})", self.length)

    def _check_names(self) -> None:
        names, size = self.train_size + self.test_size, self.names_per_sequence
        _check_memory("data.names_per_sequence", names * size, f"{size} in {names} sequences")
        if self.source in (Source.csv, Source.languages) and not self.path:
            raise ValueError(
                f"data.path: expected the file or folder of data.source={self.source}, got none; "
                f"set data.path=PATH, or use data=generated, which needs no file"
            )


@dataclass
class CellConfig:
    """The recurrent layer, in torch's words."""

    name: CellName = field(default=CellName("rnn"))
    hidden_size: int = _count(64, 10**5)
    num_layers: int = _count(1, 1_000)
    bidirectional: bool = False

    def __post_init__(self) -> None:
        _check(self, "cell")
        weights = self.num_layers * self.hidden_size**2
        _check_memory("cell.hidden_size", weights, f"{self.hidden_size}² weights in {self.num_layers} layers")


@dataclass
class InitConfig:
    """Initialisation of the weights and of the biases of the gates; see :func:`gradflow.initialise_`."""

    name: InitName = InitName.default
    gain: float = _positive(1.0)  # deviation gain/sqrt(H) (gaussian); factor (orthogonal, identity); radius (sparse)
    std: float | None = _positive(None)  # deviation of all weights (normal), or of those not recurrent (sparse); .01
    connections: int | None = _count(None)  # non-zeros in a row of W_hh (sparse); 15
    # longest memory of chrono, in steps; None: the length of the task
    time_scale: float | None = field(default=None, metadata={"least": 2})
    forget_bias: float | None = None  # LSTM only; None leaves torch's default
    update_bias: float | None = None  # GRU only; bias of z, which keeps; None leaves torch's default

    def __post_init__(self) -> None:
        _check(self, "init")
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
    threshold: float = _positive(1.0)

    def __post_init__(self) -> None:
        _check(self, "clip")


@dataclass
class OmegaConfig:
    """The regulariser that keeps the norm of the gradient from step to step (Pascanu et al. 2013, eq. 9)."""

    weight: float = _not_negative(0.0)  # 0: none; 4 in the paper
    squared: bool = False  # the ratio of squared norms, as in the authors' code, instead of eq. 9

    def __post_init__(self) -> None:
        _check(self, "omega")


@dataclass
class FlossingConfig:
    """Gradient flossing: Lyapunov exponents are pulled towards 0 (Engelken 2023)."""

    iterations: int = field(default=0, metadata={"least": 0, "most": MANY})  # of flossing alone before training
    exponents: int = _count(16)  # how many of the largest
    lr: float = _positive(1e-3)

    def __post_init__(self) -> None:
        _check(self, "flossing")


@dataclass
class TrainConfig:
    """The optimiser and how long it runs."""

    optimizer: OptimizerName = OptimizerName.adam
    lr: float = _not_negative(1e-3)
    batch_size: int = _count(100, 10**7)
    iterations: int = _count(500)
    evaluate_every: int = _count(100)  # iterations between evaluations on the test set; the last is always evaluated
    truncate: int | None = _count(None)  # time steps after which backpropagation is cut; None: not at all
    stop_when_solved: bool = False  # end at the first evaluation that meets the task's criterion

    def __post_init__(self) -> None:
        _check(self, "train")


@dataclass
class RecordConfig:
    """What the recorder looks at, and how often."""

    every: int = _count(10)  # iterations between recordings of the state gradients
    examples: int = _count(32)  # examples of the batch that are recorded
    spectrum_every: int = _count(100)  # iterations between singular values and eigenvalues of W_hh

    def __post_init__(self) -> None:
        _check(self, "record")


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
    name: str = "train"  # a folder below outputs/
    seed: int = field(default=0, metadata={"least": 0, "most": 2**63 - 1})
    threads: int = _count(1, 1_024)  # of torch; small recurrent networks gain little from more, and parallel runs lose
    device: str = "cpu"
    dtype: Dtype = Dtype.float32

    def __post_init__(self) -> None:
        _check(self)
        check_folder_name("name", self.name)
        if not self.data.source.of_names:
            size, length = self.train.batch_size, self.data.length
            _check_memory("train.batch_size", size * length, f"{size} sequences of data.length={length}")
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
            require(init.connections <= self.cell.hidden_size, "init.connections", limits, init.connections)
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


def settings(config: type = Config, above: str = "") -> Iterator[tuple[str, Field]]:
    """The name and the field of every setting, as in ``cell.hidden_size``."""
    for setting in fields(config):
        if isinstance(setting.type, type) and is_dataclass(setting.type):
            yield from settings(setting.type, f"{above}{setting.name}.")
        else:
            yield above + setting.name, setting


def check_folder_name(argument: str, name: str) -> None:
    """Raise a ValueError unless a text can be the name of one folder, here and on other systems."""
    strange = not name.isprintable() or set(name) & set('/\\:*?"<>|') or not name.strip(" .")
    require(not strange and len(name.encode()) < 200, argument, "the name of one folder, without / and the like", name)


def _check_memory(argument: str, count: int, got: str) -> None:
    if count > MANY:
        raise ValueError(f"{argument}: expected at most {MANY:,} numbers at once, got {got}; lower one of them")


def _who_has(gate: str) -> str:
    cells = [f"cell={name}" for name, facts in CELLS.items() if gate in facts.gates]
    return (
        f"{' and '.join(cells)} {'has a' if len(cells) == 1 else 'have a'}{'n' * (gate == 'z')} {GATE_NAMES[gate]} gate"
    )


def _wrong_cell(argument: str, fact: str, cell: CellName, advice: str) -> ValueError:
    return ValueError(f"{argument}: only {fact}, got cell={cell}; {advice}")
