"""Whether a record is proved: the table `proof` in the log, and the verdict on it, against a slow one."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.runlog import FlushPolicy, RunWriter
from gradflow.runlog.proof import RESIDUALS, verdict
from gradflow.runlog.schema import KEYS

TOLERANCE = 1e-4
GOOD, BAD, NOT_ASKED = 1e-7, 1e-3, math.nan
PLACES = {"layer": np.array([0, 0, 1, 1]), "direction": np.array([0, 1, 0, 1])}


def start(path: Path, **options) -> RunWriter:
    return RunWriter(path, **{"meta": {"dtype": "float32", "proof_tolerance": TOLERANCE}, **options})


def rows(forward, backward, module: str = "rnn", call: int = 0) -> dict[str, object]:
    """Two layers in two directions."""
    residuals = {"forward_residual": np.broadcast_to(forward, 4), "backward_residual": np.broadcast_to(backward, 4)}
    return {"module": module, "call": call, **PLACES, **residuals}


def recorded(path: Path, *proofs: tuple, **options) -> "gf.Run":
    """A run with a proof at each iteration."""
    writer = start(path, **options)
    for iteration, (forward, backward) in enumerate(proofs):
        writer.append("proof", iteration, rows(forward, backward))
        writer.append("scalars", iteration, {"loss": 1.0})
    writer.close()
    return gf.open_run(path)


def test_the_table_comes_back_in_double_precision_and_with_its_labels(tmp_path):
    forward, backward = np.array([1e-300, np.nan, np.inf, 0.0]), np.array([0.1, 1e300, 5e-324, 1 / 3])
    run = recorded(tmp_path, (forward, backward))
    frame = run.frame("proof")
    assert list(frame) == [*KEYS["proof"], "forward_residual", "backward_residual", "steps_read"]
    np.testing.assert_array_equal(frame["forward_residual"], forward)
    np.testing.assert_array_equal(frame["backward_residual"], backward)
    assert frame[["layer", "direction"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    types = [str(field.type) for field in run.table("proof").schema]
    assert types == ["int64", "dictionary<values=string, indices=int32, ordered=0>", *["int32"] * 3, *["double"] * 3]
    assert run.columns["proof"]["backward_residual"].unit == "1"
    assert run.dataset("proof")["forward_residual"].sel(iteration=0, layer=1, direction=1).item() == 0
    assert run.frame("proof", columns=["forward_residual"], long=True)["quantity"].unique() == ["forward_residual"]


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [
        ([], "unproved"),
        ([(GOOD, GOOD)], "proved"),
        ([(0.0, TOLERANCE)], "proved"),
        ([(GOOD, [GOOD, GOOD, GOOD, BAD])], "failed"),
        ([([BAD, GOOD, GOOD, GOOD], GOOD), (GOOD, GOOD)], "failed"),
        ([(GOOD, GOOD), (math.inf, NOT_ASKED)], "failed"),
        ([(NOT_ASKED, BAD)], "failed"),
        ([(GOOD, NOT_ASKED)], "unproved"),
        ([(GOOD, [GOOD, NOT_ASKED, GOOD, GOOD])], "unproved"),
        ([(GOOD, GOOD), (NOT_ASKED, NOT_ASKED)], "proved"),
        ([(GOOD, NOT_ASKED), (NOT_ASKED, GOOD)], "proved"),
        ([([GOOD, GOOD, NOT_ASKED, NOT_ASKED], GOOD), ([NOT_ASKED, NOT_ASKED, GOOD, GOOD], NOT_ASKED)], "proved"),
        ([(NOT_ASKED, NOT_ASKED)] * 3, "unproved"),
    ],
)
def test_the_worst_of_what_was_asked_counts(tmp_path, proofs, expected):
    assert recorded(tmp_path, *proofs).proof == expected


def test_a_module_of_several_that_was_never_proved_leaves_the_run_unproved(tmp_path):
    writer = start(tmp_path)
    writer.append("proof", 0, rows(GOOD, GOOD, "encoder"))
    assert written(writer).proof == "proved"
    writer.append("proof", 1, rows(GOOD, NOT_ASKED, "decoder"))
    assert written(writer).proof == "unproved"
    writer.append("proof", 2, rows(NOT_ASKED, GOOD, "decoder", call=1))
    assert written(writer).proof == "proved"
    writer.append("proof", 3, rows(GOOD, BAD, "encoder"))
    assert written(writer).proof == "failed"


def written(writer: RunWriter) -> "gf.Run":
    writer.flush()
    return gf.open_run(writer.path)


def slow_verdict(table: list[dict], tolerance: float) -> str:
    """Row by row, place by place."""
    worst = "proved" if table else "unproved"
    for module, layer, direction in {(row["module"], row["layer"], row["direction"]) for row in table}:
        own = [r for r in table if (r["module"], r["layer"], r["direction"]) == (module, layer, direction)]
        for identity in RESIDUALS:
            known = [row[identity] for row in own if not math.isnan(row[identity])]
            if any(not residual <= tolerance for residual in known):
                return "failed"
            if not known:
                worst = "unproved"
    return worst


residuals = st.sampled_from([0.0, GOOD, GOOD, NOT_ASKED, NOT_ASKED]) | st.sampled_from([BAD, math.inf])


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "module": st.sampled_from(["a", "b"]),
                "layer": st.integers(0, 1),
                "direction": st.integers(0, 1),
                "forward_residual": residuals,
                "backward_residual": residuals,
            }
        ),
        max_size=12,
    )
)
@example([])
def test_the_verdict_is_that_of_the_slow_one(table):
    columns = {name: [row[name] for row in table] for name in ("module", "layer", "direction")}
    columns |= {name: np.array([row[name] for row in table], float) for name in RESIDUALS}
    assert verdict(pa.table(columns), TOLERANCE) == slow_verdict(table, TOLERANCE)


def test_numbers_that_are_not_finite_because_training_diverged_fail_nothing(tmp_path):
    proofs = [(GOOD, GOOD), (NOT_ASKED, NOT_ASKED)]
    writer = start(tmp_path)
    for iteration, proof in enumerate(proofs):
        writer.append("proof", iteration, rows(*proof))
        writer.append("scalars", iteration, {"loss": math.nan if iteration else 1.0})
    writer.close("diverged", iteration=1)
    run = gf.open_run(tmp_path)
    assert (run.status, run.proof) == ("diverged", "proved")


def test_the_tolerance_is_that_of_the_log(tmp_path):
    residual = 1e-6
    assert recorded(tmp_path / "single", (residual, residual)).proof == "proved"
    double = recorded(tmp_path / "double", (residual, residual), meta={"dtype": "float64", "proof_tolerance": 1e-9})
    assert (double.meta["proof_tolerance"], double.proof) == (1e-9, "failed")
    assert recorded(tmp_path / "none", (residual, residual), meta={}).proof == "unproved"


def test_rows_are_merged_and_a_running_log_says_what_is_proved_so_far(tmp_path):
    writer = start(tmp_path, policy=FlushPolicy(max_nbytes=1, merge_at=3))
    for iteration in range(8):
        writer.append("proof", iteration, rows(GOOD, BAD if iteration == 6 else GOOD))
        writer.append("scalars", iteration, {"loss": 1.0})
    run = gf.open_run(tmp_path)
    assert (run.status, run.proof, run.frame("proof")["iteration"].max()) == ("running", "failed", 6)
    writer.close()
    assert run.frame("proof")["iteration"].tolist() == list(itertools.chain(*([i] * 4 for i in range(8))))
    assert len(list((tmp_path / "gradients" / "proof").iterdir())) == 1


def test_a_resumed_run_loses_the_proofs_after_its_checkpoint(tmp_path):
    recorded(tmp_path, (GOOD, GOOD), (GOOD, GOOD), (BAD, BAD))
    assert gf.open_run(tmp_path).proof == "failed"
    writer = start(tmp_path, resume=2)
    assert gf.open_run(tmp_path).proof == "proved"
    writer.append("proof", 2, rows(GOOD, NOT_ASKED))
    writer.close()
    run = gf.open_run(tmp_path)
    assert (run.proof, run.frame("proof")["iteration"].unique().tolist()) == ("proved", [0, 1, 2])
    writer = start(tmp_path, resume=True)
    writer.append("proof", 3, rows(GOOD, BAD))
    writer.close()
    assert gf.open_run(tmp_path).proof == "failed"


def test_a_run_goes_on_under_another_tolerance_and_is_judged_by_its_own(tmp_path):
    recorded(tmp_path, (GOOD, GOOD))
    writer = start(tmp_path, resume=True, meta={"dtype": "float32", "proof_tolerance": 1.0})
    writer.append("proof", 1, rows(BAD, GOOD))
    writer.close()
    run = gf.open_run(tmp_path)
    assert (run.meta["proof_tolerance"], run.proof) == (TOLERANCE, "failed")
    assert run.meta["resumptions"][0]["proof_tolerance"] == 1.0


def make_old(path: Path) -> None:
    """Take away what logs had not before there were proofs."""
    description = json.loads((path / "run.json").read_text())
    del description["columns"]["proof"], description["proof_tolerance"]
    (path / "run.json").write_text(json.dumps(description))


def test_a_log_older_than_proofs_opens_as_before_and_is_unproved(tmp_path):
    recorded(tmp_path / "old")
    make_old(tmp_path / "old")
    run = gf.open_run(tmp_path / "old")
    assert (run.status, run.proof, len(run.frame("proof"))) == ("finished", "unproved", 0)
    recorded(tmp_path / "new", (GOOD, GOOD))
    sweep = gf.open_sweep(tmp_path)
    assert sweep.runs.set_index("run")["proof"].to_dict() == {"new": "proved", "old": "unproved"}
    assert sweep.frame("proof")["run"].unique().tolist() == ["new"]


@pytest.mark.parametrize(("residual", "expected"), [(GOOD, "proved"), (BAD, "failed")])
def test_a_log_older_than_proofs_goes_on_and_is_judged_by_what_the_resumption_states(tmp_path, residual, expected):
    writer = start(tmp_path)
    writer.append("scalars", 0, {"loss": 1.0})
    writer.close()
    make_old(tmp_path)
    for iteration in (1, 2):
        writer = start(tmp_path, resume=iteration)
        writer.append("proof", iteration, rows(residual, residual))
        writer.append("scalars", iteration, {"loss": 1.0})
        writer.close()
    run = gf.open_run(tmp_path)
    assert (run.proof, len(run.frame("proof")), len(run.scalars)) == (expected, 8, 3)


def test_a_sweep_has_the_proof_of_each_run_whatever_the_settings_are_called(tmp_path):
    for name, residual in {"a": GOOD, "b": BAD, "c": NOT_ASKED}.items():
        recorded(tmp_path / name, (residual, GOOD), config={"proof": name, "forward_residual": name})
    runs = gf.open_sweep(tmp_path).runs
    assert runs["proof"].tolist() == ["proved", "failed", "unproved"]
    assert list(runs) == [
        *("run", "path", "status", "iteration", "proof", "error"),
        *("config.proof", "config.forward_residual"),
    ]


def test_rows_of_a_proof_must_say_where_they_are_of(tmp_path):
    writer = start(tmp_path)
    with pytest.raises(ValueError, match=r"every key column of table 'proof', got none of \['call', 'direction'"):
        writer.append("proof", 0, {"module": "rnn", "forward_residual": GOOD})
    with pytest.raises(ValueError, match="columns are fixed when recording starts"):
        writer.append("proof", 0, rows(GOOD, GOOD) | {"residual": GOOD})
