"""Faults of sweeps and of runs that start together, with the verdict on each: slow, for `make test-slow`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gradflow as gf
from gradflow.commands.sweeping.launchers import installed
from tests import hostile
from tests.test_runlog_kill import kill_at_a_random_moment

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "experiments" / "train.py")]
TINY = ["debug=tiny", "train.iterations=20"]

pytestmark = pytest.mark.slow


def verdict(area: str, trial: str, text: str, *, good: bool) -> None:
    """Counts a trial whose outcome was looked at, and fails unless it is as it should be."""
    found = "traceback" if "Traceback" in text else "clear" if good else "lost"
    hostile.record(area, trial, found)
    assert found == "clear", text


def test_killed_at_random_moments_two_hundred_times(tmp_path):
    generator = random.Random(2)
    for trial in range(200):
        try:
            kill_at_a_random_moment(tmp_path / str(trial), generator)
        except AssertionError:
            hostile.record("kills of a recording process", str(trial), "lost")
            raise
        hostile.record("kills of a recording process", str(trial), "clear")
        shutil.rmtree(tmp_path / str(trial))


def start(*arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*TRAIN, *arguments], text=True, start_new_session=True, **pipes)


def test_four_runs_of_one_second_have_four_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [start(*TINY, f"seed={seed}") for seed in range(4)]
    text = "".join(run.communicate(timeout=300)[1] for run in runs)
    found = gf.open_sweep("outputs").members
    seeds = sorted(run.config["seed"] for run in found if run.status == "finished" and len(run.scalars) == 20)
    verdict("runs of one second", "four by default", text, good=seeds == [0, 1, 2, 3])


def test_two_runs_in_one_folder_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [start(*TINY, f"seed={seed}", "hydra.run.dir=here") for seed in range(2)]
    errors = [run.communicate(timeout=300)[1] for run in runs]
    [refused] = [error for run, error in zip(runs, errors, strict=True) if run.returncode]
    good = "expected a folder without a recorded run, got" in refused and gf.open_run("here").status == "finished"
    verdict("two writers in one folder", "two commands", refused, good=good)


def bystander_lives(bystander: subprocess.Popen[bytes]) -> bool:
    alive = bystander.poll() is None
    bystander.kill()
    bystander.wait()
    return alive


@pytest.mark.parametrize("fault", ["a stranger's pid", "pid of all", "worker killed", "sweep killed", "worker stopped"])
def test_a_sweep_that_is_ended_while_something_is_wrong(fault, tmp_path, monkeypatch):
    """Nobody else's process is harmed, and the same command once more makes it whole."""
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "hydra.sweep.dir=here", "debug=tiny", "seed=0,1", "hydra.sweep.subdir='${seed}'"]
    sweep += ["launcher=processes", "hydra.launcher.n_jobs=2"]
    process, bystander = start(*sweep, "train.iterations=1000000"), subprocess.Popen(["sleep", "600"])
    deadline = time.monotonic() + 120
    while not all(Path(f"here/{seed}/run.json").exists() for seed in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.1)
    status = Path("here/0/status.json")
    worker = int(status.read_text().partition('"pid": ')[2].partition(",")[0])
    if fault in ("a stranger's pid", "pid of all"):
        other = bystander.pid if fault == "a stranger's pid" else -1
        status.write_text(status.read_text().replace(f'"pid": {worker}', f'"pid": {other}'))
    if fault in ("worker killed", "worker stopped"):
        os.kill(worker, signal.SIGKILL if fault == "worker killed" else signal.SIGSTOP)
    if fault == "sweep killed":
        process.kill()
    else:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while "running" in {run.status for run in gf.open_sweep("here").members} and time.monotonic() < deadline:
        time.sleep(0.2)
    alive = bystander_lives(bystander)
    shutil.rmtree("here")  # of a million iterations; what follows shows that no process holds anything
    again = subprocess.run([*TRAIN, *sweep, "train.iterations=20"], capture_output=True, text=True, timeout=300)
    whole = [run.status for run in gf.open_sweep("here").members] == ["finished", "finished"]
    verdict("faults of sweeps", fault, err + again.stderr, good=alive and again.returncode == 0 and whole)


def lives(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not installed("submitit_local"), reason="needs the extra `slurm`")
@pytest.mark.parametrize("fault", ["sweep killed", "interrupted"])
def test_jobs_of_submitit_end_with_their_sweep(fault, tmp_path, monkeypatch):
    """On this machine; those in the queue of SLURM go on."""
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "hydra.sweep.dir=here", "debug=tiny", "seed=0,1", "hydra.sweep.subdir='${seed}'"]
    process = start(*sweep, "launcher=slurm_local", "train.iterations=1000000")
    deadline = time.monotonic() + 200
    while not all(Path(f"here/{seed}/run.json").exists() for seed in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.1)
    jobs = [json.loads(Path(f"here/{seed}/status.json").read_text())["pid"] for seed in (0, 1)]
    process.send_signal(signal.SIGKILL if fault == "sweep killed" else signal.SIGINT)
    _, err = process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while any(map(lives, jobs)) and time.monotonic() < deadline:
        time.sleep(0.2)
    ended = not any(map(lives, jobs))
    statuses = [run.status for run in gf.open_sweep("here").members]
    verdict("faults of sweeps", f"submitit, {fault}", err, good=ended and statuses == ["interrupted"] * 2)
