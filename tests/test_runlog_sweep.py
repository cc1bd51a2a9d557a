"""Many runs side by side: which settings vary, under which names, and their rows in one frame."""

import json

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import seaborn
from matplotlib.figure import Figure

import gradflow as gf
import gradflow.runlog.reader as reader_module
import gradflow.runlog.sweep as sweep_module
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter, write_status


def record(path, config, quantities=("log_state_gradient",), iterations=3, seed=None):
    writer = RunWriter(path, meta={}, config=config, seed=seed, quantities=labels(quantities))
    for iteration in range(iterations):
        writer.append("scalars", iteration, {"loss": 1.0 / (iteration + 1), "lr": 0.5})
        where = {"module": "rnn", "call": 0, "layer": 0, "direction": 0, "time": np.arange(2)}
        writer.append("time", iteration, where | {f"{name}_q50": -float(iteration) for name in quantities})
    writer.close()


def settings(cell, clip="none", lr=0.1, **more):
    return {"cell": {"name": cell, "hidden_size": 8}, "clip": {"name": clip}, "train": {"lr": lr}, **more}


@pytest.fixture
def folder(tmp_path):
    record(tmp_path / "a" / "rnn", settings("rnn", seed=0))
    record(tmp_path / "a" / "rnn,norm", settings("rnn", "norm", seed=0))
    record(tmp_path / "lstm", settings("lstm", seed=1), ("log_state_gradient", "log_cell_gradient"), iterations=2)
    write_status(tmp_path / "broken", "failed", error="data.path: no such file")
    return tmp_path


def test_runs_tells_how_each_stands_and_what_varies(folder):
    runs = gf.open_sweep(folder).runs.set_index("run").sort_index()
    assert list(runs) == ["path", "status", "iteration", "proof", "error", "cell", "clip", "seed"]
    assert runs.index.tolist() == ["a/rnn", "a/rnn,norm", "broken", "lstm"]
    assert runs["status"].tolist() == ["finished", "finished", "failed", "finished"]
    assert runs.loc["broken", "error"] == "data.path: no such file"
    assert runs["iteration"].dropna().tolist() == [2, 2, 1]
    assert runs.loc["lstm", ["cell", "clip", "seed"]].tolist() == ["lstm", "none", 1]
    assert runs.loc["broken", ["cell", "clip"]].isna().all()
    assert gf.open_run(runs.loc["lstm", "path"]).config["cell"]["name"] == "lstm"


def test_frame_joins_rows_and_settings(folder):
    sweep = gf.open_sweep(folder)
    frame = sweep.frame("time", columns=["log_cell_gradient_q50"], params=["cell", "train.lr"])
    assert list(frame)[:4] == ["run", "cell", "train.lr", "iteration"]
    assert frame.groupby("cell").size().to_dict() == {"lstm": 4, "rnn": 12}
    assert frame.loc[frame["cell"] == "rnn", "log_cell_gradient_q50"].isna().all()
    assert frame.loc[frame["cell"] == "lstm", "log_cell_gradient_q50"].tolist() == [0, 0, -1, -1]
    long = sweep.frame("scalars", columns=["loss", "lr"], params=["clip"], long=True)
    assert list(long) == ["run", "clip", "iteration", "quantity", "value"]
    assert long.groupby("quantity")["value"].sum()["lr"] == 4.0
    assert {"cell", "clip", "seed"} <= set(sweep.frame("scalars"))


def test_dataset_has_a_run_dimension_with_settings(folder):
    dataset = gf.open_sweep(folder).dataset(columns=["log_state_gradient_q50"], params=["cell"])
    assert dataset.sizes["run"] == 3
    assert dataset["cell"].sel(run="lstm").item() == "lstm"
    values = dataset["log_state_gradient_q50"].sel(run="lstm", time=0).squeeze()
    np.testing.assert_array_equal(values, [0, -1, np.nan])


def test_runs_in_every_state_are_read_side_by_side(tmp_path):
    open_writers = []
    for state in ("finished", "diverged", "failed", "interrupted", "running", "killed"):
        writer = RunWriter(tmp_path / state, meta={}, config={"cell": {"name": state}})
        writer.append("scalars", 0, {"loss": np.inf if state == "diverged" else 1.0})
        if state in ("running", "killed"):
            writer.flush()
            open_writers += [writer] * (state == "running")
        else:
            writer.close(state)
        del writer
    sweep = gf.open_sweep(tmp_path)
    stands = dict(zip(sweep.runs["run"], sweep.runs["status"], strict=True))
    assert stands == {state: state for state in stands} | {"killed": "lost"}
    losses = sweep.frame("scalars", ["loss"]).set_index("cell")["loss"]
    assert losses.to_dict() == dict.fromkeys(stands, 1.0) | {"diverged": np.inf}


def test_settings_and_columns_are_read_once(folder, monkeypatch):
    read, seen = reader_module.read_description, []
    monkeypatch.setattr(reader_module, "read_description", lambda path: seen.append(path) or read(path))
    gf.open_sweep(folder).frame("time", columns=["log_state_gradient_q50"])
    assert len(seen) == len(set(seen)) == 4


def test_runs_that_name_the_same_columns_in_the_same_order_share_them(tmp_path):
    for name in "abc":
        record(tmp_path / name, settings("rnn"))
    file = tmp_path / "c" / "run.json"
    description = json.loads(file.read_text())
    description["columns"]["time"] = dict(reversed(description["columns"]["time"].items()))
    file.write_text(json.dumps(description))
    a, b, c = (gf.open_run(tmp_path / name).description["columns"] for name in "abc")
    assert a is b
    assert c is not a
    assert list(gf.open_run(tmp_path / "c").columns["time"]) == list(reversed(a["time"]))


def test_a_kept_sweep_looks_at_its_files_once_and_names_damage_each_time(tmp_path, monkeypatch, caplog):
    for name in "ab":
        record(tmp_path / name, settings("rnn"))
    next((tmp_path / "b" / "gradients" / "time").iterdir()).write_bytes(b"PAR1")
    looked, look = [], sweep_module.check_parts
    monkeypatch.setattr(
        sweep_module, "check_parts", lambda root, table: looked.append((root, table)) or look(root, table)
    )
    sweep = gf.open_sweep(tmp_path).kept()
    assert [[run.path.name for run in sweep.readable.members] for _ in range(2)] == [["a"], ["a"]]
    assert len(looked) == len(set(looked))
    assert sum("left out" in record.message for record in caplog.records) == 2


def test_seaborn_draws_the_long_frame_as_it_is(folder):
    frame = gf.open_sweep(folder).frame(
        "time", columns=["log_state_gradient_q50"], params=["cell", "clip"], where=pc.field("time") == 1, long=True
    )
    axes = Figure().subplots()
    seaborn.lineplot(frame, x="iteration", y="value", hue="cell", style="clip", errorbar=None, ax=axes)
    drawn = {tuple(line.get_ydata()) for line in axes.get_lines() if len(line.get_ydata())}
    assert drawn == {(0.0, -1.0, -2.0), (0.0, -1.0)}
    assert {text.get_text() for text in axes.get_legend().get_texts()} >= {"rnn", "lstm", "norm", "none"}


def test_settings_go_by_the_shortest_clear_name(tmp_path):
    for number in (1, 2):
        config = {
            "a": {"gain": number},
            "b": {"gain": number},
            "train": {"lr": number},
            "time": number,
            "status": number,
        }
        config |= {"deep": {"er": {"name": f"n{number}", "hidden_size": number}}, "sizes": [number], "same": 1}
        record(tmp_path / str(number), config, seed=number)
    runs = gf.open_sweep(tmp_path).runs
    names = ["seed", "a.gain", "b.gain", "train.lr", "config.time", "config.status", "er", "hidden_size", "sizes"]
    assert list(runs)[6:] == names
    assert runs["sizes"].tolist() == ["[1]", "[2]"]
    frame = gf.open_sweep(tmp_path).frame("scalars", ["loss"], params=["deep.er.name", "same"])
    assert list(frame) == ["run", "deep.er.name", "same", "iteration", "loss"]


def test_a_single_run_is_a_sweep_of_one(tmp_path):
    record(tmp_path, settings("rnn"))
    sweep = gf.open_sweep(tmp_path)
    assert sweep.runs["run"].tolist() == ["."]
    assert list(sweep.frame("scalars", ["loss"])) == ["run", "iteration", "loss"]


def test_sweeps_of_empty_runs_give_empty_frames(tmp_path):
    record(tmp_path / "a", settings("rnn"), iterations=0)
    record(tmp_path / "b", settings("gru"), iterations=0)
    frame = gf.open_sweep(tmp_path).frame("time")
    assert len(frame) == 0
    assert {"cell", "log_state_gradient_q50"} <= set(frame)


def test_a_sweep_is_gone_through_and_shown_in_a_line(folder):
    sweep = gf.open_sweep(folder)
    assert tuple(sweep) == sweep.members
    assert repr(sweep) == f"Sweep({str(folder)!r}, {len(sweep)} runs)"


def test_bad_requests_are_answered_with_names(folder):
    sweep = gf.open_sweep(folder)
    with pytest.raises(ValueError, match=r"params: expected a known name, got 'lr'; did you mean train.lr\?"):
        sweep.frame("time", params=["lr"])
    with pytest.raises(ValueError, match="params: expected a known name, got 'cells'; did you mean cell"):
        sweep.frame("time", params=["cells"])
    with pytest.raises(ValueError, match=r"did you mean .*log_state_gradient_q50"):
        sweep.frame("time", columns=["log_state_gradient_q5"])
    with pytest.raises(ValueError, match="table: expected a known name, got 'clock'"):
        sweep.frame("clock")
    with pytest.raises(ValueError, match=r"params: expected a list of names, got the text 'cell'; write \['cell'\]"):
        sweep.frame("time", params="cell")
    with pytest.raises(
        FileNotFoundError, match=r"path: expected a folder with runs below it .*give the folder of a sweep"
    ):
        gf.open_sweep(folder / "nowhere")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (pc.field("tme") == 0, "where, columns of table 'time': expected a known name, got 'tme'; did you mean time"),
        (pc.field("time") == "first", "where: expected a condition on columns of table 'time'.*compare numbers with"),
        (pc.field("time") + 1, "where: expected a condition on columns of table 'time', such as .*, got "),
        ("time == 0", "where: expected a pyarrow expression, such as "),
    ],
)
def test_a_condition_that_fits_no_column_is_told(folder, where, words):
    for source in (gf.open_sweep(folder), gf.open_run(folder / "lstm")):
        with pytest.raises(ValueError, match=words):
            source.frame("time", where=where)


def test_conditions_on_names_are_taken(folder):
    sweep = gf.open_sweep(folder)
    whole, chosen = (sweep.frame("time", where=w) for w in (None, pc.field("module") != "nobody"))
    pd.testing.assert_frame_equal(whole, chosen)
