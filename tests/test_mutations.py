"""A test of the tests: each of nine planted bugs must make some of them fail, and without one they all pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS

ROOT = Path(__file__).parents[1]
JUDGES = ["test_properties.py", "test_adjoint.py", "test_replay.py", "test_recorder.py", "test_horizons.py"]


def run_tests(mutation: str) -> tuple[int, list[str], str]:
    """Pytest's exit code, the tests that failed (the first one ends the run), and what it printed."""
    files = [f"tests/{name}" for name in JUDGES]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rf", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "GRADFLOW_MUTATION": mutation}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_planted_bug_is_found(mutation):
    code, failed, printed = run_tests(mutation)
    assert (code, bool(failed)) == (1, True), printed  # other codes: the tests did not run
    print(f"{mutation}: found by {', '.join(failed)}")


@pytest.mark.slow
def test_without_a_bug_all_pass():
    code, _, printed = run_tests("")
    assert code == 0, printed
