"""The gallery's tables, made small enough for a page: columns by number of the curve, iterations thinned out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from gradflow.cells.facts import CANDIDATE_GATES
from gradflow.report.curves import Curve, numbered
from gradflow.report.words import Text, alike, number, word

MOST = 12_000  # rows of a table: its text is then about 250 kB
MOST_LAGS = 100
MOST_NUMBERS = 12  # rows of a table of numbers that is read aloud
KINDS = {"largest": 0.0, "median": 0.5, "smallest": 1.0}


@dataclass(frozen=True)
class Rows:
    """What a chart draws.

    Attributes:
        id: By which charts name it.
        data: Numbers alone; `curve` is that of :func:`numbered`, `record` the place of an iteration in `iterations`.
        curves: Those of the chart, by their numbers.
        iterations: Those that were kept, ascending.
        notes: What a reader must know of it.
    """

    id: str
    data: pd.DataFrame
    curves: Sequence[Curve]
    iterations: list[int] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)

    @property
    def at_the_end(self) -> pd.DataFrame:
        """Those of the last iteration, at which charts with a slider open."""
        return self.data[self.data["record"] == len(self.iterations) - 1]

    @property
    def csv(self) -> str:
        """The numbers, four digits of each."""
        return self.data.to_csv(index=False, float_format="%.4g", na_rep="NaN").replace("inf", "Infinity")


@dataclass(frozen=True)
class Numbers:
    """A table for those who cannot see the chart: some of its numbers, a column per curve."""

    caption: Text
    head: list[Text]
    rows: list[list[str]]


def training_rows(data: pd.DataFrame, curves: Sequence[Curve], name: str) -> Rows:
    """Loss and norms of gradients over iterations, of `clipping_effect`, for one seed of each curve."""
    data = data[data["typical"]].assign(curve=numbered(data, curves))
    first = data.groupby("curve")["seed"].transform("first")
    data = data[data["seed"] == first].drop_duplicates(["curve", "iteration"])
    columns = ["curve", "iteration", "loss_trend", "before", "after"]
    return _thinned(Rows(name, data[columns].rename(columns={"loss_trend": "loss"}), curves), most=MOST // 4)


def lag_rows(data: pd.DataFrame, curves: Sequence[Curve], name: str) -> Rows:
    """The gradient (natural log) by lag and iteration, of `gradient_heatmap`."""
    data = data[data["quantity"] == "gradient"]
    lags = np.sort(data["lag"].unique())
    step = -(-len(lags) // MOST_LAGS)
    data = data[data["lag"].isin(lags[::step])].assign(curve=numbered(data, curves))
    notes = [word("note.lags", step=step)] if step > 1 else []
    return _recorded(Rows(name, data[["curve", "iteration", "lag", "value"]], curves, notes=notes))


def spectrum_rows(data: pd.DataFrame, curves: Sequence[Curve], name: str) -> Rows:
    """Singular values and eigenvalues at each record, of `weight_spectrum_over_training`."""
    data = data.assign(curve=numbered(data, curves))
    several = data.groupby("curve")["gate"].transform("nunique") > 1  # one run comes with its other gates
    data = data[~several | data["gate"].isin(CANDIDATE_GATES)]
    named = {"singular_value": "sigma", "eigenvalue_re": "re", "eigenvalue_im": "im"}
    return _recorded(Rows(name, data.rename(columns=named)[["curve", "iteration", "index", *named.values()]], curves))


def stretch_rows(data: pd.DataFrame, curves: Sequence[Curve], name: str) -> Rows:
    """The largest, middle and smallest singular value and the spectral radius, of `singular_values_over_training`."""
    data = data.assign(curve=numbered(data, curves))
    singular = data[data["quantity"] == "singular_value"]
    last = singular["index"].max()
    parts = [
        singular[singular["index"] == round(share * last)].assign(kind=i) for i, share in enumerate(KINDS.values())
    ]
    parts.append(data[data["quantity"] == "spectral_radius"].assign(kind=len(KINDS)))
    return _thinned(Rows(name, pd.concat(parts)[["curve", "kind", "iteration", "value"]], curves))


def gate_rows(data: pd.DataFrame, curves: Sequence[Curve], name: str) -> Rows:
    """Time scales of the gates that keep by position and iteration, of `gate_timescales_over_training`."""
    data = data.assign(curve=numbered(data, curves))
    return _recorded(Rows(name, data[["curve", "iteration", "time", "low", "median", "high"]], curves))


def _recorded(rows: Rows) -> Rows:
    """With the place of each iteration among those kept in place of the iteration itself."""
    rows = _thinned(rows)
    iterations = sorted(int(i) for i in rows.data["iteration"].unique())
    data = rows.data.assign(record=rows.data["iteration"].map({value: i for i, value in enumerate(iterations)}))
    return Rows(rows.id, data.drop(columns="iteration"), rows.curves, iterations, rows.notes)


def _thinned(rows: Rows, most: int = MOST) -> Rows:
    """Every n-th recorded iteration and the last, as many as the page has room for, and a note that says so."""
    iterations = np.sort(rows.data["iteration"].unique())
    step = -(-len(rows.data) // most) or 1
    kept = np.unique(np.append(iterations[::step], iterations[-1:]))
    notes = [*rows.notes, *([word("note.iterations", step=step)] if step > 1 else [])]
    data = rows.data[rows.data["iteration"].isin(kept) & (rows.data["curve"] >= 0)]
    return Rows(rows.id, data.reset_index(drop=True), rows.curves, notes=notes)


def pivoted(data: pd.DataFrame, x: str, y: str, curves: Sequence[Curve], caption: Text, axis: Text) -> Numbers:
    """Some numbers of a chart: a row per value of `x`, evenly spaced, a column per curve."""
    table = data.pivot_table(index=x, columns="curve", values=y, aggfunc="first", dropna=False).sort_index()
    places = np.unique(np.linspace(0, len(table) - 1, min(MOST_NUMBERS, len(table))).round().astype(int))
    chosen = zip(table.index[places], table.to_numpy(dtype=float)[places], strict=True)
    rows = [[number(float(at)), *map(number, values)] for at, values in chosen]
    return Numbers(caption, [axis, *(curves[int(i)].name for i in table.columns)], rows)


def listed(data: pd.DataFrame, caption: Text) -> Numbers:
    """Some rows of any table of the gallery, without the columns in which all are alike."""
    varying = [name for name in data if _varies(data[name])] or list(data)[:1]
    places = np.unique(np.linspace(0, len(data) - 1, min(2 * MOST_NUMBERS, len(data))).round().astype(int))
    rows = [[_cell(value) for value in row] for row in data[varying].iloc[places].itertuples(index=False)]
    return Numbers(caption, [alike(name) for name in varying], rows)


def _varies(column: pd.Series) -> bool:
    shown = map(str, column.unique())
    first = next(shown, None)
    return any(other != first for other in shown)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return number(float(value))
    return alike(value)["en"]
