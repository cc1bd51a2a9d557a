"""Reproduces exact and published results, draws each, and says in one table whether they hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, quoted, split_list
from gradflow.commands.columns import aligned, told
from gradflow.commands.sweeping.signals import TRAIN, patiently
from gradflow.commands.words import Told, Words, lang, start, word

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "gradflow reproduce                                           six minutes on two cores",
    "gradflow reproduce scale=full only=temporal_order,adding",
)


class Trained(NamedTuple):
    """A result that networks are trained for, by the sweep ``experiment=reproduce_<name>``.

    Attributes:
        quantity: what is compared, see :func:`gradflow.analysis.accuracy_by_lag`.
        check: the function of :mod:`gradflow.analysis` that makes the claims on it.
        quick: what narrows the sweep.
        full: what all of it takes.
    """

    quantity: str
    check: str
    quick: tuple[str, ...]
    full: str


TRAINED = {
    "temporal_order": Trained(
        "success",
        "temporal_order_claims",
        ("data.length=40", "network=pascanu_smart", "train.iterations=12000", "data.test_size=2000"),
        "180 runs of up to 20,000 updates, about an hour and a quarter on two cores",
    ),
    "adding": Trained(
        "loss",
        "adding_claims",
        ("seed=0", "train.iterations=3000"),
        "40 runs of up to 10,000 updates, about 10 minutes on two cores",
    ),
    "roll_call": Trained(
        "accuracy",
        "roll_call_claims",
        ("seed=0", "data.names_per_sequence=8,2"),
        "240 runs of 500 updates, about 25 minutes on two cores",
    ),
}


def exact(name: str, folder: Path, lang: str) -> list[dict[str, Any]]:
    """Computes, checks and draws an exact result."""
    import torch  # here, so that --help does not wait for it

    torch.set_num_threads(1)  # small matrices gain nothing from more, and lose much where cores are shared
    made = gf.figures.make(gf.figures.EXACT[name], gf.theory.EXACT[name](), lang=lang)
    made.save(folder / "figures" / lang / name)
    return made.claims


def trained(name: str, folder: Path, lang: str, *, quick: bool, launcher: str) -> list[dict[str, Any]]:
    """Trains what has not been trained yet, checks and draws."""
    what = TRAINED[name]
    settings = [f"experiment=reproduce_{name}", f"launcher={launcher}", f"hydra.sweep.dir={quoted(str(folder / name))}"]
    status = patiently([*TRAIN, *settings, *(what.quick if quick else ())])
    if status and not (folder / name).is_dir():
        sys.exit(f"{name}: the sweep did not start, see above")
    sweep = gf.open_sweep(folder / name).readable
    data = gf.analysis.accuracy_by_lag(sweep, what.quantity)
    minutes = sum(run.scalars["wall_time"].max() for run in sweep.members if len(run.scalars)) / 60
    spent = f", {len(sweep.members)} runs, {minutes:.0f} minutes of training in all"
    claims = [entry | {"protocol": entry["protocol"] + spent} for entry in getattr(gf.analysis, what.check)(data)]
    made = gf.figures.make(gf.figures.GALLERY["accuracy_by_lag"], data, runs=sweep.members, lang=lang)
    made._replace(claims=[*made.claims, *claims]).save(folder / "figures" / lang / name)
    broken = [entry | {"holds": False, "told": f"{entry['told']}; some runs failed"} for entry in claims]
    return broken if status else claims


def printed(table: pd.DataFrame) -> str:
    """The table of verdicts for a terminal: what, the expected number with its tolerance, the worst one measured."""
    measured = [row if isinstance(row, str) else f"{row:.6g}" for row in table["measured"]]
    where = [f" ({place})" if isinstance(place, str) else "" for place in table["where"]]
    rows = zip(
        ["pass" if holds else "FAIL" for holds in table["holds"]],
        table["what"],
        table["expected"],
        [value + place for value, place in zip(measured, where, strict=True)],
        strict=True,
    )
    return aligned([("verdict", "result", "expected", "measured, at worst"), *rows])


def keep(table: pd.DataFrame, file: Path) -> None:
    """Writes the verdicts, beside those of other results that the file holds from before."""
    import pandas as pd

    from gradflow.figures.output import csv_of
    from gradflow.files import write_files

    if file.is_file():
        try:
            before = pd.read_csv(file)
            table = pd.concat([before[~before["result"].isin(table["result"])], table])
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{file}: expected earlier verdicts, got other contents ({error}); move it away"
            ) from error
    write_files({file: csv_of(table)})


def results(only: str) -> list[str]:
    """The names of the results that are asked for, each checked."""
    known = [*gf.figures.EXACT, *TRAINED]
    wanted = known if only == "all" else split_list(only)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise Told(f"only: expected one of {', '.join(known)}, got {', '.join(unknown) or 'nothing'}")
    return wanted


@click.command("reproduce", cls=Words, examples=EXAMPLES)
@word("scale", "quick", "quick, or full: all lengths, starts and seeds, which takes hours.", ("quick", "full"))
@word("only", "all", "Names with commas between them, or all.")
@word("path", "outputs/reproduce", "Folder; runs, figures and the table go below it.")
@lang
@word("launcher", "processes", "How the networks are trained.", LAUNCHERS)
def command(scale: str, only: str, path: str, lang: str, launcher: str) -> None:
    """Reproduce exact and published results, draw each, and say in one table whether they hold.

    The same command goes on where it was interrupted. Exact results take seconds; networks are trained for
    temporal_order, adding and roll_call (scale=full: an hour and a quarter, 10 minutes, 25 minutes on two cores).
    """
    folder = Path(path) / scale
    claims: dict[str, list[dict[str, Any]]] = {}
    try:
        for name in results(only):
            sys.stderr.write(f"{name} ...\n")
            if name in TRAINED:
                claims[name] = trained(name, folder, lang, quick=scale == "quick", launcher=launcher)
            else:
                claims[name] = exact(name, folder, lang)
        table = gf.analysis.verdict_table(claims)
        keep(table, folder / "verdicts.csv")
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted; the same command goes on in {folder}.\n")
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(told(error))
    passed = int(table["holds"].sum())
    print(printed(table))
    print(f"\n{passed} of {len(table)} hold; protocols in {folder / 'verdicts.csv'}, figures in {folder / 'figures'}")
    if passed < len(table):
        sys.exit(1)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
