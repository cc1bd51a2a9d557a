"""Every setting of one training run, as plain dataclasses.

The one place that names a setting, its default and its allowed values. Nothing here knows Hydra: the scripts in
`experiments/` turn their configuration into a :class:`Config`; a Python user writes ``Config(cell=CellConfig(...))``.
Choices are enumerations and ranges are checked when an object is made, so a wrong value fails before any work starts.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Source(StrEnum):
    """Where the labelled names come from."""

    generated = "generated"
    corpus = "corpus"
    csv = "csv"
    languages = "languages"


class CellName(StrEnum):
    """The recurrent cells. In `gru_before` the reset gate acts before the matrix product, in `gru` (torch) after."""

    linear = "linear"
    rnn = "rnn"
    rnn_relu = "rnn_relu"
    lstm = "lstm"
    gru = "gru"
    gru_before = "gru_before"


class InitName(StrEnum):
    """How the recurrent weights start; `remember` is the one that suits each cell."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    identity = "identity"
    remember = "remember"


class ClipName(StrEnum):
    """How gradients are clipped: not, by global norm, by value, or each parameter by its own norm."""

    none = "none"
    norm = "norm"
    value = "value"
    parameter = "parameter"


class OptimizerName(StrEnum):
    """The optimisers."""

    adam = "adam"
    sgd = "sgd"


class Dtype(StrEnum):
    """Floating-point type of the model."""

    float32 = "float32"
    float64 = "float64"


def _require(condition: bool, argument: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")


@dataclass
class DataConfig:
    """Names and what is kept of them."""

    source: Source = Source.generated
    path: str | None = None  # file (csv, corpus) or folder/zip (languages); None: packaged, or downloaded
    vocabulary_size: int = 500  # most frequent characters kept
    train_size: int = 10_000
    test_size: int = 1_000
    names_per_sequence: int = 1  # above 1: roll call, the label is that of the first name

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "train_size", "test_size", "names_per_sequence"):
            _require(getattr(self, name) >= 1, f"data.{name}", "at least 1", getattr(self, name))
        needs_path = self.source in (Source.csv, Source.languages)
        if needs_path and not self.path:
            raise ValueError(
                f"data.path: expected the file or folder of data.source={self.source}, got none; "
                f"set data.path=PATH, or use data=generated, which needs no file"
            )


@dataclass
class CellConfig:
    """The recurrent layer, in torch's words."""

    name: CellName = CellName.rnn
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers"):
            _require(getattr(self, name) >= 1, f"cell.{name}", "at least 1", getattr(self, name))


@dataclass
class InitConfig:
    """Initialisation of the recurrent weights and of the bias of the gate that keeps."""

    name: InitName = InitName.default
    gain: float = 1.0  # standard deviation gain/sqrt(H) (gaussian); factor (orthogonal, identity)
    forget_bias: float | None = None  # LSTM only; None leaves torch's default
    update_bias: float | None = None  # GRU only; bias of z, which keeps; None leaves torch's default

    def __post_init__(self) -> None:
        _require(self.gain > 0, "init.gain", "a positive number", self.gain)


@dataclass
class ClipConfig:
    """Gradient clipping."""

    name: ClipName = ClipName.none
    threshold: float = 1.0

    def __post_init__(self) -> None:
        _require(self.threshold > 0, "clip.threshold", "a positive number", self.threshold)


@dataclass
class TrainConfig:
    """The optimiser and how long it runs."""

    optimizer: OptimizerName = OptimizerName.adam
    lr: float = 1e-3
    batch_size: int = 100
    iterations: int = 500
    evaluate_every: int = 100  # iterations between evaluations on the test set; the last is always evaluated

    def __post_init__(self) -> None:
        _require(self.lr >= 0, "train.lr", "a number of at least 0", self.lr)
        for name in ("batch_size", "iterations", "evaluate_every"):
            _require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))


@dataclass
class RecordConfig:
    """What the recorder looks at, and how often."""

    every: int = 10  # iterations between recordings of the state gradients
    examples: int = 32  # examples of the batch that are recorded
    spectrum_every: int = 100  # iterations between singular values and eigenvalues of W_hh

    def __post_init__(self) -> None:
        for name in ("every", "examples", "spectrum_every"):
            _require(getattr(self, name) >= 1, f"record.{name}", "at least 1", getattr(self, name))


@dataclass
class Config:
    """One run: `seed` decides every random number in it."""

    data: DataConfig = field(default_factory=DataConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    init: InitConfig = field(default_factory=InitConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    name: str = "train"
    seed: int = 0
    threads: int = 1  # of torch; small recurrent networks gain little from more, and parallel runs lose
    device: str = "cpu"
    dtype: Dtype = Dtype.float32

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, "seed", "a number from 0 to 2**63 - 1", self.seed)
        _require(self.threads >= 1, "threads", "at least 1", self.threads)
        uses_forget, uses_update = self.init.forget_bias is not None, self.init.update_bias is not None
        gru = self.cell.name in (CellName.gru, CellName.gru_before)
        if uses_forget and self.cell.name != CellName.lstm:
            raise ValueError(
                f"init.forget_bias: only cell=lstm has a forget gate, got cell={self.cell.name}; "
                f"drop it or use init=remember"
            )
        if uses_update and not gru:
            raise ValueError(
                f"init.update_bias: only cell=gru and cell=gru_before have an update gate, got cell={self.cell.name}; "
                f"drop it or use init=remember"
            )
