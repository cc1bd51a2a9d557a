"""Imports point one way: the run folder is the border between what trains (torch) and what reads (no torch)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_FREE = {"gradflow", "config", "data", "schedule", "runlog", "analysis", "figures"}
NEVER = {
    "cells": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "layers": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "recurrent": {"recorder", "runlog", "analysis", "figures", "data", "training", "replay"},
    "autodiff": {"recorder", "runlog", "analysis", "figures", "data", "training", "replay"},
    "testing": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "theory": {"recorder", "runlog", "analysis", "figures", "data", "training", "config"},
    "replay": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "backward": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "regularisation": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "state_clipping": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "flossing": {"recorder", "runlog", "analysis", "figures", "data", "training"},
    "recorder": {"analysis", "figures", "training", "data", "config"},
    "training": {"analysis", "figures", "prediction"},
    "prediction": {"analysis", "figures"},
    "data": {"runlog", "analysis", "figures"},
    "runlog": {"config", "data", "analysis", "figures"},
    "analysis": {"config", "data", "runlog", "figures"},
    "figures": {"config", "data"},
}


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "gradflow").with_suffix("").parts
    if parts[-1] == "exact":
        return "exact"  # of a figure: loaded when its table is computed, imported by none
    return "gradflow" if parts == ("__init__",) else parts[0]


def rooms() -> dict[str, set[str]]:
    """Every room of gradflow with the modules of other rooms, and the packages, that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "gradflow").rglob("*.py")):
        own = found.setdefault(room(path), set())
        for name in imported(path):
            first, _, rest = name.partition(".")
            target = rest.split(".")[0] if first == "gradflow" and rest else first
            own.add("gradflow" if target == "__version__" else target)
    return {name: targets - {name} for name, targets in found.items()}


ROOMS = rooms()


def reached(name: str) -> set[str]:
    seen, waiting = set(), [name]
    while waiting:
        for target in ROOMS.get(waiting.pop(), set()) - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def test_no_room_imports_itself_by_a_detour():
    TopologicalSorter(ROOMS).prepare()  # raises CycleError


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_gradflow_knows_neither_hydra_nor_experiments(name):
    assert not ROOMS[name] & {"hydra", "omegaconf", "experiments", "tests"}


@pytest.mark.parametrize("name", sorted(set(ROOMS) - {"adapters"}))
def test_adapters_are_imported_by_their_users_only(name):
    assert not ROOMS[name] & {"adapters", "lightning", "tensorboard"}


@pytest.mark.parametrize("name", sorted(TORCH_FREE & set(ROOMS)))
def test_what_reads_never_reaches_torch(name):
    assert "torch" not in reached(name)


@pytest.mark.parametrize("name", sorted(set(NEVER) & set(ROOMS)))
def test_rooms_do_not_know_those_built_on_them(name):
    assert not reached(name) & NEVER[name]


def test_analysis_is_numbers_only():
    assert not reached("analysis") & {"matplotlib", "seaborn", "pyarrow", "pathlib", "os"}


def test_every_room_is_held_to_a_direction():
    torch_side = {name for name in ROOMS if "torch" in reached(name)}
    assert torch_side | TORCH_FREE == set(ROOMS)
    for name in torch_side:
        assert not ROOMS[name] & {"analysis", "figures"}


@pytest.mark.parametrize(
    "statement",
    [
        "import gradflow; gradflow.open_run; gradflow.open_sweep; gradflow.analysis; gradflow.figures",
        "import experiments.compare",
        "import experiments.figures; import gradflow.figures; gradflow.figures.draw_all",
        "import experiments.predict",
        "import experiments.sweeping.job",
    ],
)
def test_torch_and_hydra_are_loaded_by_those_who_need_them_only(statement):
    unwanted = {"torch"} if "job" in statement else {"torch", "hydra", "omegaconf"}
    unwanted |= set() if "figures" in statement or "compare" in statement else {"pandas"}
    code = f"import sys; {statement}; sys.exit(', '.join({unwanted} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
