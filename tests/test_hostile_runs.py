"""Damaged runs, as a full disk, a broken copy or a stranger leaves them: one bad file costs one run, and is named."""

import itertools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import judge_here, record
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.analysis.results import has_learned
from gradflow.commands.report import not_done, printed, table
from gradflow.config import Config, DataConfig, TrainConfig
from gradflow.runlog import RunWriter, Unreadable
from gradflow.runlog.seal import _MARK, check_weights, sealed_weights

ROOT = Path(__file__).parents[1]
TABLES = ("scalars", "time", "lag", "gates", "spectrum", "proof")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def noise(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(2000))


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(16, pages(file), 40):
        content[place] ^= 16
    file.write_bytes(content)


def pages(file: Path) -> int:
    """Where the pages end and the footer begins."""
    content = file.read_bytes()
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def document(content: object) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.write_text(json.dumps(content))

    damage.__name__ = f"document {str(content)[:40]}"
    return damage


def entry(**changes: object) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    damage.__name__ = f"entry {str(changes)[:60]}"
    return damage


def newer_part(file: Path) -> None:
    rows = pq.ParquetFile(file).read()
    pq.write_table(rows.replace_schema_metadata({"gradflow_schema": "99"}), file)


def foreign_part(file: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), file)


def wrong_types(file: Path) -> None:
    rows = pq.ParquetFile(file).read()
    words = pa.array(["many"] * len(rows))
    pq.write_table(rows.set_column(rows.schema.get_field_index("iteration"), "iteration", words), file)


ANY = [empty, truncated, noise, folder, pipe, endless]
DEEP: dict = {}
for _ in range(200):
    DEEP = {"a": DEEP}
DESCRIPTIONS = [
    *(document(content) for content in ([], "text", 1, None)),
    *(entry(config=content) for content in ("x", [1], DEEP)),
    *(entry(columns=content) for content in ([], {"scalars": []}, {"scalars": {"loss": 1}}, {"time": {"x": {}}})),
    *(entry(schema_version=version) for version in (99, "1", 1e9, None)),
    *(entry(modules=content) for content in ([], {"a": []})),
    entry(success=[1]),
    entry(success={"quantity": 1}),
    entry(classes=3),
    entry(resumptions=[1]),
    entry(chance="much"),
]
STATUSES = [
    *(document(content) for content in ([], "text", 1, {"state": "won"}, {"x": 1})),
    *(entry(state=state) for state in (3, None, "lost")),
    *(entry(iteration=iteration) for iteration in ("many", 1.5, 10**30)),
    entry(error=[1]),
    entry(state="running", pid="x"),
]
DAMAGES = [("run.json", damage) for damage in ANY + DESCRIPTIONS]
DAMAGES += [("status.json", damage) for damage in ANY + STATUSES]
OF_TABLES = [*ANY, flipped, newer_part, foreign_part, wrong_types]
DAMAGES += [(table, damage) for table in TABLES for damage in OF_TABLES]
NAMES = [f"{file}: {damage.__name__}" for file, damage in DAMAGES]
USUAL = [*zip(itertools.cycle(TABLES), OF_TABLES, strict=False)]
"""Tables are read in one way: each damage to one of them, and to each of them one or two."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Three runs, of which `b` is to be damaged."""
    path = tmp_path_factory.mktemp("sound")
    for name, cell in {"a": "gru_before", "b": "lstm", "c": "gru"}.items():
        write_run(path / name, config_of(cell), Planted(steps=6, iterations=21, residual=1e-7))
    return path


@pytest.fixture
def sweep(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "sweep")


def damaged(sweep: Path, where: str, damage: Callable[[Path], None]) -> Path:
    """Damages a file of run `b`, and gives its path."""
    run = sweep / "b"
    file = run / where if where not in TABLES else next((run / "gradients" / where).iterdir())
    damage(file)
    return file


@pytest.mark.parametrize(
    ("where", "damage"),
    [pytest.param(*one, marks=[pytest.mark.slow] * (one[0] in TABLES and one not in USUAL)) for one in DAMAGES],
    ids=NAMES,
)
def test_a_damaged_file_costs_one_run_and_is_named(sweep, caplog, where, damage):
    file = damaged(sweep, where, damage)
    opened, run = gf.open_sweep(sweep), gf.open_run(sweep / "b")
    table = where if where in TABLES else "time"
    with pytest.raises(Unreadable, match=r": expected .*, got .*; (restore|install)") as error:
        _ = run.status, run.config, run.meta, run.frame(table)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    runs = opened.runs.set_index("run")
    assert list(runs["status"].drop("b")) == ["finished", "finished"]
    if where not in TABLES or where == "proof":
        assert (runs.loc["b", "status"], str(file) in runs.loc["b", "error"]) == ("unreadable", True)
    if where != "status.json":
        caplog.clear()
        assert set(opened.frame(table)["run"]) == {"a", "c"}
        assert [str(file) in line for line in caplog.messages] == [True]
    if damage is not flipped:
        assert [run.path.name for run in opened.readable.members] == ["a", "c"]
    record("damaged runs", f"{where}: {damage.__name__}", "clear")


NOT_THERE = "lag: expected log_relative_gradient in the log, got a log without"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_a_document_says_is_read_or_refused(sound, data):
    """Any entry of run.json or status.json, at any depth, is replaced by anything."""
    run = sound / "b"
    file = run / data.draw(st.sampled_from(["run.json", "status.json"]))
    before = file.read_bytes()
    content = json.loads(before)
    part = content
    while isinstance(part, dict) and part:
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or not part[key] or data.draw(st.booleans()):
            part[key] = data.draw(JSON)
            break
        part = part[key]
    file.write_text(json.dumps(content))
    try:
        opened = gf.open_sweep(sound)
        assert opened.runs["status"].iloc[0] == "finished"
        assert printed(table(opened))
        assert not_done(opened) is not None
        for group in gf.analysis.by_task(opened.readable.members).values():
            try:
                assert gf.analysis.gradient_by_lag(group) is not None
            except ValueError as refused:
                if all("log_relative_gradient_q50" in run.columns["lag"] for run in group) or NOT_THERE not in str(
                    refused
                ):
                    raise
            assert {has_learned(run) for run in group if has_learned(run) == has_learned(run)} <= {True, False}
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "\x00",
        "a0: &a0 [1]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(12)),
        "a: " + "{a: " * 50 + "1" + "}" * 50,
        "!!python/object/apply:os.system ['false']",
    ],
)
def test_settings_that_hydra_left_are_refused_like_others(tmp_path, text):
    gf.runlog.write_status(tmp_path, "failed", error="it never began")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(Unreadable, match=r"\.hydra/config\.yaml: expected settings .*, got .*; restore"):
        _ = gf.open_run(tmp_path).config
    assert gf.open_sweep(tmp_path).runs["status"].tolist() == ["failed"]


def test_where_no_run_can_be_read_that_is_the_error(sweep):
    for name in "abc":
        (sweep / name / "run.json").write_text("")
    for ask in (lambda s: s.frame("time"), lambda s: s.dataset(), lambda s: s.readable):
        with pytest.raises(Unreadable, match=r"run\.json: expected a JSON document, got an empty file; restore"):
            ask(gf.open_sweep(sweep))
    assert set(gf.open_sweep(sweep).runs["status"]) == {"unreadable"}


def test_two_parts_of_the_same_iterations_are_not_added_up(sweep):
    part = next((sweep / "b" / "gradients" / "time").iterdir())
    shutil.copy(part, part.with_name("part-000000000003-000000000004.parquet"))
    with pytest.raises(
        Unreadable, match=r"part-0+3-0+4\.parquet: expected iterations that part-0+-0+20.*does not hold"
    ):
        gf.open_run(sweep / "b").frame("time")
    part.rename(part.with_name("part-first-last.parquet"))
    with pytest.raises(Unreadable, match=r"part-first-last\.parquet: expected a name like part-0+-0+9\.parquet"):
        gf.open_run(sweep / "b").frame("time")


def test_single_bits_that_flip_are_found(sweep):
    """Wherever they lie, pages, their headers or the footer; but in the mark of the seal, where they change no row."""
    file, run = next((sweep / "b" / "gradients" / "scalars").iterdir()), gf.open_run(sweep / "b")
    content, random, before = file.read_bytes(), np.random.default_rng(0), run.scalars
    for place in random.integers(0, len(content), 200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.integers(8)
        file.write_bytes(flipped)
        if content.find(_MARK) <= place < content.find(_MARK) + len(_MARK):
            assert run.scalars.equals(before)
        else:
            with pytest.raises(Unreadable, match=file.name):
                run.table("scalars")


def test_single_bits_that_flip_in_the_pages_of_older_logs_are_found(sweep):
    """The checksums of pages find them; without, most would be read as other numbers."""
    file, run = next((sweep / "b" / "gradients" / "scalars").iterdir()), gf.open_run(sweep / "b")
    content, random, before = file.read_bytes(), np.random.default_rng(0), run.scalars
    content = content[: (mark := content.find(_MARK))] + content[mark + len(_MARK) + 4 :]
    file.write_bytes(content)
    assert run.scalars.equals(before)
    wrong = 0
    for place in random.integers(4, pages(file), 60):
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.integers(8)
        file.write_bytes(flipped)
        with suppress(Unreadable):
            wrong += not run.scalars.equals(before)
    assert wrong == 0


def test_single_bits_that_flip_in_weights_are_found():
    from safetensors.numpy import load, save

    weights = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    content = sealed_weights(save(weights, {"crc32": "00000000"}))
    assert load(content)["a"].tolist() == [0, 1, 2]
    check_weights(content)
    check_weights(save(weights))  # of an older gradflow
    mark = content.find(b'"crc32":"')
    for place in {*range(len(content))} - {*range(8), *range(mark, mark + 9)}:  # of these safetensors finds the length
        flipped = bytearray(content)
        flipped[place] ^= 1
        with pytest.raises(ValueError, match="its checksum is that of other bytes"):
            check_weights(bytes(flipped))


def test_a_wrong_question_is_no_damage(sweep):
    import pyarrow.compute as pc

    with pytest.raises(ValueError, match="where, columns of table 'time'"):
        gf.open_run(sweep / "b").frame("time", where=pc.field("nothing") == 1)


@pytest.mark.parametrize("where", ["run.json", "status.json", "scalars"])
def test_a_damaged_run_is_not_gone_on_with(tmp_path, where):
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()}

    writer = RunWriter(tmp_path / "b", meta={})
    writer.append("scalars", 0, {"loss": 1.0})
    writer.close("interrupted")
    file = damaged(tmp_path, where, noise)
    before = contents()
    with pytest.raises(Unreadable, match=file.name):
        RunWriter(tmp_path / "b", meta={}, resume=True)
    assert contents() == before


def test_recording_goes_on_beside_a_damaged_part(tmp_path, caplog):
    writer = RunWriter(tmp_path, meta={})
    for iteration in range(3):
        writer.append("scalars", iteration, {"loss": 1.0})
        writer.flush()
    noise(next((tmp_path / "gradients" / "scalars").iterdir()))
    writer.close()
    assert "parts are left as they are, unmerged" in caplog.text
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"


def test_figures_are_drawn_without_the_run(sweep, tmp_path, caplog):
    file = damaged(sweep, "lag", flipped)
    with caplog.at_level(logging.INFO):
        files = gf.figures.draw_all(sweep, tmp_path / "out", only=["gradient_by_lag", "temporal_contributions"])
    assert {path.stem for path in files} == {"gradient_by_lag", "temporal_contributions"}
    assert "lstm" not in (tmp_path / "out" / "gradient_by_lag.csv").read_text()
    assert sum(str(file) in line for line in caplog.messages) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    from gradflow.training.loop import train

    path = tmp_path_factory.mktemp("trained") / "run"
    data = DataConfig(train_size=64, test_size=16)
    train(Config(data=data, train=TrainConfig(iterations=2)), path, progress=False)
    return path


WEIGHTS = [("model.safetensors", damage) for damage in ANY]
WORDS = [("vocabulary.json", damage) for damage in ANY]
WORDS += [("vocabulary.json", entry(**c)) for c in ({"alphabet": 3}, {"alphabet": ["ab"]}, {"classes": ["one"]})]
CONFIGS = [{}, {"cell": "rnn"}, {"dtype": "float16", "cell": {"name": "rnn", "hidden_size": 64, "num_layers": 1}}]
CELLS = [{"name": "brain"}, {"hidden_size": 10**9}, {"hidden_size": "x"}, {"num_layers": 10**9}, {"bidirectional": 1}]
PREDICTED = [*WEIGHTS, *WORDS, *(("run.json", damage) for damage in ANY)]


def refused(trained: Path, path: Path, where: str, damage: Callable[[Path], None]) -> None:
    from gradflow.training.prediction import predict

    run = shutil.copytree(trained, path / "run")
    damage(run / where)
    with pytest.raises((Unreadable, FileNotFoundError), match=r": expected .*, got .*; ") as error:
        predict(run, ["王伟"])
    assert where in str(error.value) or "run.json: expected the settings" in str(error.value)
    record("damaged models", f"{where}: {getattr(damage, '__name__', damage)}", "clear")


@pytest.mark.parametrize(("where", "damage"), PREDICTED, ids=[f"{w}: {d.__name__}" for w, d in PREDICTED])
def test_a_damaged_model_is_refused_by_name(trained, tmp_path, where, damage):
    refused(trained, tmp_path, where, damage)


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_that_make_no_model_are_refused(trained, tmp_path, config):
    refused(trained, tmp_path, "run.json", entry(config=config))


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_does_not_fit_the_weights_is_refused_before_it_is_built(trained, tmp_path, cell):
    config = gf.open_run(trained).config
    config["cell"] |= cell
    where = "model.safetensors" if max(cell.values(), key=str) == 10**9 else "run.json"
    refused(trained, tmp_path, where, lambda file: entry(config=config)(file.with_name("run.json")))


def test_a_model_that_cannot_be_saved_is_no_finished_run(tmp_path, monkeypatch):
    from gradflow.training import loop

    def full(*_: object) -> None:
        raise OSError(28, "cannot be written (No space left on device)", str(tmp_path / "run" / "model.safetensors"))

    monkeypatch.setattr(loop, "save", full)
    data = DataConfig(train_size=64, test_size=16)
    with pytest.raises(OSError, match=r"No space.*model\.safetensors"):
        loop.train(Config(data=data, train=TrainConfig(iterations=2)), tmp_path / "run", progress=False)
    run = gf.open_run(tmp_path / "run")
    assert (run.status, "model.safetensors" in run.error, len(run.scalars)) == ("failed", True, 2)


FIGURES = {
    "time": "cell_diagram",
    "gates": "gate_timescales",
    "spectrum": "singular_values_over_training",
    "lag": "gradient_by_lag",
}


@pytest.mark.slow
@pytest.mark.parametrize(("where", "damage"), DAMAGES, ids=NAMES)
def test_compare_names_the_file_and_goes_on(sweep, monkeypatch, capsys, where, damage):
    from gradflow.commands import compare
    from gradflow.figures import gallery

    file = damaged(sweep, where, damage)
    figure = FIGURES.get(where, "gradient_heatmap")
    plain = {"plot": lambda data, **_: Figure()}  # what is asked is how the runs are read
    few = {name: gallery.GALLERY[name]._replace(**plain) for name in (figure, "clipping_effect")}
    monkeypatch.setattr(gallery, "GALLERY", few)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # a second process would take another second
    monkeypatch.setattr(sys, "argv", ["compare.py", str(sweep), "context=paper"])
    verdict, text = judge_here(compare.main, capsys, [str(file)], timeout=120)
    record("compare.py on damaged runs", f"{where}: {damage.__name__}", verdict)
    assert verdict == "clear", text
    assert f"figures/en/{figure}" in text


@pytest.mark.parametrize("file", ["run.json", "status.json"])
def test_a_sweep_leaves_a_damaged_run_alone_and_goes_on(train, capsys, file):
    command = ["-m", "debug=tiny", "hydra.sweep.dir=here"]
    assert train(*command, "seed=0") == 0
    (Path("here/seed=0") / file).write_text("{")
    before = {path: path.read_bytes() for path in Path("here/seed=0").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train(*command, "seed=0,1") == 1
    said = capsys.readouterr()
    assert "0 of 2 already done, 1 new, 1 left alone\nhere/seed=0: left alone, a file of it is damaged" in said.err
    assert "1 of 2 runs done, 1 unreadable: here\n" in said.err
    assert "Traceback" not in said.err
    assert gf.open_run("here/seed=1").status == "finished"
    assert {path: path.read_bytes() for path in Path("here/seed=0").rglob("*") if path.is_file()} == before


def test_predict_names_the_file(trained, tmp_path, monkeypatch):
    from gradflow.commands import predict

    run = shutil.copytree(trained, tmp_path / "run")
    noise(run / "model.safetensors")
    monkeypatch.setattr(sys, "argv", ["predict.py", f"run={run}", "names=王伟"])
    with pytest.raises(SystemExit, match=r"^/.*run/model\.safetensors: expected weights in safetensors, got "):
        predict.main()
