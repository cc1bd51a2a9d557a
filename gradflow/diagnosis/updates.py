"""What the updates do: numbers that are none, explosions, the threshold of clipping, weights thrown about."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.clipping import log_norm_before
from gradflow.analysis.drift import spectrum_drift
from gradflow.analysis.explosions import FENCE, FEWEST, WINDOW, exploding_events
from gradflow.analysis.runs import SOME, UNCLIPPED, identity, losses, recorded
from gradflow.analysis.spectrum import largest_singular_value, of_gate
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.condition import Condition, Measurement, Remedy, Unknown
from gradflow.diagnosis.memory import grows
from gradflow.diagnosis.remedies import adaptive, calmer, clipped_at, lower_rate, slower

LOW, HIGH = 0.5, 10.0  # of the mean norm: where Pascanu et al. 2013, sec. 3.2 found thresholds to work
RISEN = 1.5  # times the usual loss: above the noise of small batches
_FEW = 4  # harmless norms at least that a median is taken of
_LOOKED_AT = 20  # of the largest updates, whether the loss rose there
_COLUMNS = ["log_grad_norm_before", "log_grad_norm_after", "clipped", "non_finite", "loss"]


def _scalars(case: Case) -> pd.DataFrame:
    scalars = case.run.frame("scalars", columns=_COLUMNS)
    if scalars.empty:
        raise Unknown("no_iterations")
    return scalars.set_index("iteration")


def _norms(scalars: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Norms before and after clipping, those that are finite."""
    before, after = np.exp(log_norm_before(scalars)), np.exp(scalars["log_grad_norm_after"])
    finite = np.isfinite(before) & (before > 0)
    return before[finite], after[finite]


def _usual(norm: pd.Series) -> pd.Series:
    return norm[norm <= HIGH * norm.median()]


def usual_norm(scalars: pd.DataFrame) -> float:
    """Mean norm before clipping, without those beyond HIGH times the median; NaN where no norm is finite."""
    norm, _ = _norms(scalars)
    return float(_usual(norm).mean())


def greatest_usual_norm(scalars: pd.DataFrame) -> float:
    """The greatest :func:`usual_norm` of any WINDOW updates: a network that has learned has a small one at the end."""
    return float(pd.Series([usual_norm(own) for own in _windows(scalars)]).max())


def _windows(rows: Any) -> list[Any]:
    """A table or column in parts of WINDOW rows; what is left over goes with the last."""
    last = max(1, len(rows) // WINDOW) - 1
    return [own for _, own in rows.groupby(np.minimum(np.arange(len(rows)) // WINDOW, last))]


def not_finite(case: Case) -> Measurement:
    """In how many iterations the loss or a gradient was NaN or infinite."""
    scalars = _scalars(case)
    loss = losses(case.run)
    broken = (scalars["non_finite"] == 1) | (scalars["log_grad_norm_after"] == np.inf)
    broken |= (~np.isfinite(loss)).reindex(scalars.index, fill_value=False)
    count = int(broken.sum())
    first = float(scalars.index[broken][0]) if count else math.nan
    values: dict[str, Any] = {"first": first, "total": len(scalars), "norm": math.nan} | lower_rate(case)
    remedy = calmer(case, growth=_growth(case)) if count else Remedy()
    before = np.exp(log_norm_before(scalars).loc[: first - 1].clip(upper=700)) if count else pd.Series(dtype=float)
    before = before[np.isfinite(before)]
    if len(before):
        values["norm"] = float(before.iloc[-1])
    elif count:
        values["variant"] = "from_the_start"
    return Measurement(count, 0, count > 0, remedy=remedy, values=values)


def _growth(case: Case) -> Remedy | None:
    """What helps where the gradient grows with every step back; None: it does not, as far as the log tells."""
    for place in case.places:
        try:
            found = grows(case, place)
        except ValueError:
            continue
        if found.ill:
            return found.remedy
    return None


def explodes(case: Case) -> Measurement:
    """How many times the mean over many updates the largest norm is that the optimiser got, if the loss rose there."""
    scalars = _scalars(case)
    after = np.exp(scalars["log_grad_norm_after"].clip(upper=700))
    after = after[np.isfinite(after)]
    mean = _mean_before(after)
    ratio = (after / mean.where(mean > 0)).dropna()
    if ratio.empty:
        raise Unknown("few_norms")
    beyond = ratio[ratio > HIGH].nlargest(_LOOKED_AT)
    rose = [_rose(scalars["loss"], int(at)) for at in beyond.index]
    harmful = beyond[[bool(level > fence) for _, level, fence in rose]]
    at = int(harmful.index[0] if len(harmful) else ratio.idxmax())
    events = exploding_events(case.run, before=0)
    before, level, fence = _rose(scalars["loss"], at)
    values = {"iteration": at, "norm": float(after[at]), "mean": float(mean[at]), "events": len(events)}
    values |= {"sigma": _sigma(case, at), "loss_before": before, "loss_after": level}
    if len(beyond) and math.isnan(fence):
        raise Unknown("no_loss", float(ratio[at]), HIGH, **values)
    if not len(harmful):
        variant = "harmless" if len(beyond) else ""
        return Measurement(float(ratio[at]), HIGH, False, values=values | {"variant": variant})
    remedy, about = _held(case, scalars["loss"], after, int(harmful.index.min()))
    return Measurement(float(ratio[at]), HIGH, True, remedy=remedy, values=values | about | lower_rate(case))


def _held(case: Case, loss: pd.Series, norm: pd.Series, first: int) -> tuple[Remedy, dict[str, Any]]:
    """What holds explosions, the first of which is told, and what is said of it.

    Clipping at LOW times the median of the norms before it that did no harm: in a training that is about to explode
    their mean is too high. Where fewer than _FEW did none, at the least norm before it, at a lower rate.
    """
    if adaptive(case):
        return slower(case), {"variant": "adaptive"}
    before = norm.loc[: first - 1]
    before = before[before > 0]
    calm = before[_calm(loss).reindex(before.index, fill_value=False)]
    if len(calm) < _FEW:
        threshold = _two_digits(float(before.min()))
        return calmer(case, threshold), {"variant": "from_the_start", "suggested": threshold}
    threshold = _two_digits(LOW * max(float(own.median()) for own in _windows(calm)))
    return clipped_at(case, threshold), {"suggested": threshold}


def _calm(loss: pd.Series) -> pd.Series:
    """Of each update whether the loss did not rise by it: the next is below the fence of the ten until then."""
    last = loss.rolling(10, min_periods=1)
    return loss.shift(-1) <= _fence(*(last.quantile(share) for share in (0.25, 0.5, 0.75)))


def _mean_before(norm: pd.Series) -> pd.Series:
    """The mean of the norms before each; of the first FEWEST, before which there are too few, at most the usual one.

    That is the usual norm of the first WINDOW updates: a training that explodes at its second or third update, or in
    steps, would be held against what is part of the explosion. NaN before the first update.
    """
    mean, first = norm.expanding().mean().shift(), norm.head(WINDOW)
    usual = _usual(first).mean()
    early = np.arange(len(norm)) < FEWEST
    return mean.where(~early, mean.clip(upper=usual))


def _rose(loss: pd.Series, at: int) -> tuple[float, float, float]:
    """Of the ten iterations before one the median loss, and its fence; between them the loss then or later.

    The fence is Tukey's outer one, and at least RISEN times the median.

    That is the median of the five after it, infinite where one of them is none; or at the iteration, if that is higher
    than what training began with: below that, of a network that has learned, one hard batch has such a loss.
    """
    before, after = loss.loc[: at - 1], loss.loc[at + 1 :].head(5)
    low, middle, high = before.tail(10).quantile([0.25, 0.5, 0.75])
    later = float(after.median()) if np.isfinite(after).all() else math.inf
    told = [later] if len(after) else [float(loss[at])]
    told += [float(loss[at])] if loss[at] > before.head(10).median() else []
    return float(middle), max(told), float(_fence(low, middle, high))


def _fence(low: Any, middle: Any, high: Any) -> Any:
    """Above which a loss has risen, given the quartiles of those before."""
    return np.maximum(high + FENCE * (high - low), middle + (RISEN - 1) * np.abs(middle))


def _sigma(case: Case, at: int) -> float:
    """The largest singular value of the recurrent weights at the last record until then; NaN where there is none."""
    known = largest_singular_value(case.run).loc[:at]
    return float(known.iloc[-1]) if len(known) else math.nan


def _in_the_middle(mean: float) -> float:
    """A threshold in the middle of the range that works."""
    return _two_digits(math.sqrt(LOW * HIGH) * mean)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _clip_ratio(
    case: Case, mean: Callable[[pd.DataFrame], float] = usual_norm
) -> tuple[float, dict[str, float]] | None:
    """The threshold of clipping over the mean norm; None: there is no clipping by norm."""
    scalars, name = _scalars(case), identity(case.run)["clip"].split(",")[0]
    if name in UNCLIPPED or name not in ("norm", SOME):
        return None
    before, after = _norms(scalars)
    clipped = scalars["clipped"].reindex(before.index) == 1
    usual = mean(scalars)
    known = case.setting("clip.threshold", float, math.nan)
    threshold = known if math.isfinite(known) else float(after[clipped].median()) if clipped.any() else math.nan
    if math.isnan(usual):
        raise Unknown("few_norms")
    if math.isnan(threshold):
        raise Unknown("no_clip_threshold", suggested=_in_the_middle(usual), usual=usual)
    share = 100 * float(scalars["clipped"].mean())
    values = {"c": threshold, "usual": usual, "share": share, "suggested": _in_the_middle(usual)}
    return threshold / usual, values | {"low": LOW * usual, "high": HIGH * usual}


def clips_always(case: Case) -> Measurement | None:
    """Whether the threshold lies so low that hardly an update is left as it is.

    It is held against the lower quartile of the norms before clipping: where a few large ones make the mean, which is
    what clipping is for, half of the mean may be more than most of the norms.
    """
    found = _clip_ratio(case)
    if found is None:
        return None
    _, values = found
    before, _ = _norms(_scalars(case))
    quartile = float(before.quantile(0.25))
    ratio = values["c"] / quartile
    remedy = clipped_at(case, values["suggested"])
    return Measurement(ratio, LOW, ratio < LOW, remedy=remedy, values=values | {"quartile": quartile})


def clips_never(case: Case) -> Measurement | None:
    """Whether the threshold lies so high that it would not hold an explosion at any time of the training.

    One that cuts an update in every WINDOW is none: a network that learns quickly has a small norm most of the time.
    """
    found = _clip_ratio(case, greatest_usual_norm)
    if found is None:
        return None
    ratio, values = found
    clipped = _scalars(case)["clipped"] == 1
    high, cuts = ratio > HIGH, clipped.sum() >= max(1, len(clipped) // WINDOW)
    told = values | {"variant": "at_work" if high and cuts else ""}
    return Measurement(ratio, HIGH, high and not cuts, remedy=clipped_at(case, values["suggested"]), values=told)


def drifts(case: Case, place: Place) -> Measurement:
    """How far the recurrent weights moved between two records, over their size before, or that of torch's start."""
    [(_, frame)] = recorded(place.run, "spectrum", ["singular_value"], **place.at)
    own = of_gate(frame)
    size = own.groupby("iteration")["singular_value"].agg(lambda values: math.sqrt(float((values**2).sum())))
    largest = own.groupby("iteration")["singular_value"].max()
    if len(size) < 2:
        raise Unknown("one_spectrum")
    moved = spectrum_drift(place.run, layer=place.layer, direction=place.direction)
    moved = moved[(moved["iteration"] - moved["since"]) <= WINDOW]
    usual = math.sqrt(own.groupby("iteration").size().max() / 3)  # ||W||_F of torch's U(-1/sqrt(H), 1/sqrt(H))
    before = size.reindex(moved["since"]).clip(lower=usual).to_numpy()
    relative = (moved["frobenius"] / before).set_axis(moved["iteration"]).dropna()
    relative = relative[np.isfinite(relative)]
    if relative.empty:
        raise Unknown("one_spectrum")
    worst, at = float(relative.max()), int(relative.idxmax())
    values: dict[str, Any] = {
        "iteration": at,
        "first": float(largest.iloc[0]),
        "last": float(largest.iloc[-1]),
        "percent": 100 * worst,
    }
    values |= lower_rate(case)
    return Measurement(worst, 1.0, worst > 1, worst, slower(case), values)


NON_FINITE = Condition("non_finite", "iterations", not_finite, "clipping_effect", whole=True)
CONDITIONS = [
    Condition("explosions", "1", explodes, "clipping_effect", whole=True),
    Condition("clipping_always", "1", clips_always, "clipping_effect", whole=True),
    Condition("clipping_never", "1", clips_never, "clipping_effect", whole=True),
    Condition("spectrum_drift", "1", drifts, "weight_spectrum"),
]
