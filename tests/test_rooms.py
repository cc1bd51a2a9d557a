"""A figure is a folder that nothing else names: one of a log and an exact one are added, and everything finds them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradflow import analysis, figures, theory
from gradflow.figures.room import rooms
from tests.synthetic_runs import Planted, config_of, write_run

ROOT = Path(__file__).parents[1]
NUMBERS = """
import pandas as pd
from gradflow.analysis.runs import claim, collect, runs_of

def {name}(source):
    return collect([(run, pd.DataFrame({{"x": [0.0, 1.0], "y": [1.0, 2.0]}})) for run in runs_of(source)])

def {name}_claims(data):
    return [claim("{name}", data["y"].max(), "> 1", data["y"].max() > 1, what="rises", protocol="none", told="2")]
"""
EXACT = """
import pandas as pd
import torch

def planted_table():
    return pd.DataFrame({"x": [0.0, 1.0], "y": torch.tensor([1.0, 2.0]).numpy()})

compute = planted_table
"""
PLOT = """
from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import new_figure, style

def plot_{name}(data, *, claims=(), lang="en", context="slide"):
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = figure.subplots()
        axes.plot(data["x"], data["y"])
        axes.set_xlabel(labels("axis.{name}"))
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure
"""
ASK = """
import json, sys
from pathlib import Path

import gradflow.figures

gradflow.figures.__path__.append(sys.argv[1])
import gradflow as gf
from gradflow.commands import reproduce
from gradflow.commands.deck import deck

drawn = gf.figures.draw_all(sys.argv[2], sys.argv[3], only=["planted_log"], lang="zh")
before = "torch" in sys.modules
claims = reproduce.exact("planted_exact", Path(sys.argv[3]), "en")
found = {
    "drawn": [file.name for file in drawn],
    "torch": before,
    "deck": [slide.title for slide in deck("王晓丽", ["王晓丽"])][-2:],
    "reproduced": claims[0]["value"],
    "exact": list(gf.theory.EXACT)[-1],
    "names": [
        gf.analysis.planted_log.__name__,
        gf.analysis.planted_exact_claims.__name__,
        gf.figures.plot_planted_log.__name__,
        gf.theory.planted_table.__name__,
    ],
}
print(json.dumps(found))
"""


def plant(folder: Path, name: str, kind: str) -> None:
    room = folder / name
    room.mkdir()
    (room / "__init__.py").write_text(f'from gradflow.figures.room import Room\n\nROOM = Room(__name__, "{kind}")\n')
    (room / "numbers.py").write_text(NUMBERS.format(name=name))
    (room / "plot.py").write_text(PLOT.format(name=name))
    if kind == "exact":
        (room / "exact.py").write_text(EXACT)
    for lang in ("en", "zh"):
        (room / f"{lang}.yaml").write_text(f"axis.{name}: x\nclaim.{name}: It rises to {{value}}.\n")


def test_a_new_folder_is_all_that_a_new_figure_takes(tmp_path: Path):
    planted = tmp_path / "rooms"
    planted.mkdir()
    plant(planted, "planted_log", "log")
    plant(planted, "planted_exact", "exact")
    write_run(tmp_path / "run", config_of(), Planted(steps=4, iterations=3))
    command = [sys.executable, "-c", ASK, planted, tmp_path / "run", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["drawn"] == [f"planted_log.{kind}" for kind in ("png", "pdf", "svg", "csv", "json")]
    assert found["deck"] == ["planted_exact", "planted_log"]
    assert (found["reproduced"], found["exact"], found["torch"]) == (2.0, "planted_exact", False)
    assert (tmp_path / "out" / "figures" / "en" / "planted_exact.png").is_file()
    assert found["names"] == ["planted_log", "planted_exact_claims", "plot_planted_log", "planted_table"]


@pytest.mark.parametrize("name", rooms())
def test_every_folder_has_what_its_record_says(name):
    room = rooms()[name]
    assert room.name == name
    for analysis_name in room.analyses:
        assert callable(getattr(analysis, analysis_name))
    for drawing in room.drawings:
        assert callable(getattr(figures, drawing))
    assert (name in theory.EXACT) == (room.kind == "exact")


@pytest.mark.parametrize("module", [analysis, figures, theory])
def test_faces_have_the_names_they_list_and_no_others(module):
    assert module.__all__ == sorted(set(module.__all__)) == dir(module)
    assert all(hasattr(module, name) for name in module.__all__)
    assert not hasattr(module, "no_such_name")
