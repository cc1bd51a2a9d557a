"""Sweeps as users type them: killed workers, killed parents, Ctrl-C, and every launcher that is installed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import gradflow as gf
from gradflow.commands.sweeping.launchers import installed

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "experiments" / "train.py")]
DATA = ["data.train_size=200", "data.test_size=50", "record.every=100"]
TWO = ["launcher=processes", "hydra.launcher.n_jobs=2"]


def needs(plugin: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not installed(plugin), reason=f"the launcher plugin {plugin} is not installed")


LAUNCHERS = [
    "processes",
    pytest.param("slurm_local", marks=[needs("submitit_local"), pytest.mark.slow]),
    pytest.param("ray", marks=[needs("ray"), pytest.mark.slow]),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, "-m", *arguments], capture_output=True, text=True, timeout=300)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [*TRAIN, "-m", "hydra.sweep.dir=here", *DATA, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, start_new_session=True, text=True, **pipes)


def status(seed: int) -> dict:
    [folder] = Path("here").glob(f"*seed={seed},*")
    return json.loads((folder / "status.json").read_text())


def wait_until_recording(process: subprocess.Popen[str], *seeds: int) -> None:
    deadline = time.monotonic() + 60
    while not all(list(Path("here").glob(f"*seed={seed},*/run.json")) for seed in seeds):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)


def states() -> list[str]:
    return [run.status for run in gf.open_sweep("here").members]


def numbers(path: str) -> list[pd.DataFrame]:
    tables = ("scalars", "time", "spectrum")
    frames = [run.frame(table) for run in gf.open_sweep(path).members for table in tables]
    return [frame.drop(columns="wall_time", errors="ignore") for frame in frames]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_records_the_same_numbers_and_goes_on_after_a_failure(launcher, train, files):
    """One of the runs has too few names."""
    grid = ["-m", "debug=tiny", "data=csv", *files["data/csv"], "seed=0,1", "data.train_size=4000,40"]
    assert train(*grid, "hydra.sweep.dir=here") == 1
    done = sweep(*grid[1:], f"launcher={launcher}", "hydra.sweep.dir=there")
    assert done.returncode == 1, done.stderr
    for one, other in zip(numbers("here"), numbers("there"), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    there = gf.open_sweep("there").members
    assert sorted(run.status for run in there) == ["failed", "failed", "finished", "finished"]
    assert "2 of 4 runs done, 2 failed: there" in done.stderr
    assert done.stderr.count(": failed: data.train_size") == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_run_only():
    process = start("seed=0,1,2", "train.iterations=800", *TWO)
    wait_until_recording(process, 0, 1)
    os.kill(status(1)["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert states() == ["finished", "lost", "finished"]
    assert "seed=1,train.iterations=800: lost: its process ended without a word (killed? out of memory?" in err
    assert "2 of 3 runs done, 1 lost: here" in err
    assert "Traceback" not in err
    assert " lost " in out


def test_a_killed_sweep_goes_on_with_the_same_command(train):
    """Loses nothing and repeats nothing."""
    sizes = ["seed=0,1,2", "train.iterations=60,100000"]
    process = start(*sizes, *TWO)
    deadline = time.monotonic() + 60
    while not (list(Path("here").glob("*")) and "finished" in states_so_far() and "running" in states_so_far()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while "running" in states_so_far():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "lost" not in states()
    finished = [run for run in gf.open_sweep("here").members if run.status == "finished"]
    before = {file: file.stat().st_mtime_ns for run in finished for file in run.path.rglob("*.*") if file.is_file()}
    [log, *_] = [run.path for run in gf.open_sweep("here").members if run.status == "interrupted"]
    assert "is gone, so this run is interrupted." in (log / "train.log").read_text()

    again = ["-m", "hydra.sweep.dir=here", *DATA, "seed=0,1,2", "train.iterations=60"]  # under any launcher
    assert train(*again) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    ended = [run for run in gf.open_sweep("here").members if run.config["train"]["iterations"] == 60]
    assert [list(run.scalars.index) for run in ended] == [list(range(60))] * 3


def states_so_far() -> list[str]:
    return [json.loads(file.read_text())["state"] for file in Path("here").glob("*/status.json")]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweeps_leave_nothing_running(launcher, number):
    process = start("seed=0,1", "train.iterations=100000", f"launcher={launcher}")
    wait_until_recording(process, 0, 1)
    processes = [status(seed)["pid"] for seed in (0, 1)]
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # what a terminal does
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert states() == ["interrupted", "interrupted"]
    assert "0 of 2 runs done, 2 interrupted: here" in err
    assert "Traceback" not in err
    time.sleep(3)
    for number in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_worker_under_every_launcher(launcher):
    process = start("seed=0,1", "train.iterations=2000", f"launcher={launcher}")
    wait_until_recording(process, 0, 1)
    os.kill(status(0)["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert states() == ["lost", "finished"]
    assert "seed=0,train.iterations=2000: lost:" in err
    again = start("seed=0,1", "train.iterations=2000", f"launcher={launcher}")
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "1 of 2 already done, 1 redone (1 lost)" in err
    assert states() == ["finished", "finished"]
