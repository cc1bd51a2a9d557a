"""What is known of cells by name, against the cells themselves; names that gradflow does not know."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.cells.facts import CELLS, KEEPING_GATES
from gradflow.config import CellConfig, CellName, Config, DataConfig, InitConfig
from gradflow.figures import draw_all
from gradflow.figures.catalogue import Labels
from gradflow.figures.gallery import Made
from gradflow.figures.theme import LANGUAGES
from gradflow.training.model import build_model


@pytest.mark.parametrize("name", CELLS)
def test_facts_are_those_of_the_cell(name):
    facts = CELLS[name]
    model = build_model(Config(cell=CellConfig(CellName(name), 4)), 3, 2)
    step = gf.trace(model.recurrent, torch.randn(5, 2, 3))[0, 0]
    assert step.cell.state_names == facts.states
    assert tuple(step.gates) == (facts.gates or ("h",))
    for gate, values in step.gates.items():  # of random inputs the others have both signs
        assert (gate in facts.sigmoid_gates) == bool(((values > 0) & (values < 1)).all()) or not facts.gates
    assert (facts.keeping_gate in KEEPING_GATES) == (facts.candidate_gate is not None) == bool(facts.gates)
    if facts.keeping_gate:  # where it is open and nothing new comes in, the state stays
        kept, state = facts.keeping_gate, facts.states[-1]
        diagonal = step.jacobian.coefficients.diagonal[state, state]
        torch.testing.assert_close(diagonal, step.gates[kept])


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_a_layer_a_look_and_a_name_in_both_languages(name):
    module, _, layer = CELLS[name].layer.partition(":")
    assert issubclass(getattr(import_module(module), layer), nn.Module)
    assert set(CELLS[name].label) == set(LANGUAGES)
    assert all(CELLS[name].label.values())


def test_every_cell_looks_different():
    assert len({(facts.colour, facts.marker) for facts in CELLS.values()}) == len(CELLS)


@pytest.mark.parametrize("cell", [name for name, facts in CELLS.items() if not facts.gates])
def test_settings_of_gates_are_refused_where_there_are_none(cell):
    with pytest.raises(ValueError, match=rf"init.forget_bias: only cell=lstm.* a forget gate, got cell={cell}"):
        Config(cell=CellConfig(CellName(cell)), init=InitConfig(forget_bias=1.0))
    with pytest.raises(ValueError, match=r"init.update_bias: only cell=gru.* an update gate"):
        Config(cell=CellConfig(CellName(cell)), init=InitConfig(update_bias=1.0))
    with pytest.raises(ValueError, match="init: only gated cells have a chrono start"):
        Config(cell=CellConfig(CellName(cell)), init=InitConfig("chrono"), data=DataConfig("adding"))


def test_settings_of_a_script_that_gradflow_does_not_know_stand_for_themselves(tmp_path, monkeypatch):
    config = {"data": {"source": "my-task"}, "cell": {"name": "my-cell"}, "init": {"name": "my-start"}}
    config["clip"] = {"name": "my-clipping"}
    torch.manual_seed(0)
    layer = nn.LSTM(3, 5)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    with gf.record(layer, tmp_path / "run", config=config, every=1, spectrum_every=1) as recorder:
        for _ in range(4):
            loss = layer(torch.randn(8, 6, 3))[0][-1].square().mean()
            optimizer.zero_grad()
            loss.backward()
            recorder.step(loss=loss.item())
            optimizer.step()
    monkeypatch.setattr(Made, "save", lambda self, path, **how: [Path(path)])
    for lang in LANGUAGES:
        labels = Labels(lang)
        told = (
            labels.cell("my-cell"),
            labels.start("my-start"),
            labels.clip("my-clipping"),
            labels.word("source", "my-task"),
        )
        assert told == ("my-cell", "my-start", "my-clipping", "my-task")
        drawn = {file.name for file in draw_all(tmp_path / "run", tmp_path, lang=lang)}
        assert {"gradient_by_lag", "gradient_heatmap", "comparison", "weight_spectrum"} <= drawn
