"""Imports point one way, wing by wing, and whoever breaks a rule is named with the line that does it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USES = {
    "checks": set(),
    "files": set(),
    "foreign": set(),
    "facts": set(),
    "tasks": {"checks"},
    "config": {"checks", "facts", "tasks"},
    "cells": {"checks", "facts"},
    "jacobian": {"checks", "cells"},
    "flow": {"checks", "cells", "jacobian"},
    "remedies": {"checks", "facts", "cells", "jacobian", "flow"},
    "runlog": {"gradflow", "checks", "files", "foreign"},
    "recording": {"checks", "facts", "cells", "jacobian", "flow", "remedies", "runlog"},
    "data": {"checks", "config", "tasks"},
    "training": {
        "checks",
        "facts",
        "config",
        "cells",
        "jacobian",
        "flow",
        "remedies",
        "recording",
        "data",
        "files",
        "runlog",
    },
    "theory": {"checks", "cells", "jacobian", "flow", "remedies"},
    "analysis": {"checks", "facts", "config"},
    "diagnosis": {"checks", "foreign", "facts", "tasks", "config", "runlog", "analysis"},
    "figures": {"checks", "files", "foreign", "facts", "tasks", "runlog", "analysis"},
    "exact": {"theory", "cells", "jacobian", "flow", "remedies"},
    "report": {"checks", "files", "foreign", "facts", "runlog", "analysis", "figures", "diagnosis"},
    "live": {
        "checks",
        "foreign",
        "facts",
        "config",
        "flow",
        "remedies",
        "recording",
        "files",
        "runlog",
        "data",
        "training",
        "theory",
        "analysis",
        "figures",
        "report",
    },
    "adapters": {"recording", "remedies"},
    "commands": {
        "gradflow",
        "adapters",
        "report",
        "live",
        "checks",
        "facts",
        "config",
        "tasks",
        "files",
        "foreign",
        "runlog",
        "data",
        "training",
        "theory",
        "analysis",
        "diagnosis",
        "figures",
    },
    "gradflow": set(),
    "__main__": {"commands"},
}
"""Wing -> the wings that it may import. Nothing else is allowed: a new edge is a decision, and stands here."""

TORCH_FREE = {
    "gradflow",
    "checks",
    "files",
    "foreign",
    "facts",
    "tasks",
    "config",
    "runlog",
    "data",
    "analysis",
    "diagnosis",
    "figures",
    "report",
}
PACKAGES = {
    "torch": set(USES) - TORCH_FREE - {"__main__"},
    "matplotlib": {"figures", "commands"},
    "seaborn": {"figures"},
    "pyarrow": {"runlog", "data"},
    "yaml": {"diagnosis", "figures", "runlog", "report", "live", "commands"},
    "altair": {"report", "live"},
    "jinja2": {"report"},
    "vl_convert": {"report"},
    "lightning": {"adapters"},
    "skorch": {"adapters"},
    "tensorboard": {"adapters"},
    "starlette": {"live"},
    "uvicorn": {"live"},
    "click": {"commands"},
    "rich": {"commands"},
    "hydra": {"commands"},
    "omegaconf": {"commands"},
    "experiments": set(),
    "tests": set(),
}
"""Package -> the wings that may know it. Analysis is numbers only: of the disk it knows nothing, see below."""

DISK = {f"recording/{name}.py" for name in ("recorder", "journal", "start", "quantities", "measuring")}
DISK |= {
    "diagnosis/examination.py",
    "figures/gallery.py",
    "figures/single.py",
    "report/writing.py",
    "live/training.py",
    "training/storage.py",
}
"""The only files outside of the wing `runlog` that know it."""


class WithoutAnnotations(ast.NodeTransformer):
    """Leaves out what only type checkers import."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def imported(text: str, *, when_run: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a text imports, at its top or inside its functions."""
    tree = ast.parse(text)
    for node in ast.walk(WithoutAnnotations().visit(tree) if when_run else tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def wing(place: str) -> str:
    """The wing of a file of gradflow, given from that folder: "flow/calls.py" is in flow.

    What is known of cells without torch is above all others; what computes an exact figure's table lies in the figure's
    folder and is loaded when called: both are wings of their own.
    """
    first, _, rest = place.partition("/")
    if place == "cells/facts.py":
        return "facts"
    if first == "figures" and rest.endswith("/exact.py"):
        return "exact"
    return first if rest else first.removesuffix(".py").replace("__init__", "gradflow")


def target(name: str) -> tuple[str, str]:
    """Package and, of gradflow, the wing that a full name belongs to."""
    package, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    if name.startswith("gradflow.cells.facts"):
        return package, "facts"
    return package, ("gradflow" if first not in USES else first) if package == "gradflow" else ""


def offences(place: str, text: str) -> list[str]:
    """What a file imports that its wing may not, each with its line."""
    own, found = wing(place), []
    for line, name in imported(text):
        package, other = target(name)
        may = own in PACKAGES.get(package, USES) if package != "gradflow" else other in USES[own] | {own}
        if other == "runlog" and own not in ("runlog", "commands") and place not in DISK:
            may = False
        if own == "analysis" and package in ("pathlib", "os"):
            may = False
        if not may:
            found.append(f"gradflow/{place}:{line} imports {name}")
    return found


def sources() -> dict[str, str]:
    folder = ROOT / "gradflow"
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.py"))}


SOURCES = sources()


def test_every_wing_has_a_rule():
    assert {wing(place) for place in SOURCES} == set(USES)


def test_the_rules_have_no_circle():
    TopologicalSorter(USES).prepare()  # raises CycleError


@pytest.mark.parametrize("name", sorted(USES))
def test_a_wing_imports_what_it_may(name):
    assert [told for place, text in SOURCES.items() if wing(place) == name for told in offences(place, text)] == []


def test_what_reads_uses_only_what_needs_no_torch():
    for name in TORCH_FREE:
        assert USES[name] <= TORCH_FREE


def test_no_file_imports_itself_by_a_detour():
    def homes(name: str) -> set[str]:
        path = name.removeprefix("gradflow.").replace(".", "/")
        return {f"{path}.py", f"{path.rpartition('/')[0]}.py"}

    graph = {
        place: {
            home for _, name in imported(text, when_run=True) if name.startswith("gradflow.") for home in homes(name)
        }
        & set(SOURCES)
        for place, text in SOURCES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ("cells/rnn.py", "from gradflow.flow.calls import LayerCall"),
        ("cells/new.py", "import gradflow.recording.recorder"),
        ("jacobian/operator.py", "from gradflow.flow import horizons"),
        ("flow/replay.py", "from gradflow.recording.rows import state_rows"),
        ("remedies/clipping.py", "from gradflow.training.loop import train"),
        ("recording/probe.py", "from gradflow.runlog import RunWriter"),
        ("recording/recorder.py", "from gradflow import analysis"),
        ("runlog/reader.py", "import torch.nn"),
        ("data/names.py", "from gradflow.training.model import build_model"),
        ("training/loop.py", "from gradflow.figures import save"),
        ("theory/cliff.py", "from gradflow.config import Config"),
        ("analysis/runs.py", "from matplotlib import pyplot"),
        ("analysis/runs.py", "from pathlib import Path"),
        ("figures/style.py", "import gradflow.flow.replay"),
        ("config.py", "from omegaconf import DictConfig"),
        ("checks.py", "import gradflow.commands.report"),
        ("__init__.py", "from gradflow.recording.recorder import record"),
    ],
)
def test_a_planted_import_is_told_with_its_file_and_line(place, planted):
    text = SOURCES.get(place, "") + f"\ndef late():\n    {planted}\n"
    (told,) = offences(place, text)
    name = next(iter(imported(planted)))[1]
    assert told == f"gradflow/{place}:{len(text.splitlines())} imports {name}"


def test_only_what_sweeps_need_knows_the_inside_of_hydra():
    for path in sorted((ROOT / "gradflow" / "commands").rglob("*.py")):
        for line, name in imported(path.read_text("utf-8")):
            if name.startswith("hydra._internal"):
                assert path.parent.name == "sweeping", f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize(
    "statement",
    [
        "import gradflow; gradflow.open_run; gradflow.open_sweep; gradflow.analysis; gradflow.figures",
        "import gradflow.commands.compare",
        "import gradflow.commands.figures; import gradflow.figures; gradflow.figures.draw_all",
        "import gradflow.commands.predict",
        "import gradflow.commands.sweeping.job",
        "from gradflow.commands.cli import gradflow as g; [g.get_command(None, n) for n in g.list_commands(None)]",
    ],
)
def test_torch_and_hydra_are_loaded_by_those_who_need_them_only(statement):
    unwanted = {"torch"} if "job" in statement else {"torch", "hydra", "omegaconf"}
    unwanted |= set() if "figures" in statement or "compare" in statement else {"pandas"}
    code = f"import sys; {statement}; sys.exit(', '.join({unwanted} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
