"""The commands that read: the table, the answers of a model, and their arguments."""

import json
import math
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import gradflow as gf
from gradflow.commands import compare, figures, predict
from gradflow.commands.arguments import own_folder
from gradflow.commands.report import describe, not_proved, table
from gradflow.figures import gallery
from gradflow.runlog import RunWriter, write_status


def write_run(
    path: Path,
    cell: str,
    accuracy: list[float],
    state: str = "finished",
    error: str | None = None,
    residual: float | None = None,
) -> None:
    meta = {"proof_tolerance": 1e-4}
    writer = RunWriter(path, meta=meta, config={"cell": {"name": cell}}, scalars=["test_accuracy", "test_loss"])
    for iteration, value in enumerate(accuracy):
        if residual is not None:
            proof = {"forward_residual": residual, "backward_residual": 0.0}
            writer.append("proof", iteration, {"module": "rnn", "call": 0, "layer": 0, "direction": 0} | proof)
        writer.append("scalars", iteration, {"loss": 1.0, "test_accuracy": value, "test_loss": 0.5})
    writer.close(state, error=error)


@pytest.fixture
def sweep(tmp_path):
    write_run(tmp_path / "a", "rnn", [0.5, 0.75, math.nan])
    write_run(tmp_path / "b", "lstm", [math.nan, math.nan], "diverged")
    write_status(tmp_path / "c", "failed", error="data.path: no such file")
    return gf.open_sweep(tmp_path)


def test_an_ending_has_the_last_value_that_was_measured(sweep):
    finished, diverged, failed = map(gf.analysis.ending, sweep.members)
    assert (finished.status, finished.iterations, finished.last["test_accuracy"]) == ("finished", 3, 0.75)
    assert (diverged.status, diverged.iterations) == ("diverged", 2)
    assert math.isnan(diverged.last["test_accuracy"])
    assert (failed.status, failed.iterations, failed.error) == ("failed", 0, "data.path: no such file")
    for file in sweep.path.glob("a/gradients/scalars/*.parquet"):
        file.write_bytes(b"PAR1")
    unreadable = gf.analysis.ending(sweep.members[0])
    assert (unreadable.status, unreadable.iterations) == ("unreadable", 0)
    assert "part-" in unreadable.error


def test_describe_is_one_line(sweep):
    finished, diverged, failed = map(describe, sweep.members)
    assert re.fullmatch(r"finished, 3 iterations, test accuracy 0\.750, \d\.\d s", finished)
    assert diverged.startswith("diverged, 2 iterations, test loss 0.500")  # no accuracy was ever measured
    assert failed == "failed: data.path: no such file"


def test_table_has_a_row_per_run_and_the_settings_that_vary(sweep):
    rows = table(sweep)
    assert list(rows["status"]) == ["diverged", "finished", "failed"]
    assert list(rows["cell"])[:2] == ["lstm", "rnn"]
    assert "run" not in rows


@pytest.fixture
def proofs(tmp_path):
    for name, residual in {"a": 1e-7, "b": 0.5, "c": math.nan, "d": math.inf, "e": None}.items():
        write_run(tmp_path / name, name, [0.5], residual=residual)
    return gf.open_sweep(tmp_path)


def test_table_has_the_proof_of_each_run_once(proofs):
    rows = table(proofs)
    assert rows.set_index("cell")["proof"].to_dict() == {
        **{"a": "proved", "b": "failed", "c": "unproved", "d": "failed", "e": "unproved"}
    }
    assert list(rows).count("proof") == 1
    assert not any("proof (set)" in name for name in rows)


def test_what_failed_its_proof_is_said_and_nothing_else(proofs):
    (line,) = not_proved(proofs)
    assert line.startswith("proof of the record failed for 2 of 5 runs: gradients may be wrong; which: ")
    assert f"gradflow.open_run({str(proofs.path / 'b')!r}).frame('proof')" in line
    proved, failed, unproved, *_ = map(describe, proofs.members)
    assert failed.endswith(" s, proof of the record failed")
    assert "proof" not in proved + unproved
    assert not_proved(gf.open_sweep(proofs.path / "a")) == not_proved(gf.open_sweep(proofs.path / "c")) == []


def test_compare_says_that_proofs_failed(proofs, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "draw_each", lambda *_, **__: [])
    monkeypatch.setattr(gf, "write_report", lambda sweep, out, figures: sweep.path / "report.html")
    monkeypatch.setattr(sys, "argv", ["compare.py", str(proofs.path)])
    compare.main()
    *rows, line, _ = capsys.readouterr().out.splitlines()
    assert "proof" in rows[0].split()
    assert [line] == not_proved(proofs)


def test_table_names_the_run_where_no_setting_varies(tmp_path):
    write_run(tmp_path / "only", "rnn", [0.5])
    assert list(table(gf.open_sweep(tmp_path))["run"]) == ["only"]


def test_table_of_a_sweep_over_iterations(tmp_path):
    for iterations in (2, 4):
        write_run(tmp_path / str(iterations), "rnn", [0.5])
        document = json.loads((tmp_path / str(iterations) / "run.json").read_text())
        document["config"]["train"] = {"iterations": iterations}
        (tmp_path / str(iterations) / "run.json").write_text(json.dumps(document))
    assert list(table(gf.open_sweep(tmp_path))["iterations (set)"]) == [2, 4]


def test_compare_prints_the_table_and_names_failed_runs(sweep, monkeypatch, capsys):
    drawn = {}
    monkeypatch.setattr(
        gallery,
        "draw_each",
        lambda path, out, **o: drawn.update(o) or [SimpleNamespace(files=[out / "a.png", out / "a.pdf"])],
    )
    monkeypatch.setattr(gf, "write_report", lambda sweep, out, figures: sweep.path / "report.html")
    monkeypatch.setattr(sys, "argv", ["compare.py", str(sweep.path), "lang=zh"])
    compare.main()
    out = capsys.readouterr().out
    assert f"{sweep.path / 'c'}: failed: data.path: no such file" in out
    assert str(sweep.path / "b") not in out  # diverging is an outcome
    assert out.splitlines()[-2:] == [
        f"{sweep.path / 'figures' / 'zh' / 'a'} (png, pdf)",
        f"{sweep.path / 'report.html'}",
    ]
    assert drawn.pop("processes") == min(2, os.cpu_count() or 1)
    assert drawn == {"lang": "zh", "context": "slide", "theme": "light", "svg_text": False}


def test_figures_draws_what_is_asked_for(sweep, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(
        gf.figures, "draw_all", lambda path, out, **o: asked.update(o) or [out / "a.png", out / "a.pdf"]
    )
    words = ["figures=comparison, weight_spectrum", "context=paper", "theme=dark", "svg=text"]
    monkeypatch.setattr(sys, "argv", ["figures.py", str(sweep.path), *words])
    figures.main()
    assert asked.pop("processes") == min(2, os.cpu_count() or 1)
    look = {"lang": "en", "context": "paper", "theme": "dark", "svg_text": True}
    assert asked == {"only": ["comparison", "weight_spectrum"], **look}
    assert capsys.readouterr().out == f"{sweep.path / 'figures' / 'en-dark' / 'a'} (png, pdf)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("figures=gradient", "figures: expected names out of comparison, .*, got gradient"),
        ("figures=name_saliency", "names: expected names=NAME for name_saliency, got nothing"),
        ("figures=gate_map", "names: expected names=NAME for gate_map, got nothing"),
        ("figures=stacked_lattice", "figures: none of those asked for is in the log"),
    ],
)
def test_figures_says_what_it_cannot_draw(sweep, monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["figures.py", str(sweep.path), arguments])
    with pytest.raises(SystemExit, match=message):
        figures.main()


def test_exact_figures_need_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["figures.py", "figures=tanh_derivative", "context=paper"])
    figures.main()
    assert capsys.readouterr().out == "outputs/figures/en/tanh_derivative (png, pdf, svg, csv, json)\n"
    monkeypatch.setattr(sys, "argv", ["figures.py", "lang=zh"])
    with pytest.raises(SystemExit, match=r"run: expected the folder of runs, or figures=NAME,\.\.\., .*, got neither"):
        figures.main()


def test_compare_says_where_there_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="expected a folder with runs below it"):
        compare.main()


def test_folders_of_the_same_second_have_names_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(own_folder, [str(tmp_path / "outputs" / "12-00-00")] * 8))
    assert sorted(made) == sorted(str(path) for path in (tmp_path / "outputs").iterdir())
    assert str(tmp_path / "outputs" / "12-00-00_8") in made
    (tmp_path / "file").touch()
    assert own_folder(str(tmp_path / "file" / "below")) == str(tmp_path / "file" / "below")  # its user says why not


def test_answers_are_aligned_by_columns_of_the_terminal():
    answers = [
        SimpleNamespace(name="王丽", probabilities={"女": 0.9, "男": 0.1}, shares=[("王", 0.25), ("丽", 0.75)]),
        SimpleNamespace(name="Li", probabilities={"男": 0.5, "女": 0.5}, shares=[("L", 1.0), ("i", 0.0)]),
    ]
    title, first, second = predict.aligned(predict.rows(answers)).splitlines()
    assert title == "name  share of each character  probability of each label"
    assert first == "王丽  王 0.25 丽 0.75          女 0.900 男 0.100"
    assert second == "Li    L 1.00 i 0.00            男 0.500 女 0.500"


def test_asking_no_model_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predict.py", f"run={tmp_path}", "names=王"])
    with pytest.raises(SystemExit, match=re.escape(str(tmp_path))):
        predict.main()
