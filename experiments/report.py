"""How a run ended, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradflow.runlog import Run

COLUMNS = {"test_accuracy": "test accuracy", "test_loss": "test loss", "wall_time": "seconds"}


def summary(run: Run) -> dict[str, object]:
    """Status and iterations of a run, and the last values it recorded of test accuracy, loss (nats) and seconds."""
    scalars = run.scalars
    last: dict[str, object] = {}
    for column, name in COLUMNS.items():
        values = scalars[column].dropna().tolist() if column in scalars else []
        last[name] = values[-1] if values else float("nan")
    return {"status": run.status, "iterations": len(scalars), **last}


def describe(run: Run) -> str:
    """How a run ended, such as `finished, 500 iterations, test accuracy 0.930, 3.1 s`, or its error."""
    if run.error:
        return f"{run.status}: {run.error}"
    values = summary(run)
    return (
        f"{values['status']}, {values['iterations']} iterations, "
        f"test accuracy {values['test accuracy']:.3f}, {values['seconds']:.1f} s"
    )
