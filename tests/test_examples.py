"""Every script in examples/ runs as it is, and leaves a log that opens."""

import os
import subprocess
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
def test_example_runs_and_its_log_opens(script, tmp_path):
    """A few iterations in another folder, with warnings as errors; it says where the log is and what is in it."""
    environment = os.environ | {"ITERATIONS": "12", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script), "log"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "log" in done.stdout
    assert "nan" not in done.stdout
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
