"""What every analysis starts from: the runs, the settings that name them, one layer and direction of their tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from gradflow.analysis.modules import OneModule, check_run, layer_facts, modules_in
from gradflow.analysis.settings import group, init_of, of_gradflow, start_of, treatment_of, value_of
from gradflow.cells.facts import CELLS
from gradflow.checks import listed, shown, whole_number
from gradflow.config import Source

T = TypeVar("T")

IDENTITY = ["cell", "init", "start", "clip", "threshold", "seed"]
IDENTITY += ["num_layers", "bidirectional", "source", "names_per_sequence", "length", "module", "calls"]
"""Columns that say which run a row belongs to, in every table that an analysis returns.

`init` is the setting by name, and `remember` where torch's own start has the bias of a gate that keeps set above 0;
`start` says what it means for this cell (`remember` of an LSTM is `b_f=3`). `clip` says all that is done to the
gradient in training: `norm, omega` where the regulariser comes on top. All three are empty where the log does not say;
`clip` is then `some` where the gradients say that clipping was at work. `length` is that of a task, 0 for names.
`module` is empty unless the run recorded several; of up to `calls` calls per iteration the last is shown.
"""

UNNAMED = "model"
"""The cell of a run that neither settings nor layers name."""

SOME = "some"
"""The clipping of a run that clipped, nothing says how."""

UNCLIPPED = ("none", "")
"""Values of `clip` of runs without clipping, or that do not say."""

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
    def error(self) -> str | None: ...  # noqa: D102
    @property
    def proof(self) -> str: ...  # noqa: D102
    @property
    def scalars(self) -> pd.DataFrame: ...  # noqa: D102
    def frame(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame: ...  # noqa: D102
    def table(self, table: str, columns: Sequence[str] | None = None) -> Any: ...  # noqa: D102


class DoesNotApply(ValueError):
    """No run is of a network that an analysis is about: one with gates, several layers, two directions."""


def identity(run: Run) -> dict[str, Any]:
    """The columns :data:`IDENTITY` of one run, as far as its settings and layers tell."""
    check_run(run)
    key = ("identity", getattr(run, "module", ""), getattr(run, "calls", 1))
    return dict(once(run, key, _identity))


def once(run: Run, key: Any, find: Callable[[Run], T]) -> T:
    """What is found out about a run; of one that is kept for many questions (:class:`KeptRun`), no second time."""
    found = getattr(run, "found", {})
    if key not in found:
        found[key] = find(run)
    return found[key]


def _identity(run: Run) -> dict[str, Any]:
    config = run.config or {}
    data = group(config, "data")
    source = data.get("source", "")
    length = value_of(data, "length", int, 0)
    return {
        **_network(run, config),
        "init": init_of(config),
        "start": start_of(config),
        "clip": treatment_of(config) or _clipping_seen(run),
        "threshold": value_of(group(config, "clip"), "threshold", float, float("nan")),
        "seed": _seed(run) or 0,
        "source": source,
        "names_per_sequence": value_of(data, "names_per_sequence", int, 0),
        "length": 0 if source in WITHOUT_LENGTH else length,
        "module": getattr(run, "module", ""),
        "calls": getattr(run, "calls", 1),
    }


def _network(run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """Cell, layers and directions: of several modules as the layers say, else as the settings do."""
    modules, module = modules_in(run), getattr(run, "module", "")
    layers = layer_facts([layer for name, layer in modules.items() if module in ("", name)])
    given: Mapping[str, Any] = group(config, "cell") if len(modules) < 2 else {}
    return {
        "cell": given.get("name") or layers["cell"] or UNNAMED,
        "num_layers": value_of(given, "num_layers", int, layers["num_layers"]),
        "bidirectional": value_of(given, "bidirectional", bool, layers["bidirectional"]),
    }


def _clipping_seen(run: Run) -> str:
    """What the gradients say of clipping: at work, or nothing: a threshold that was never reached leaves no trace."""
    wanted = [name for name in ("clipped", "clipping_reported") if name in run.columns["scalars"]]
    if "clipped" not in wanted:
        return ""
    seen = run.frame("scalars", columns=wanted)
    clipped, reported = seen["clipped"], seen.get("clipping_reported", seen["clipped"].notna())
    if bool((clipped > 0).any()) or bool(((reported > 0) & clipped.notna()).any()):
        return SOME
    return ""


def _seed(run: Run) -> int | None:
    """The seed, if the log knows it."""
    seed = value_of(run.config or {}, "seed", int, None)
    return value_of(run.meta, "seed", int, None) if seed is None else seed


def as_replicate(run: Run) -> str:
    """Empty for a run of known settings and seed, else its folder: nothing says what it has to do with others."""
    return "" if run.config and _seed(run) is not None else str(getattr(run, "path", id(run)))


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
    runs = listed(
        "source", getattr(source, "members", source), "a run, a sweep, or a sequence of runs (open a path first)"
    )
    for run in runs:
        if not hasattr(run, "config"):
            raise TypeError(f"source: expected runs, such as gradflow.open_run(PATH), got {shown(run)}")
    if not runs:
        raise ValueError("source: expected at least one run, got none; does the path hold any run.json?")
    return sorted(runs, key=_rank)


def started(source: Any) -> list[Run]:
    """As :func:`runs_of`, without the runs that recorded no iteration.

    Raises:
        ValueError: There is no other.
    """
    runs = [run for run in runs_of(source) if len(scalar_columns(run)[0])]
    if not runs:
        raise ValueError("scalars: expected at least one recorded iteration, got none in any run")
    return runs


def _rank(run: Run) -> list[tuple[int, str]]:
    return once(run, ("rank", getattr(run, "module", ""), getattr(run, "calls", 1)), _ranked)


def _ranked(run: Run) -> list[tuple[int, str]]:
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
    check_place(layer, direction)
    parts = [(run, _place(frame, layer, direction)) for run, frame in everywhere(source, table, columns)]
    parts = [(run, frame) for run, frame in parts if len(frame)]
    if not parts:
        where = f"{'the top layer' if layer is None else f'layer {layer}'}, direction {direction}"
        raise ValueError(
            f"{table}: expected recorded rows of {where}, got none in any run; see `record` in the settings"
        )
    return parts


def check_place(layer: int | None = None, direction: int = 0) -> None:
    """Raise a ValueError unless these can be a layer (None: the top one) and a direction."""
    if layer is not None:
        whole_number("layer", layer, 0)
    whole_number("direction", direction, 0, " (forward, reverse)", most=1)


def everywhere(source: Any, table: str, columns: Sequence[str]) -> list[tuple[Run, pd.DataFrame]]:
    """As :func:`recorded`, of all layers and directions, and with the runs that have no rows.

    Raises:
        ValueError: A run recorded several modules.
    """
    return [_last_call(run, _rows(run, table, columns)) for run in runs_of(source)]


def _rows(run: Run, table: str, columns: Sequence[str]) -> pd.DataFrame:
    frame = run.frame(table, columns=[name for name in columns if name in run.columns[table]])
    modules = list(frame["module"].unique())
    if len(modules) > 1:
        raise ValueError(
            f"module: expected one recorded module, got {modules}; take one of them: "
            f"gradflow.analysis.by_module(run)[{modules[0]!r}]"
        )
    return frame


def _place(frame: pd.DataFrame, layer: int | None, direction: int) -> pd.DataFrame:
    there = frame["direction"].to_numpy() == direction
    layers = frame["layer"].to_numpy()
    there &= layers == (layers[there].max(initial=0) if layer is None else layer)
    return frame if there.all() else frame[there]


def _last_call(run: Run, frame: pd.DataFrame) -> tuple[Run, pd.DataFrame]:
    """The rows of the last call of each iteration, that of the end where backpropagation is cut; a run that says so."""
    if "call" not in frame or not frame["call"].any():
        return run, frame
    calls = frame.groupby("iteration")["call"]
    part = run if isinstance(run, OneModule) else OneModule(run)
    return replace(part, calls=int(calls.nunique().max())), frame[frame["call"] == calls.transform("max")]


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
    known = value_of(run.meta, "chance", float, float("nan"))
    classes = run.meta.get("classes", ()) if of_gradflow(run.config or {}) else ()  # the loss of others may be any
    loss = float(np.log(len(classes))) if classes else float("nan")
    return known, value_of(run.meta, "chance_loss", float, loss)


def losses(run: Run) -> pd.Series:
    """The training loss by iteration, where the log has one: NaN where it came out so, nothing where none was told."""
    return once(run, "losses", _losses)


def _losses(run: Run) -> pd.Series:
    iteration, loss, non_finite = scalar_columns(run, "loss", "non_finite")
    diverged = run.status == "diverged"
    told = ~np.isnan(loss)
    if not diverged:
        told = (told | (non_finite == 1)) & told.any()
    chosen = told | diverged
    return pd.Series(loss[chosen], pd.Index(iteration[chosen], name="iteration"), name="loss")


def scalar_columns(run: Run, *names: str) -> list[np.ndarray]:
    """Iterations, and columns of the scalars, in a tenth of the time that a frame of them takes."""
    rows = run.table("scalars", names)
    return [rows[name].to_numpy() for name in ("iteration", *names)]


def collect(parts: Sequence[tuple[Run, pd.DataFrame]]) -> pd.DataFrame:
    """One table out of the rows of several runs, with the columns IDENTITY in front; `calls` is the most of any run."""
    return named([run for run, _ in parts], joined([frame for _, frame in parts]))


def collect_columns(parts: Sequence[tuple[Run, Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """As :func:`collect`, of rows by column, which takes far less time than of many frames."""
    columns = {name: np.concatenate([own[name] for _, own in parts]) for name in parts[0][1]}
    owner = np.repeat(np.arange(len(parts)), [len(next(iter(own.values()))) for _, own in parts])
    return named([run for run, _ in parts], pd.DataFrame(columns | {"owner": owner}))


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames below each other, with the place of each row's own among them as `owner`."""
    owner = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    return pd.concat(frames, ignore_index=True).assign(owner=owner)


def named(runs: Sequence[Run], whole: pd.DataFrame) -> pd.DataFrame:
    """Rows of several runs with the columns IDENTITY in place of `owner`; see :func:`collect`."""
    told = pd.DataFrame([identity(run) for run in runs], columns=IDENTITY)
    named = told.take(whole["owner"].to_numpy()).reset_index(drop=True)
    own = whole[[name for name in whole if name not in (*IDENTITY, "owner")]].reset_index(drop=True)
    return pd.concat([named.assign(calls=named["calls"].max()), own], axis=1)


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
    return binned_each([values], points)[0]


def binned_each(series: Sequence[pd.Series], points: int = 200) -> list[pd.DataFrame]:
    """As :func:`binned`, of many series at a time, which takes little longer than of one."""
    lengths = [len(values) for values in series]
    values = pd.concat(series)
    finite = np.isfinite(values)
    rows = pd.DataFrame(
        {"iteration": values.index, "value": values.where(finite).to_numpy(), "non_finite": ~finite.to_numpy()}
    )
    owner = np.repeat(np.arange(len(series)), lengths)
    width = np.repeat([-(-length // points) or 1 for length in lengths], lengths)
    place = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    bins = rows.groupby([owner, place // width]).agg({"iteration": "first", "value": "median", "non_finite": "sum"})
    ends = np.cumsum(np.bincount(bins.index.get_level_values(0), minlength=len(series)))
    bins = bins.reset_index(drop=True)
    return [
        bins[end - size : end].reset_index(drop=True) for end, size in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]


def claim(name: str, value: float, expected: str, holds: bool, **details: Any) -> dict[str, Any]:
    """One checked statement: its name, the measured value, what was expected, whether it holds, words for captions."""
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in details.items()}
    return {"claim": name, "value": float(value), "expected": expected, "holds": bool(holds), **plain}


def curve_name(row: pd.Series) -> dict[str, str]:
    """What a caption needs to name the curve of a row."""
    return {"cell": str(row["cell"]), "start": str(row["start"])}
