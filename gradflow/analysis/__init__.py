"""From recorded runs to finished numbers: what figures draw and tables print.

Each analysis takes a run, a sweep or a sequence of runs and returns one tidy table; beside that of a figure stands a
function that checks on such a table what the figure claims. The tables of :mod:`gradflow.theory` are checked here in
the same way. Rates and horizons, explosions, drift of the spectrum and ranking have a row per run (and iteration), and
:func:`over_seeds` gives any of them an interval. Pure functions, no torch and no plotting.

Names are loaded when first used; those of a figure lie in its folder, see :mod:`gradflow.figures.room`.
"""

from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import Any

_HOMES = {
    "adding_claims": "reproductions",
    "by_module": "modules",
    "by_task": "tasks",
    "clipped_share": "clipping",
    "difference_over_seeds": "seeds",
    "effective_lag": "credit",
    "ending": "ends",
    "exploding_events": "explosions",
    "explosion_threshold": "explosions",
    "factor_per_step": "by_lag",
    "gradient_decay": "decay",
    "horizon": "reach",
    "identity": "runs",
    "mean_interval": "seeds",
    "over_seeds": "seeds",
    "proof_claims": "proofs",
    "ranking": "ranks",
    "roll_call_claims": "reproductions",
    "runs_of": "runs",
    "solved_at": "results",
    "spectral_distance": "drift",
    "spectrum_drift": "drift",
    "temporal_order_claims": "reproductions",
    "vanishing_lag": "decay",
    "verdict_table": "verdicts",
    "weight_gradient_reach": "credit",
    "wilson_interval": "results",
}


_OF_A_TABLE = {"adding_claims", "roll_call_claims", "temporal_order_claims"}


def _of_figures() -> dict[str, Any]:
    """Name -> the record of the figure whose numbers have it."""
    rooms = import_module("gradflow.figures.room").rooms()
    return {name: room for room in rooms.values() for name in room.analyses}


@cache
def _of_a_table(claims: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a figure's claims, which names its argument where it is not the table of that figure."""

    @wraps(claims)
    def checked(data: Any) -> Any:
        try:
            return claims(data)
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            columns = list(data)[:8] if hasattr(data, "iloc") else type(data).__name__
            raise ValueError(
                f"data: expected the table of {claims.__name__.removesuffix('_claims')}, got {columns} ({error})"
            ) from error

    return checked


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted([*_HOMES, *_of_figures()])
    if name in _HOMES:
        found = getattr(import_module(f"gradflow.analysis.{_HOMES[name]}"), name)
        return _of_a_table(found) if name in _OF_A_TABLE else found
    if not name.startswith("_") and name in (figures := _of_figures()):
        found = getattr(figures[name].part("numbers"), name)
        return _of_a_table(found) if name.endswith("_claims") else found
    raise AttributeError(f"module 'gradflow.analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __getattr__("__all__")
