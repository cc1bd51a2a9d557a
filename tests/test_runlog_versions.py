"""Logs of other versions: an older one opens with what it has, a newer one is refused in words."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradflow as gf
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

WHERE = {"module": "rnn", "call": 0, "layer": 0, "direction": 0, "time": np.arange(3)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    writer = RunWriter(tmp_path / "run", meta={}, config={"seed": 1}, quantities=labels(["log_state_gradient"]))
    writer.append("time", 0, WHERE | {"valid": 4, "log_state_gradient_q50": np.arange(3.0)})
    writer.append("scalars", 0, {"loss": 0.5})
    writer.close()
    return tmp_path / "run"


def rewrite(log: Path, **changes: object) -> None:
    """Change what `run.json` says; None takes an entry away."""
    description = json.loads((log / "run.json").read_text()) | changes
    (log / "run.json").write_text(json.dumps({key: value for key, value in description.items() if value is not None}))


def part_of(log: Path, table: str) -> Path:
    (part,) = (log / "gradients" / table).iterdir()
    return part


def median(run: "gf.Run") -> list[float]:
    return run.frame("time", columns=["log_state_gradient_q50"])["log_state_gradient_q50"].tolist()


@pytest.mark.parametrize("version", [0, None])
def test_an_older_log_opens(log, version):
    rewrite(log, schema_version=version)
    run = gf.open_run(log)
    assert (run.status, run.config, median(run)) == ("finished", {"seed": 1}, [0, 1, 2])
    assert gf.open_sweep(log.parent).runs["status"].tolist() == ["finished"]


def test_a_column_that_a_part_lacks_is_nan(log):
    part = part_of(log, "time")
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["valid", "log_state_gradient_q10"]), part)
    run = gf.open_run(log)
    frame = run.frame("time")
    assert frame[["valid", "log_state_gradient_q10"]].isna().all(axis=None)
    assert median(run) == [0, 1, 2]
    assert run.dataset(columns=["valid"])["valid"].isnull().all()


def test_a_column_that_the_description_lacks_is_not_offered(log):
    columns = json.loads((log / "run.json").read_text())["columns"]
    del columns["time"]["log_state_gradient_q50"]
    rewrite(log, columns=columns)
    with pytest.raises(ValueError, match=r"columns of table 'time'.*got 'log_state_gradient_q50'; did you mean "):
        median(gf.open_run(log))


def test_a_table_that_the_description_lacks_is_empty(log):
    columns = json.loads((log / "run.json").read_text())["columns"]
    del columns["gates"], columns["spectrum"]
    rewrite(log, columns=columns)
    run = gf.open_run(log)
    assert run.columns["gates"]["saturated_low"].unit == "1"
    assert (len(run.frame("gates")), len(gf.open_sweep(log.parent).frame("spectrum"))) == (0, 0)
    rewrite(log, columns=None)
    assert gf.open_run(log).scalars["loss"].tolist() == [0.5]


def test_a_column_of_another_width_is_read_in_the_width_of_today(log):
    part = part_of(log, "time")
    rows = pq.ParquetFile(part).read()
    place = rows.schema.get_field_index("log_state_gradient_q50")
    wide = rows["log_state_gradient_q50"].cast(pa.float64())
    pq.write_table(rows.set_column(place, "log_state_gradient_q50", wide), part)
    run = gf.open_run(log)
    assert median(run) == [0, 1, 2]
    assert run.table("time").schema.field("log_state_gradient_q50").type == pa.float32()


def test_sweeps_of_old_and_new_logs_have_the_columns_of_both(log):
    writer = RunWriter(log.parent / "new", meta={}, config={"seed": 2}, quantities=labels(["log_weight_gradient"]))
    writer.append("time", 0, WHERE | {"log_weight_gradient_q50": np.ones(3)})
    writer.close()
    rewrite(log, schema_version=0)
    frame = gf.open_sweep(log.parent).frame("time", columns=["log_state_gradient_q50", "log_weight_gradient_q50"])
    assert frame.groupby("seed")["log_weight_gradient_q50"].sum().tolist() == [0, 3]
    assert frame.groupby("seed")["log_state_gradient_q50"].count().tolist() == [3, 0]


def test_a_log_of_the_future_is_refused(log):
    rewrite(log, schema_version=99)
    words = r"run.json: expected a schema version up to 1, which gradflow .* reads, got 99; install a newer gradflow"
    for ask in (lambda: gf.open_run(log).meta, lambda: median(gf.open_run(log))):
        with pytest.raises(ValueError, match=words):
            ask()
    with pytest.raises(ValueError, match=words):
        gf.open_sweep(log.parent).frame("time")
