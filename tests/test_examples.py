"""Every script in examples/ runs as it is, and leaves a log that opens."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def test_there_are_examples():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_example_runs_and_its_log_opens(script, tmp_path, monkeypatch, capsys):
    """A few iterations in another folder, with warnings as errors; it says where the log is and what is in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITERATIONS", "12")
    monkeypatch.setattr(sys, "argv", [str(script), "log"])
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert "log" in said
    assert "nan" not in said
    logs = [path.parent for path in tmp_path.rglob("run.json")]
    assert logs
    for path in logs:
        run = gf.open_run(path)
        assert run.status == "finished"
        assert len(run.scalars) >= 12
        assert np.isfinite(run.scalars[["loss", "log_grad_norm_after"]]).all(axis=None)
        lag = run.frame("lag", columns=["log_state_gradient_q50", "log_state_gradient_non_finite"])
        assert lag.iteration.nunique() >= 2
        assert not lag.log_state_gradient_non_finite.any()
        assert np.isfinite(lag.log_state_gradient_q50[lag.lag == 0]).all()
