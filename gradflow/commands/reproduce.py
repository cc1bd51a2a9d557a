"""Reproduces exact and published results, draws each, and says in one table whether they hold.

    python experiments/reproduce.py scale=quick
    python experiments/reproduce.py scale=full only=temporal_order,adding

scale     quick: everything within ten minutes on two cores; full: all lengths, starts and seeds, which takes hours
only      names with commas between them; everything if left out
path      a folder; runs, figures and the table go below it, and the same command goes on where it was interrupted
lang      language of the figures: en, zh
launcher  how the networks are trained: processes, local, slurm, ray

Exact, in seconds: NAMES
By training:
FULL
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, quoted, read_arguments
from gradflow.commands.columns import aligned, told
from gradflow.commands.sweeping.signals import patiently
from gradflow.figures.output import csv_of
from gradflow.files import write_files

TRAIN = (sys.executable, "-m", "gradflow.commands.train")
LANG = ["en", "zh"]


class Trained(NamedTuple):
    """A result that networks are trained for, by the sweep ``experiment=reproduce_<name>``.

    Attributes:
        quantity: what is compared, see :func:`gradflow.analysis.accuracy_by_lag`.
        check: the claims on it.
        quick: what narrows the sweep.
        full: what all of it takes.
    """

    quantity: str
    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    quick: tuple[str, ...]
    full: str


TRAINED = {
    "temporal_order": Trained(
        "success",
        gf.analysis.temporal_order_claims,
        ("data.length=40", "network=pascanu_smart", "train.iterations=12000", "data.test_size=2000"),
        "180 runs of up to 20,000 updates, about an hour and a quarter on two cores",
    ),
    "adding": Trained(
        "loss",
        gf.analysis.adding_claims,
        ("seed=0", "train.iterations=3000"),
        "40 runs of up to 10,000 updates, about 10 minutes on two cores",
    ),
    "roll_call": Trained(
        "accuracy",
        gf.analysis.roll_call_claims,
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
    claims = [entry | {"protocol": entry["protocol"] + spent} for entry in what.check(data)]
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
    if file.is_file():
        try:
            before = pd.read_csv(file)
            table = pd.concat([before[~before["result"].isin(table["result"])], table])
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{file}: expected earlier verdicts, got other contents ({error}); move it away"
            ) from error
    write_files({file: csv_of(table)})


def arguments() -> dict[str, Any]:
    """The command line: scale, only (a list), path, lang, launcher.

    Raises:
        SystemExit: With a line that says what is wrong.
    """
    names = [*gf.figures.EXACT, *TRAINED]
    full = "\n".join(f"  {name:<16}full: {entry.full}" for name, entry in TRAINED.items())
    usage = (__doc__ or "").replace("NAMES", ", ".join(gf.figures.EXACT)).replace("FULL", full)
    defaults = {"only": ",".join(names), "path": "outputs/reproduce", "lang": "en", "launcher": "processes"}
    given: dict[str, Any] = read_arguments(usage, sys.argv[1:], **({"scale": "quick"} | defaults))
    given["only"] = given["only"].split(",")
    checks = {"scale": ["quick", "full"], "only": names, "lang": LANG, "launcher": LAUNCHERS}
    for argument, known in checks.items():
        values = given[argument] if argument == "only" else [given[argument]]
        unknown = [value for value in values if value not in known]
        if unknown:
            sys.exit(f"{argument}: expected one of {', '.join(known)}, got {', '.join(unknown)}")
    return given


def main() -> None:
    """The command line."""
    given = arguments()
    folder, quick = Path(given["path"]) / given["scale"], given["scale"] == "quick"
    claims: dict[str, list[dict[str, Any]]] = {}
    try:
        for name in given["only"]:
            sys.stderr.write(f"{name} ...\n")
            if name in TRAINED:
                claims[name] = trained(name, folder, given["lang"], quick=quick, launcher=given["launcher"])
            else:
                claims[name] = exact(name, folder, given["lang"])
        table = gf.analysis.verdict_table(claims)
        keep(table, folder / "verdicts.csv")
    except KeyboardInterrupt:
        sys.exit(f"\nInterrupted; the same command goes on in {folder}.")
    except (ValueError, OSError) as error:
        sys.exit(told(error))
    passed = int(table["holds"].sum())
    print(printed(table))
    print(f"\n{passed} of {len(table)} hold; protocols in {folder / 'verdicts.csv'}, figures in {folder / 'figures'}")
    sys.exit(0 if passed == len(table) else 1)
