"""When the gradient exploded, and what came before."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.clipping import log_norm_before
from gradflow.analysis.runs import Run, check_place, collect, runs_of
from gradflow.analysis.spectrum import largest_singular_value
from gradflow.checks import check_kind, real_number, whole_number

FENCE = 3.0  # interquartile ranges above the upper quartile, from which Tukey calls a value far out
LEAST = np.log(2)  # and at least twice the median, however little the norm varies
WINDOW = 100  # iterations before, of which the quartiles are taken
FEWEST = 10  # of them with a finite norm


def explosion_threshold(log_norm: pd.Series, fence: float = FENCE, window: int = WINDOW) -> pd.Series:
    """Natural log of the norm above which a gradient has exploded, given those of the iterations before it.

    Tukey's outer fence (Exploratory Data Analysis, 1977, ch. 2) on ln‖g‖, over the past alone:
    max(q75 + fence · (q75 - q25), median + ln 2), of the finite norms among the `window` iterations before. A slow fall
    or growth of the norm moves the threshold along, and up to a quarter of the window may have exploded.

    Args:
        log_norm: ln‖g‖ before clipping, one per iteration.
        fence: How many interquartile ranges above the upper quartile.
        window: How many iterations before are looked at.

    Returns:
        One per iteration; NaN where fewer than FEWEST norms before it are finite.

    Example:
        >>> np.exp(explosion_threshold(pd.Series(np.zeros(12)))).round(6).tolist()[8:]
        [nan, nan, 2.0, 2.0]
    """
    check_kind("log_norm", log_norm, pd.Series, "a pandas Series of numbers")
    fence, window = real_number("fence", fence, above=0), whole_number("window", window, 1)
    past = log_norm.where(np.isfinite(log_norm)).shift().rolling(window, min_periods=min(FEWEST, window))
    low, median, high = (past.quantile(share) for share in (0.25, 0.5, 0.75))
    return np.maximum(high + fence * (high - low), median + LEAST)


def exploding_events(
    source: Any,
    *,
    before: int = 5,
    fence: float = FENCE,
    window: int = WINDOW,
    layer: int | None = None,
    direction: int = 0,
) -> pd.DataFrame:
    """Every explosion of the gradient norm before clipping, with the iterations that led up to it.

    An event starts at an iteration whose norm exceeds :func:`explosion_threshold`, or is not finite, and lasts until
    one whose norm does not.

    Args:
        source: A run, a sweep, or a sequence of runs.
        before: Iterations before each event to tell of.
        fence: See :func:`explosion_threshold`.
        window: See :func:`explosion_threshold`.
        layer: Whose singular value is told, 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, event (from 0, within the run), lasted (iterations), peak (largest norm of the event),
        offset (-before to 0, where the event starts), iteration, norm (of all gradients before clipping; the only one
        where clipping was not recorded), fence (the norm above which it explodes), loss, sigma_1 (the largest singular
        value of the recurrent weights at the last record so far; NaN where there is none), clipped, non_finite (0 or 1;
        NaN where the log does not say). No rows where nothing exploded; the events alone are
        `data[data["offset"] == 0]`.

    Raises:
        ValueError: No run recorded scalars.
    """
    before = whole_number("before", before, 0)
    fence, window = real_number("fence", fence, above=0), whole_number("window", window, 1)
    check_place(layer, direction)
    parts = []
    for run in runs_of(source):
        norms = _norms(run, fence, window)
        if len(norms):
            spectrum = largest_singular_value(run, layer=layer, direction=direction)
            norms["sigma_1"] = _latest(spectrum, norms["iteration"])
            parts.append((run, _events(norms, before)))
    if not parts:
        raise ValueError("scalars: expected at least one recorded iteration, got none in any run")
    return collect(parts)


def _norms(run: Run, fence: float, window: int) -> pd.DataFrame:
    told = ["loss", "clipped", "non_finite"]
    columns = ["log_grad_norm_before", "log_grad_norm_after", *told]
    scalars = run.frame("scalars", columns=columns).set_index("iteration")
    log_norm = log_norm_before(scalars)
    threshold = explosion_threshold(log_norm, fence, window)
    broken = (log_norm == np.inf) | (log_norm.isna() & (scalars["non_finite"] == 1))
    table = scalars[told].assign(norm=np.exp(log_norm), fence=np.exp(threshold))
    return table.assign(exploded=(log_norm > threshold) | broken).reset_index()


def _events(norms: pd.DataFrame, before: int) -> pd.DataFrame:
    starts, ends = _bursts(norms["exploded"].to_numpy())
    parts = [_around(norms, event, *span, before) for event, span in enumerate(zip(starts, ends, strict=True))]
    columns = ["event", "lasted", "peak", "offset", "iteration", "norm", "fence", "loss", "sigma_1"]
    nothing = norms.iloc[:0].assign(event=0, lasted=0, peak=0.0, offset=0)
    return (pd.concat(parts) if parts else nothing)[[*columns, "clipped", "non_finite"]]


def _bursts(exploded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where uninterrupted stretches of True start, and where they have ended."""
    change = np.diff(np.concatenate([[0], exploded.astype(int), [0]]))
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1)


def _around(table: pd.DataFrame, event: int, start: int, end: int, before: int) -> pd.DataFrame:
    rows = table.iloc[max(0, start - before) : start + 1]
    peak = table["norm"].iloc[start:end].max()
    offset = np.arange(len(rows)) - len(rows) + 1
    return rows.assign(event=event, lasted=end - start, peak=peak, offset=offset)


def _latest(values: pd.Series, iterations: pd.Series) -> np.ndarray:
    """The last value recorded at or before each iteration; NaN where there is none."""
    place = np.searchsorted(values.index.to_numpy(), iterations.to_numpy(), side="right") - 1
    return np.concatenate([values.to_numpy(), [np.nan]])[place]
