"""The log of one run: what was appended comes back, typed, wherever the parts were cut, and errors say what to do."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradflow as gf
from gradflow.recording.quantities import QUANTITIES, labels
from gradflow.runlog import FlushPolicy, RunWriter, config_hash, write_status
from gradflow.runlog.schema import KEYS, TABLES

WHERE = {"module": "rnn", "call": 0, "layer": 0, "direction": 0}
EVERY_APPEND = FlushPolicy(max_nbytes=1, merge_at=3)


def start(path, **options):
    quantities = labels(options.pop("quantities", ["log_state_gradient"]))
    return RunWriter(path, **{"meta": {"dtype": "float32"}, "quantities": quantities, **options})


def parts(path, table):
    return sorted(file.name for file in (Path(path) / "gradients" / table).iterdir())


# What comes back


def test_every_table_comes_back_with_its_types(tmp_path):
    writer = start(tmp_path, scalars=["accuracy"], parameters=["rnn.weight_hh_l0"])
    median = np.array([-np.inf, np.nan, 1.5])
    for table, key in (("time", "time"), ("lag", "lag")):
        rows = WHERE | {key: np.arange(3), "valid": np.array([4, 4, 2]), "log_state_gradient_q50": median}
        writer.append(table, 7, rows)
    writer.append("gates", 7, WHERE | {"time": 0, "gate": ["i", "f"], "mean": [0.25, 0.75]})
    spectrum = {
        "module": "rnn",
        "layer": 0,
        "direction": 0,
        "gate": "f",
        "index": [0, 1],
        "singular_value": [2.0, 1e300],
    }
    writer.append("spectrum", 7, spectrum)
    writer.append("scalars", 7, {"loss": np.float32(0.5), "clipped": True, "log_grad_before.rnn.weight_hh_l0": -700.25})
    writer.close()
    run = gf.open_run(tmp_path)

    time_rows = run.frame("time")
    assert time_rows["log_state_gradient_q50"].equals(pd.Series(median, dtype="float32"))
    assert time_rows["valid"].tolist() == [4, 4, 2]
    assert time_rows["log_state_gradient_zeros"].isna().all()
    assert run.frame("lag")["lag"].tolist() == [0, 1, 2]
    assert run.frame("gates")[["gate", "mean"]].to_numpy().tolist() == [["i", 0.25], ["f", 0.75]]
    assert run.frame("spectrum")["singular_value"].tolist() == [2.0, 1e300]
    assert run.scalars.index.tolist() == [7]
    assert run.scalars.loc[7, ["loss", "clipped", "log_grad_before.rnn.weight_hh_l0"]].tolist() == [0.5, 1.0, -700.25]
    assert np.isnan(run.scalars.loc[7, "accuracy"])
    assert run.scalars.loc[7, "wall_time"] >= 0
    kinds = {str(run.table(table).schema.field(KEYS[table][0]).type) for table in TABLES}
    assert kinds == {"int64"}
    assert str(run.table("time").schema.field("module").type).startswith("dictionary<values=string")


@settings(max_examples=25, deadline=None)
@given(
    chunks=st.lists(st.lists(st.floats(width=32), max_size=4), min_size=1, max_size=12),
    flushed=st.sets(st.integers(0, 11)),
    large_part=st.sampled_from([1, 3000, 8_000_000]),
)
def test_parts_and_merges_change_no_row(tmp_path_factory, chunks, flushed, large_part):
    path = tmp_path_factory.mktemp("run")
    writer = start(path, policy=FlushPolicy(merge_at=2, large_part=large_part))
    for iteration, values in enumerate(chunks):
        rows = WHERE | {"time": np.arange(len(values)), "log_state_gradient_mean": np.array(values, np.float32)}
        writer.append("time", iteration, rows)
        if iteration in flushed:
            writer.flush()
    writer.flush()
    running = gf.open_run(path).frame("time")
    writer.close()
    closed = gf.open_run(path).frame("time")
    pd.testing.assert_frame_equal(running, closed)
    np.testing.assert_array_equal(
        closed["log_state_gradient_mean"], np.array(list(chain.from_iterable(chunks)), np.float32)
    )
    assert closed["iteration"].tolist() == [i for i, values in enumerate(chunks) for _ in values]


def test_a_running_log_is_readable_and_plain_pandas_reads_it_too(tmp_path):
    writer = start(tmp_path / "_out" / ".here" / "layer=2", policy=EVERY_APPEND)
    for iteration in range(5):
        writer.append("time", iteration, WHERE | {"time": [0, 1], "valid": iteration})
    run = gf.open_run(writer.path)
    assert (run.status, run.iteration, writer.iteration) == ("running", 3, 4)
    assert run.frame("time")["valid"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    plain = pd.read_parquet(writer.path / "gradients" / "time")
    assert plain["layer"].tolist() == [0] * 8
    assert "scalars" not in os.listdir(writer.path / "gradients")
    writer.close()
    assert run.status == "finished"
    assert len(pd.read_parquet(writer.path / "gradients" / "time")) == 10


def test_parts_are_merged_when_there_are_many_and_at_the_end(tmp_path):
    writer = start(tmp_path, policy=EVERY_APPEND)
    for iteration in range(6):
        writer.append("scalars", iteration, {"loss": iteration})
    merged = "part-000000000000-000000000002.parquet"
    assert parts(tmp_path, "scalars") == [merged] + [f"part-{i:012d}-{i:012d}.parquet" for i in (3, 4)]
    writer.close()
    assert parts(tmp_path, "scalars") == ["part-000000000000-000000000005.parquet"]
    assert gf.open_run(tmp_path).scalars["loss"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_flush_waits_for_its_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    writer = start(tmp_path, policy=FlushPolicy(seconds=10, nbytes=1000, max_seconds=60))

    def recorded(iteration, seconds, rows):
        clock[0] = seconds
        writer.append("time", iteration, WHERE | {"time": np.arange(rows)})
        return gf.open_run(tmp_path).iteration

    assert recorded(0, 9.0, 1000) is None  # much waits, but 10 s have not passed
    assert recorded(1, 10.0, 1) == 0
    assert recorded(2, 69.0, 1) == 0  # little waits, and 60 s have not passed
    assert recorded(3, 70.0, 1) == 2


@pytest.mark.parametrize("overtaken", [1, 2])
def test_a_reader_that_a_merge_overtakes_misses_nothing(tmp_path, monkeypatch, overtaken):
    writer, merged = start(tmp_path / "parts"), start(tmp_path / "merged")
    for iteration in range(2):
        for log in (writer, merged):
            log.append("scalars", iteration, {"loss": iteration})
            log.flush()
    merged.close()
    folder = writer.path / "gradients" / "scalars"
    listdir, listings = os.listdir, iter(range(1, 100))

    def while_merging(path):
        if Path(path) != folder or next(listings) != overtaken:
            return listdir(path)
        for name in listdir(folder):
            (folder / name).unlink()
        seen = listdir(folder)
        shutil.copytree(merged.path / "gradients" / "scalars", folder, dirs_exist_ok=True)
        return seen

    monkeypatch.setattr(os, "listdir", while_merging)
    assert gf.open_run(writer.path).scalars["loss"].tolist() == [0, 1]


def test_what_is_left_out_is_nan_or_null(tmp_path):
    writer = start(tmp_path)
    first = {"time": 0, "log_state_gradient_q50": -1.0, "valid": 3}
    for iteration, rows in enumerate([first, {"time": 0}]):
        writer.append("time", iteration, WHERE | rows)
    writer.append("scalars", 1, {"loss": 1.0})
    writer.append("scalars", 2, {"lr": 1.0})
    writer.close()
    run = gf.open_run(tmp_path)
    table = run.table("time", columns=["log_state_gradient_q50", "valid"])
    assert table["valid"].to_pylist() == [3, None]
    np.testing.assert_array_equal(table["log_state_gradient_q50"].to_pylist(), [-1.0, np.nan])
    np.testing.assert_array_equal(run.scalars[["loss", "lr"]], [[1.0, np.nan], [np.nan, 1.0]])


def test_long_frames_and_filters_read_what_was_asked(tmp_path):
    writer = start(tmp_path)
    for iteration in range(4):
        writer.append("time", iteration, WHERE | {"time": [0, 1], "log_state_gradient_q50": [-1.0, -2.0]})
    writer.close()
    run = gf.open_run(tmp_path)
    late = (pc.field("iteration") > 1) & (pc.field("module") == "rnn") & (pc.field("valid").is_null())
    long = run.frame("time", columns=["log_state_gradient_q50"], where=late, long=True)
    assert list(long) == [*KEYS["time"], "quantity", "value"]
    assert long["value"].tolist() == [-1, -2, -1, -2]
    assert set(long["quantity"]) == {"log_state_gradient_q50"}
    assert run.table("time", columns=[]).column_names == list(KEYS["time"])
    dataset = run.dataset(columns=["log_state_gradient_q50"])
    assert dict(dataset.sizes) == {"iteration": 4, "module": 1, "call": 1, "layer": 1, "direction": 1, "time": 2}
    assert dataset["log_state_gradient_q50"].sel(iteration=3, time=1).item() == -2
    assert dataset["log_state_gradient_q50"].attrs["units"] == "nats"


def test_nothing_is_read_before_it_is_asked_for(tmp_path, monkeypatch):
    writer = start(tmp_path, config={"seed": 1})
    writer.append("scalars", 0, {"loss": 1.0})
    writer.close()
    for part in (tmp_path / "gradients").rglob("*.parquet"):
        part.write_bytes(b"not a parquet file")
    run = gf.open_run(tmp_path)
    assert (run.status, run.iteration, run.config, len(run.frame("time"))) == ("finished", 0, {"seed": 1}, 0)
    with pytest.raises(Exception, match="Parquet magic bytes not found"):
        _ = run.scalars


def test_a_run_without_rows_gives_typed_tables(tmp_path):
    start(tmp_path).close()
    run = gf.open_run(tmp_path)
    assert [len(run.table(table)) for table in TABLES] == [0] * len(TABLES)
    assert run.frame("time")["log_state_gradient_q50"].dtype == np.float32
    assert run.scalars.empty
    assert run.iteration is None


# The two documents


def test_the_description_says_how_the_run_was_made(tmp_path):
    config = {"cell": {"name": "rnn"}, "lr": np.float32(0.5)}
    start(tmp_path, config=config, seed=3, meta={"device": "cpu", "reduction": "mean"}).close()
    run = gf.open_run(tmp_path)
    assert run.config == {"cell": {"name": "rnn"}, "lr": 0.5}
    assert (run.meta["seed"], run.meta["device"], run.meta["reduction"]) == (3, "cpu", "mean")
    assert (run.meta["schema_version"], run.meta["pid"]) == (1, os.getpid())
    assert {"python", "numpy", "pyarrow", "gradflow"} <= set(run.meta["versions"])
    assert run.columns["time"]["log_state_gradient_q50"].unit == "nats"
    assert run.columns["scalars"]["wall_time"] == ("s", "time since recording started")
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["config_hash"] == config_hash(config)


@pytest.mark.parametrize("state", ["finished", "diverged", "failed", "interrupted"])
def test_close_says_how_the_run_ended_and_does_so_once(tmp_path, state):
    writer = start(tmp_path)
    writer.append("scalars", 4, {"loss": np.nan})
    writer.close(state, error="the loss is NaN", iteration=3)
    writer.close()
    run = gf.open_run(tmp_path)
    assert (run.status, run.error, run.iteration) == (state, "the loss is NaN", 3)


def test_a_status_keeps_the_hash_and_the_iteration_but_no_error(tmp_path):
    write_status(
        tmp_path / "new", "failed", error="no file", error_traceback="Traceback", iteration=3, config_hash="abc"
    )
    write_status(tmp_path / "new", "finished")
    status = json.loads((tmp_path / "new" / "status.json").read_text())
    assert (status["config_hash"], status["iteration"], status["error"]) == ("abc", 3, None)
    write_status(tmp_path / "new", "running")
    assert gf.open_run(tmp_path / "new").iteration is None
    assert os.listdir(tmp_path / "new") == ["status.json"]


def test_a_run_that_failed_before_recording_still_knows_its_settings(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("cell: {name: lstm}\n")
    write_status(tmp_path, "failed", error="data.path: no such file")
    run = gf.open_run(tmp_path)
    assert (run.config, run.error, len(run.scalars)) == ({"cell": {"name": "lstm"}}, "data.path: no such file", 0)


# Encoding


def test_parts_are_encoded_as_measured_best(tmp_path):
    writer = start(tmp_path, durable=True)
    writer.append("time", 0, WHERE | {"time": np.arange(9), "log_state_gradient_q50": np.arange(9.0)})
    writer.close()
    metadata = pq.read_metadata(next((tmp_path / "gradients" / "time").iterdir()))
    columns = {c["path_in_schema"]: c for c in metadata.row_group(0).to_dict()["columns"]}
    assert {column["compression"] for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["log_state_gradient_q50"]["encodings"]
    assert "DELTA_BINARY_PACKED" in columns["time"]["encodings"]
    assert "RLE_DICTIONARY" in columns["module"]["encodings"]
    assert metadata.metadata[b"gradflow_schema"] == b"1"


# Errors


def test_a_folder_with_a_run_is_refused_but_any_other_folder_is_fine(tmp_path):
    (tmp_path / ".hydra").mkdir()
    write_status(tmp_path, "running", config_hash="abc")
    writer = start(tmp_path)
    writer.append("scalars", 0, {"loss": 1.0})
    writer.close()
    with pytest.raises(
        FileExistsError, match=r"expected a folder without a recorded run, but .* holds one; record into"
    ):
        start(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantities": ["log_state_gradients"]}, "quantities: expected a known name.*did you mean log_state_gradient"),
        ({"scalars": ["loss"]}, "scalars: expected distinct names that no log has anyway .*got .'loss'"),
        ({"scalars": ["a", "a"]}, "scalars: expected distinct names"),
    ],
)
def test_columns_are_checked_when_recording_starts(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        start(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("table", "rows", "words"),
    [
        ("tim", {}, "table: expected a known name, got 'tim'; did you mean time"),
        ("scalars", {"accuracy": 1}, "rows of table 'scalars'.*'accuracy'.*fixed when recording starts: name it there"),
        ("scalars", {"loss": None}, "expected one number per scalar, got .*leave out what is missing"),
        ("scalars", {"loss": [1, 2]}, "expected one number per scalar"),
        ("time", WHERE | {"time": 0, "log_cell_path_q50": 0.0}, "columns are fixed when recording starts"),
        ("time", {"time": 0, "module": "rnn"}, r"every key column of table 'time', got none of \['call', 'direction'"),
        ("time", WHERE | {"time": [0, 1], "valid": [1, 2, 3]}, r"expected 2 values in 'valid'.*got shape \(3,\)"),
        ("time", WHERE | {"time": [0, 1], "valid": np.ones((2, 1))}, "expected int32 values in 'valid', got others"),
        ("time", WHERE | {"time": 0.5}, "expected int32 values in 'time'"),
        (
            "time",
            WHERE | {"time": 0, "log_state_gradient_q50": "x"},
            "expected float32 values in 'log_state_gradient_q50'",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_no_trace(tmp_path, table, rows, words):
    writer = start(tmp_path)
    with pytest.raises(ValueError, match=words):
        writer.append(table, 0, rows)
    writer.append("scalars", 0, {"loss": 1.0})
    writer.close()
    run = gf.open_run(tmp_path)
    assert (len(run.scalars), len(run.frame("time"))) == (1, 0)


def test_iterations_come_in_order(tmp_path):
    writer = start(tmp_path)
    with pytest.raises(ValueError, match="iteration: expected at least 0, got -1"):
        writer.append("scalars", -1, {})
    writer.append("scalars", 5, {})
    with pytest.raises(ValueError, match="one row of scalars per iteration, got a second one for 5"):
        writer.append("scalars", 5, {})
    with pytest.raises(ValueError, match="iteration: expected at least 5, got 4; rows come in order"):
        writer.append("scalars", 4, {})
    writer.flush()
    with pytest.raises(
        ValueError, match=r"iteration: expected at least 6 in table 'scalars', got 5, whose rows went to disk"
    ):
        writer.append("scalars", 5, {})
    writer.append("time", 5, WHERE | {"time": 0})  # what is recorded only of the last iteration comes late
    writer.close()
    assert len(gf.open_run(tmp_path).frame("time")) == 1
    with pytest.raises(ValueError, match="is closed; record into another folder"):
        writer.append("scalars", 6, {})


@contextmanager
def full_disk():
    """The kernel refuses every write into a file."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_full_disk_names_the_path_and_harms_nothing(tmp_path):
    writer = start(tmp_path, policy=EVERY_APPEND)
    writer.append("scalars", 0, {"loss": 1.0})
    writer.append("scalars", 1, {"loss": 2.0})
    words = rf"writing the log failed \(File too large\); what was flushed before stays readable.*{tmp_path}"
    with full_disk(), pytest.raises(OSError, match=words):
        writer.append("scalars", 2, {"loss": 3.0})
    assert os.listdir(tmp_path / "gradients" / ".tmp") == []
    assert gf.open_run(tmp_path).scalars["loss"].tolist() == [1.0]
    writer.close()  # there is room again
    assert gf.open_run(tmp_path).scalars["loss"].tolist() == [1.0, 2.0]


def test_a_disk_that_is_full_at_the_end_marks_the_run_failed(tmp_path, monkeypatch):
    writer = start(tmp_path)
    writer.append("scalars", 0, {"loss": 1.0})
    replace = os.replace

    def no_room_for_parts(source, target):
        if str(target).endswith(".parquet"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", no_room_for_parts)
    with pytest.raises(OSError, match="No space left on device"):
        writer.close("finished")
    run = gf.open_run(tmp_path)
    assert run.status == "failed"
    assert "No space left on device" in run.error


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: expected the folder of a run .*got .*gradflow.open_sweep"):
        gf.open_run(tmp_path)
    with pytest.raises(ValueError, match=r"state: expected one of running, .*got 'lost'"):
        write_status(tmp_path, "lost")


def test_names_of_quantities_alone_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"quantities: expected a mapping from names to units .*labels makes it"):
        RunWriter(tmp_path, meta={}, quantities=["log_state_gradient"])


def test_unknown_names_list_their_neighbours(tmp_path):
    start(tmp_path, quantities=list(QUANTITIES)).close()
    run = gf.open_run(tmp_path)
    with pytest.raises(ValueError, match="table: expected a known name, got 'times'; did you mean time"):
        run.frame("times")
    with pytest.raises(
        ValueError, match=r"columns of table 'time'.*'log_state_q50'; did you mean .*log_state_gradient_q50"
    ):
        run.frame("time", columns=["log_state_q50"])
    with pytest.raises(ValueError, match=r"columns: expected a list of names, got the text 'valid'; write \['valid'\]"):
        run.frame("time", columns="valid")


def test_reading_imports_no_torch(tmp_path):
    start(tmp_path).close()
    code = f"import sys, gradflow as gf; gf.open_run({str(tmp_path)!r}).scalars; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "False\n"
