"""What every analysis starts from: the runs, the settings that name them, one layer and direction of their tables."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from gradflow.cells.facts import CELLS, REMEMBER_BIAS
from gradflow.config import Source

IDENTITY = ["cell", "init", "start", "clip", "threshold", "seed"]
IDENTITY += ["num_layers", "bidirectional", "source", "names_per_sequence", "length"]
"""Columns that say which run a row belongs to, in every table that an analysis returns.

`init` is the setting by name; `start` says what it means for this cell (`remember` of an LSTM is `b_f=3`). `clip` says
all that is done to the gradient in training: `norm, omega` where the regulariser comes on top. `length` is that of a
task, 0 for names.
"""

UNNAMED = "model"
"""The cell of a run whose settings name none."""

WITHOUT_LENGTH = {"", *(source for source in Source if source.of_names)}
"""Sources of names, and none; any other is a task whose sequences are all of one length."""

ORDER = {
    "cell": list(CELLS),
    "init": ["default", "normal", "gaussian", "orthogonal", "identity", "sparse", "chrono", "remember"],
    "clip": ["none", "norm", "value", "parameter", "state", "none, omega", "norm, omega"],
}
"""In which order tables and figures show cells, initialisations and clippings; others come after, by name."""


class Run(Protocol):
    """The part of a recorded run that analyses read (see :func:`gradflow.open_run`)."""

    @property
    def config(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def meta(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def columns(self) -> Mapping[str, Mapping[str, Any]]: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def proof(self) -> str: ...  # noqa: D102
    @property
    def scalars(self) -> pd.DataFrame: ...  # noqa: D102
    def frame(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame: ...  # noqa: D102


class DoesNotApply(ValueError):
    """No run is of a network that an analysis is about: one with gates, several layers, two directions."""


def start_of(config: Mapping[str, Any]) -> str:
    """How the recurrent weights and the keeping gate start, as words and formulas joined by commas.

    Example:
        >>> start_of({"cell": {"name": "lstm"}, "init": {"name": "remember"}})
        'b_f=3'
        >>> start_of({"cell": {"name": "rnn"}, "init": {"name": "gaussian", "gain": 1.5}})
        'gaussian, g=1.5'
    """
    cell, name = setting(config, "cell.name", ""), setting(config, "init.name", "default")
    gain, std = setting(config, "init.gain", 1.0), setting(config, "init.std", None, float)
    biases = {"b_f": setting(config, "init.forget_bias", None, float)}
    biases["b_z"] = setting(config, "init.update_bias", None, float)
    words = [name]
    if name == "remember":
        gate = CELLS[cell].keeping_gate if cell in CELLS else None
        words = [] if gate else ["orthogonal"]
        if gate and biases[f"b_{gate}"] is None:
            biases[f"b_{gate}"] = REMEMBER_BIAS
    if name == "gaussian" or gain != 1:
        words.append(f"g={gain:g}")
    if std is not None:
        words.append(rf"\sigma={std:g}")
    if setting(config, "flossing.iterations", 0):
        words.append("flossed")
    return ", ".join(words + [f"{bias}={value:g}" for bias, value in biases.items() if value is not None])


def treatment_of(config: Mapping[str, Any]) -> str:
    """What is done to the gradient in training: the clipping by name, and `omega` where the regulariser acts.

    Example:
        >>> treatment_of({"clip": {"name": "norm"}, "omega": {"weight": 4.0}})
        'norm, omega'
    """
    words = [setting(config, "clip.name", "none")]
    return ", ".join(words + ["omega"] * (setting(config, "omega.weight", 0.0) > 0))


def identity(run: Run) -> dict[str, Any]:
    """The columns :data:`IDENTITY` of one run; a run without configuration is called after its recorded name."""
    config = run.config or {}
    source = setting(config, "data.source", "")
    return {
        "cell": setting(config, "cell.name", UNNAMED),
        "init": setting(config, "init.name", "default"),
        "start": start_of(config),
        "clip": treatment_of(config),
        "threshold": setting(config, "clip.threshold", float("nan")),
        "seed": setting(config, "seed", 0),
        "num_layers": setting(config, "cell.num_layers", 1),
        "bidirectional": setting(config, "cell.bidirectional", False),
        "source": source,
        "names_per_sequence": setting(config, "data.names_per_sequence", 0),
        "length": 0 if source in WITHOUT_LENGTH else setting(config, "data.length", 0),
    }


def setting(config: Mapping[str, Any], name: str, default: Any, kind: type | None = None) -> Any:
    """A setting of gradflow's by its dotted name, or the default if the settings are a script's own and have none such.

    Args:
        config: The settings of a run.
        name: Such as `cell.name`.
        default: What stands for a setting that is not there, or of another type: a list, or text for a number.
        kind: The type, if it is not that of the default.

    Example:
        >>> setting({"cell": {"name": "rnn"}}, "cell.name", "model"), setting({"cell": "rnn"}, "cell.name", "model")
        ('rnn', 'model')
    """
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    kind = kind or type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**63 else default
    if kind is int and (isinstance(value, bool) or (isinstance(value, int) and abs(value) >= 2**63)):
        return default
    return value if isinstance(value, kind) else default


def runs_of(source: Any) -> list[Run]:
    """The runs of `source`: a run, a sweep, or a sequence of runs.

    Args:
        source: What :func:`gradflow.open_run` or :func:`gradflow.open_sweep` returned, or several runs.

    Returns:
        The runs in the order of :data:`ORDER`, then by seed.

    Raises:
        ValueError: There is no run in it.
    """
    if hasattr(source, "config"):
        return [source]
    runs = list(getattr(source, "members", source))
    if not runs:
        raise ValueError("source: expected at least one run, got none; does the path hold any run.json?")
    return sorted(runs, key=_rank)


def started(source: Any) -> list[Run]:
    """As :func:`runs_of`, without the runs that recorded no iteration.

    Raises:
        ValueError: There is no other.
    """
    runs = [run for run in runs_of(source) if len(run.scalars)]
    if not runs:
        raise ValueError("scalars: expected at least one recorded iteration, got none in any run")
    return runs


def _rank(run: Run) -> list[tuple[int, str]]:
    names = identity(run)
    return [rank(names[key], order) for key, order in ORDER.items()] + [(int(names["seed"]), "")]


def rank(value: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort key that puts known values in the given order and others after them, by name."""
    return (order.index(value) if value in order else len(order), value)


def recorded(
    source: Any, table: str, columns: Sequence[str], *, layer: int | None = None, direction: int = 0
) -> list[tuple[Run, pd.DataFrame]]:
    """Every run that has rows in one table, and those of one layer and direction, never mixed.

    Args:
        source: A run, a sweep, or a sequence of runs.
        table: `time`, `lag`, `gates` or `spectrum`.
        columns: Value columns to read, as far as the run has them.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Raises:
        ValueError: No run has such rows, or a run recorded several modules.
    """
    parts = [(run, _place(frame, layer, direction)) for run, frame in everywhere(source, table, columns)]
    parts = [(run, frame) for run, frame in parts if len(frame)]
    if not parts:
        where = f"{'the top layer' if layer is None else f'layer {layer}'}, direction {direction}"
        raise ValueError(
            f"{table}: expected recorded rows of {where}, got none in any run; see `record` in the settings"
        )
    return parts


def everywhere(source: Any, table: str, columns: Sequence[str]) -> list[tuple[Run, pd.DataFrame]]:
    """As :func:`recorded`, of all layers and directions, and with the runs that have no rows.

    Raises:
        ValueError: A run recorded several modules.
    """
    return [(run, _rows(run, table, columns)) for run in runs_of(source)]


def _rows(run: Run, table: str, columns: Sequence[str]) -> pd.DataFrame:
    frame = run.frame(table, columns=[name for name in columns if name in run.columns[table]])
    modules = list(frame["module"].unique())
    if len(modules) > 1:
        raise ValueError(f"module: expected one recorded module, got {modules}; record each into a run of its own")
    return frame


def _place(frame: pd.DataFrame, layer: int | None, direction: int) -> pd.DataFrame:
    frame = frame[frame["direction"] == direction]
    return last_call(frame[frame["layer"] == (frame["layer"].max() if layer is None else layer)])


def last_call(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last call, which is that of the end where backpropagation is cut."""
    return frame[frame["call"] == frame["call"].max()] if "call" in frame else frame


def one_seed(runs: Sequence[Run]) -> list[Run]:
    """Of runs that differ in the seed alone, the one of the lowest."""
    kept: dict[tuple[str, ...], Run] = {}
    for run in sorted(runs, key=lambda run: identity(run)["seed"]):
        kept.setdefault(tuple(str(value) for key, value in identity(run).items() if key != "seed"), run)
    return sorted(kept.values(), key=_rank)


def one_clipping(runs: Sequence[Run]) -> list[Run]:
    """Of runs of one cell and start the first, which is one without clipping if there is any."""
    kept: dict[tuple[str, str], Run] = {}
    for run in sorted(runs, key=_rank):
        kept.setdefault((identity(run)["cell"], identity(run)["start"]), run)
    return list(kept.values())


def chance(run: Run) -> tuple[float, float]:
    """Test accuracy and loss (nats, or squared error) of a network that does not look at its input.

    NaN where the log does not say.
    """
    meta: dict[str, Any] = {name: value for name, value in run.meta.items() if value is not None}
    classes = len(meta.get("classes", ()))
    loss: Any = meta.get("chance_loss", np.log(classes) if classes else "nan")
    return float(meta.get("chance", "nan")), float(loss)


def collect(parts: Sequence[tuple[Run, pd.DataFrame]]) -> pd.DataFrame:
    """One table out of the rows of several runs, with the columns IDENTITY in front."""
    named = [frame.assign(**identity(run))[[*IDENTITY, *frame.columns]] for run, frame in parts]
    return pd.concat(named, ignore_index=True)


def before_clipping(data: pd.DataFrame) -> pd.DataFrame:
    """A table of first iterations, where clipping has not acted yet: runs that differ in it alone are one."""
    data = data.assign(clip="none", threshold=float("nan"))
    keys = [*IDENTITY, "layer", "direction", "iteration", "quantity", "gate", "lag", "time"]
    return data.drop_duplicates([key for key in keys if key in data]).reset_index(drop=True)


def binned(values: pd.Series, points: int = 200) -> pd.DataFrame:
    """A noisy series in at most `points` bins of equal width: iteration (the first of the bin) and median.

    NaN and infinite values are left out of the median and counted; a bin of nothing else is NaN.

    Example:
        >>> binned(pd.Series([4.0, 2.0, 3.0, float("nan")], index=[0, 1, 2, 3]), points=2)
           iteration  value  non_finite
        0          0    3.0           0
        1          2    3.0           1
    """
    finite = np.isfinite(values)
    width = -(-len(values) // points) or 1
    groups = pd.DataFrame(
        {"iteration": values.index, "value": values.where(finite).to_numpy(), "non_finite": ~finite.to_numpy()}
    ).groupby(np.arange(len(values)) // width)
    return groups.agg({"iteration": "first", "value": "median", "non_finite": "sum"}).rename_axis(index=None)


def claim(name: str, value: float, expected: str, holds: bool, **details: Any) -> dict[str, Any]:
    """One checked statement: its name, the measured value, what was expected, whether it holds, words for captions."""
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in details.items()}
    return {"claim": name, "value": float(value), "expected": expected, "holds": bool(holds), **plain}


def curve_name(row: pd.Series) -> dict[str, str]:
    """What a caption needs to name the curve of a row."""
    return {"cell": str(row["cell"]), "start": str(row["start"])}
