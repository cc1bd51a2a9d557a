"""Shows how a run goes: what it is, its curves as lines of blocks, and what went wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gradflow.commands.columns import told, width
from gradflow.commands.words import Words, runs_in

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group

    from gradflow.analysis.ends import Ending
    from gradflow.runlog import Run

SECONDS = 2.0  # between two looks at a run that is going on
LAST = 4  # lines of a traceback
MOST = 8  # layers and directions whose gradients are shown
LONGEST = 300  # characters of a line
CURVES = {
    "loss": "loss",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "log_grad_norm_before": "ln ‖gradient‖",
}
"""Column of the scalars -> what it is called."""
BY_LAG = {
    "log_state_gradient_q50": "ln‖dL/dh‖ by lag",
    "log_anchored_gradient_q50": "ln‖∂L_s/∂h‖ by lag",
}


class Row(NamedTuple):
    """A line of what is shown: a name, a line of blocks, and words."""

    name: str
    curve: str = ""
    words: str = ""
    style: str = ""


def rows_of(run: Run) -> list[Row]:
    """All that is shown of a run.

    Raises:
        Unreadable: A file of it is damaged.
    """
    from gradflow.analysis import ending
    from gradflow.commands.terminal import STYLES

    end, scalars = ending(run), run.scalars
    status = end.status
    head = Row("run", "", str(run.path))
    state = Row("status", "", _state(end), STYLES.get(status, ""))
    proof = Row("proof", "", run.proof, STYLES.get(run.proof, ""))
    curves = [*_curves(scalars, run.meta), *_clipped(scalars), *_by_lag(run)]
    return [head, state, *_facts(run), *curves, proof, *_trouble(run)]


def _state(end: Ending) -> str:
    from gradflow.commands.report import progress

    return f"{end.status}, {progress(end)}" + " on disk" * (end.status == "running")  # it writes once a minute


def _facts(run: Run) -> list[Row]:
    """The recorded layers as torch prints them, and the settings that are not the default ones."""
    modules = [
        Row("layer", "", f"{name or '(the model)'}: {text}") for name, text in run.meta.get("modules", {}).items()
    ]
    settings = " ".join(_settings(run.config))
    return [*modules[:MOST], *([Row("settings", "", settings)] if settings else [])]


def _settings(config: dict[str, Any]) -> Iterator[str]:
    from gradflow.analysis.tasks import flatten
    from gradflow.config import Config

    default = flatten(json.loads(json.dumps(asdict(Config()))))
    for key, value in flatten(config).items():
        if key not in default or default[key] != value:
            yield f"{key.removesuffix('.name')}={value}"


def _curves(scalars: pd.DataFrame, meta: dict[str, Any]) -> Iterator[Row]:
    from gradflow.commands.terminal import sparkline

    for column, name in CURVES.items():
        values = scalars.get(column, scalars["loss"].iloc[:0]).dropna()
        if len(values):
            chance = meta.get("chance") if column == "test_accuracy" else None
            words = f"{values.iloc[0]:.3g} → {values.iloc[-1]:.3g}" + (f" (chance {chance:.3g})" if chance else "")
            yield Row(name, sparkline(values.to_list()), words)


def _clipped(scalars: pd.DataFrame) -> Iterator[Row]:
    """The share of the iterations in which clipping changed the gradients, of those that tell."""
    from gradflow.commands.terminal import sparkline

    known = scalars["clipped"].dropna()
    if len(known) and known.any():
        yield Row("clipped", sparkline(known.to_list()), f"{known.mean():.0%} of {len(known):,} iterations")
    bad = int(scalars["non_finite"].sum())
    if bad:
        yield Row("not finite", "", f"gradients of {bad:,} of {len(scalars):,} iterations", "bold red")


def _by_lag(run: Run) -> Iterator[Row]:
    """Of each layer and direction the gradient of the states by lag, at the last iteration that has it."""
    known = [column for column in BY_LAG if column in run.columns["lag"]]
    frame = run.frame("lag", columns=known)
    for column in known:
        values = frame.dropna(subset=[column])
        values = values[values["iteration"] == values["iteration"].max()]
        groups = list(values.groupby(["module", "layer", "direction"], observed=True))
        for (module, layer, direction), group in groups[-MOST:]:
            where = [str(module)] + [f"layer {layer}"] * (layer > 0) + ["reverse"] * (direction == 1)
            yield _profile(BY_LAG[column], group.groupby("lag")[column].last(), " ".join(filter(None, where)))


def _profile(name: str, by_lag: pd.Series, where: str) -> Row:
    from gradflow.commands.terminal import sparkline

    first, last = by_lag.iloc[0], by_lag.iloc[-1]
    return Row(name, sparkline(by_lag.to_list()), f"{first:.3g} → {last:.3g} nats at lag {by_lag.index[-1]}, {where}")


def _trouble(run: Run) -> Iterator[Row]:
    if run.error:
        yield Row("error", "", run.error, "bold red")
    from gradflow.commands.sweeping.standing import read_status

    trace = read_status(run.path).get("error_traceback")
    lines = trace.rstrip().splitlines()[-LAST - 1 : -1] if isinstance(trace, str) else []
    yield from (Row("", "", line, "dim") for line in lines)


def rendered(rows: Sequence[Row]) -> Group:
    """Rows as what rich prints: columns of equal width, and nothing that steers the terminal."""
    from rich.console import Group
    from rich.text import Text

    from gradflow.foreign import printable

    names, curves = (max((width(cell) for cell in column), default=0) for column in list(zip(*rows, strict=True))[:2])
    lines = []
    for row in rows:
        curve = row.curve + " " * (curves - width(row.curve) + 2) if row.curve else ""
        line = Text(row.name + " " * (names - width(row.name) + 2), style="bold", no_wrap=True, overflow="ignore")
        line.append(curve, style="not bold cyan")
        line.append(printable(row.words, LONGEST), style=f"not bold {row.style}".strip())
        lines.append(line)
    return Group(*lines)


@click.command("show", cls=Words, examples=("gradflow show outputs/train/DATE",))
@runs_in("run")
def command(run: str) -> None:
    """Show how a run goes: status, settings, curves of loss, accuracy and gradients, dL/dh by lag, proof, errors.

    On a terminal a run that is going on is followed to its end; Ctrl-C ends the following, not the run.
    """
    import gradflow as gf
    from gradflow.commands.terminal import console

    out = console()
    try:
        opened = gf.open_run(Path(run))
        if opened.status == "running" and out.is_terminal and not out.is_dumb_terminal:
            _follow(opened, out)
        else:
            out.print(rendered(rows_of(opened)), soft_wrap=True)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(told(error, "run"))


def _follow(run: Run, out: Any) -> None:
    from rich.live import Live

    with Live(rendered(rows_of(run)), console=out, auto_refresh=False, vertical_overflow="visible") as live:
        while run.status == "running":
            time.sleep(SECONDS)
            live.update(rendered(rows_of(run)), refresh=True)
