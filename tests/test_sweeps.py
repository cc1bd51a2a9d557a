"""A sweep survives what happens to it, and the same command goes on with it."""

import errno
import io
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import gradflow as gf
from gradflow.commands import report
from gradflow.commands.sweeping import launchers, signals, sweeper, view
from gradflow.commands.sweeping.composing import Composer
from gradflow.commands.sweeping.deaths import Deaths
from gradflow.commands.sweeping.plan import AsPlanned, Composed, Planned
from gradflow.commands.sweeping.settings import side_by_side
from gradflow.commands.sweeping.standing import occupy, standing
from gradflow.runlog import RunWriter, write_status

SWEEP = ["-m", "debug=tiny", "hydra.sweep.dir=here"]


def files_of(path: Path) -> dict[Path, int]:
    """Every file below a folder and when it was written."""
    return {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def set_status(path: str, **values: object) -> None:
    document = Path(path) / "status.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | values))


HOLD = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@contextmanager
def recorded_elsewhere(path: str) -> Iterator[None]:
    """While another process holds the folder of a run, which says that it is running."""
    set_status(path, state="running", pid=1)
    command = [sys.executable, "-S", "-c", HOLD, str(Path(path) / ".lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.communicate()


@pytest.fixture
def gone_process():
    """The number of a process that lived."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_same_command_goes_on(train, gone_process, capsys):
    assert train(*SWEEP, "seed=0,1,2") == 0
    finished = files_of(Path("here/seed=0"))
    set_status("here/seed=1", state="running", pid=gone_process)
    write_status("here/seed=2", "failed", error="no room")
    write_status("here/seed=3", "interrupted")
    capsys.readouterr()
    assert train(*SWEEP, "seed=0,1,2,3,4", "launcher=local", "threads=2") == 0
    said = capsys.readouterr()
    assert "1 of 5 already done, 3 redone (1 lost, 1 failed, 1 interrupted), 1 new\n" in said.err
    assert "5 of 5 runs done: here\n" in said.err
    assert said.out.count("finished") == 5
    assert files_of(Path("here/seed=0")) == finished
    for run in gf.open_sweep("here").members:
        assert (run.status, list(run.scalars.index)) == ("finished", [0, 1])


def test_nothing_is_left_to_do(train, capsys):
    assert train(*SWEEP, "seed=0,1") == 0
    before = files_of(Path("here/seed=0")), files_of(Path("here/seed=1"))
    capsys.readouterr()
    assert train(*SWEEP, "seed=0,1") == 0
    assert "2 of 2 already done\n2 of 2 runs done: here\n" in capsys.readouterr().err
    assert (files_of(Path("here/seed=0")), files_of(Path("here/seed=1"))) == before


def test_a_diverged_run_is_done(train, capsys):
    diverge = ["train.lr=1e30", "train.optimizer=sgd", "cell=rnn_relu", "train.iterations=20"]
    assert train(*SWEEP, "seed=0,1", *diverge) == 0
    assert {run.status for run in gf.open_sweep("here").members} == {"diverged"}
    assert train(*SWEEP, "seed=0,1", *diverge) == 0
    assert "2 of 2 already done" in capsys.readouterr().err


def test_a_finished_run_with_other_settings_is_an_error_and_nothing_starts(train, capsys):
    assert train(*SWEEP, "seed=0") == 0
    before = files_of(Path("here/seed=0"))
    document = Path("here/seed=0/run.json")
    recorded = json.loads(document.read_text())
    recorded["config"]["record"]["every"] = 7
    document.write_text(json.dumps(recorded))
    assert train(*SWEEP, "seed=1,0") == 1
    err = capsys.readouterr().err
    assert "debug=tiny seed=0\nrecord.every: expected 7, with which here/seed=0 was recorded, got 1; nothing" in err
    assert not Path("here/seed=1").exists()
    assert files_of(Path("here/seed=0")).keys() == before.keys()


@pytest.mark.parametrize("state", ["interrupted", "failed", "running"])
def test_what_was_recorded_with_other_settings_is_named_before_it_is_removed(state, train, capsys):
    assert train(*SWEEP, "seed=0") == 0
    set_status("here/seed=0", state=state)
    before = files_of(Path("here/seed=0"))
    capsys.readouterr()
    assert train(*SWEEP, "seed=0", "record.every=2", "hydra.sweep.subdir='seed=${seed}'") == 1
    err = capsys.readouterr().err
    assert "record.every: expected 1, with which here/seed=0 was recorded, got 2; nothing was changed. Choose" in err
    assert files_of(Path("here/seed=0")) == before
    shutil.rmtree("here/seed=0/gradients")  # nothing is left that could be lost
    assert train(*SWEEP, "seed=0", "record.every=2", "hydra.sweep.subdir='seed=${seed}'") == 0
    assert gf.open_run("here/seed=0").config["record"]["every"] == 2


def test_settings_are_composed_as_hydra_does(train, monkeypatch):
    def both(self: Composer, run: list[str]) -> DictConfig:
        mine, hydras = compose(self, run), self._loader.load_sweep_config(self._master, run)
        assert OmegaConf.to_container(mine, resolve=False) == OmegaConf.to_container(hydras, resolve=False)
        assert mine.hydra.job.override_dirname == hydras.hydra.job.override_dirname
        seen.append(run)
        return mine

    compose, seen = Composer.compose, list[list[str]]()
    monkeypatch.setattr(Composer, "compose", both)
    monkeypatch.setattr(sweeper, "to_launch", lambda runs: [])
    grid = ["cell=lstm,rnn", "seed=0,1", "cell.hidden_size=3,4", "threads=2", "hydra/job_logging=none"]
    assert train(*SWEEP, *grid, "hydra.sweep.subdir=${hydra.job.num}") == 1
    assert len(seen) == 8


def test_a_setting_that_was_not_known_then_had_its_default(train):
    assert train(*SWEEP, "seed=0") == 0
    document = Path("here/seed=0/run.json")
    recorded = json.loads(document.read_text())
    del recorded["config"]["clip"]["threshold"]
    document.write_text(json.dumps(recorded))
    assert train(*SWEEP, "seed=0") == 0


def test_a_run_of_another_process_is_left_alone(train, capsys):
    assert train(*SWEEP, "seed=0") == 0
    with recorded_elsewhere("here/seed=0"):
        before = files_of(Path("here/seed=0"))
        assert train(*SWEEP, "seed=0,1") == 1
    err = capsys.readouterr().err
    assert "0 of 2 already done, 1 new, 1 left alone\nhere/seed=0: left alone, another process records into it" in err
    assert "1 of 2 runs done, 1 running: here" in err
    assert files_of(Path("here/seed=0")) == before


def test_a_job_that_finds_its_run_done_leaves_it(train):
    """A queue may hold the same run twice, from before and after a resumption."""
    assert train(*SWEEP, "seed=0") == 0
    before = files_of(Path("here/seed=0"))
    assert not occupy(Path("here/seed=0"))
    assert files_of(Path("here/seed=0")) == before


def test_a_number_of_a_process_may_come_back(tmp_path):
    write_status(tmp_path, "running")
    assert gf.open_run(tmp_path).status == "running"
    assert standing(tmp_path) == "lost"  # this process asks before it begins: the other was one before it
    assert occupy(tmp_path)


def test_batches_do_not_change_what_is_resumed(train, capsys):
    assert train(*SWEEP, "seed=0,3") == 0
    assert train(*SWEEP, "seed=0,1,2,3,4", "hydra.sweeper.max_batch_size=2") == 0
    assert "2 of 5 already done, 3 new\n" in capsys.readouterr().err
    assert len(gf.open_sweep("here").members) == 5


def test_folders_may_be_numbered(train):
    numbered = "hydra.sweep.subdir='${hydra.job.num}'"
    assert train(*SWEEP, "seed=0,1,2", numbered) == 0
    write_status("here/1", "failed")
    assert train(*SWEEP, "seed=0,1,2", numbered) == 0
    assert [run.config["seed"] for run in gf.open_sweep("here").members] == [0, 1, 2]


def test_names_that_no_run_can_have_are_told_once_before_any_starts(train, files, capfd):
    assert train(*SWEEP, "seed=0,1", "data=csv", *files["data/csv"], "data.train_size=4000") == 1
    [few] = capfd.readouterr().err.splitlines()
    assert few.startswith("data.train_size, data.test_size: expected at most")
    assert train(*SWEEP, "seed=0,1", "data=csv", "data.path=nowhere.csv") == 1
    assert capfd.readouterr().err.startswith("data.path: expected a file of labelled names, got nowhere.csv")
    assert not Path("here").exists()


def test_a_failing_run_does_not_stop_the_sweep(train, files, capfd):
    sizes = ["data.train_size=4000,40", "data=csv", *files["data/csv"]]
    assert train(*SWEEP, *sizes, "hydra.sweeper.max_batch_size=1") == 1
    failed, finished = Path("here/data.train_size=4000,data=csv"), Path("here/data.train_size=40,data=csv")
    assert (gf.open_run(finished).status, gf.open_run(failed).status) == ("finished", "failed")
    assert "train_size" in gf.open_run(failed).error
    assert "Traceback" in (failed / "tiny.log").read_text(encoding="utf-8")
    said = capfd.readouterr()
    assert f"{failed}: failed: data.train_size, data.test_size: expected at most" in said.err
    assert "1 of 2 runs done, 1 failed: here\nThe same command with hydra.sweep.dir=here goes on with" in said.err
    assert "Traceback" not in said.err
    [row] = [line for line in said.out.splitlines() if " failed " in line]
    assert "data.train_size, data.test_size: expected at most" in row
    assert row.endswith("…")


def full_disk(monkeypatch, owner: object, name: str, where: str) -> None:
    """Has a function of the file system fail where a path contains some text."""
    original = getattr(owner, name)

    def fail(*args: object, **kwargs: object) -> object:
        if where in str(args[0]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail)


def test_a_full_disk_fails_a_run_by_name(train, monkeypatch, capfd):
    full_disk(monkeypatch, os, "replace", "here/seed=0/gradients")
    assert train(*SWEEP, "seed=0,1") == 1
    err = capfd.readouterr().err
    assert "writing the log failed (No space left on device)" in err
    assert "Traceback" not in err
    assert [run.status for run in gf.open_sweep("here").members] == ["failed", "finished"]


def test_a_disk_too_full_for_a_folder_stops_the_sweep(train, monkeypatch, capfd):
    with monkeypatch.context() as patched:
        full_disk(patched, os, "mkdir", "seed=1")
        assert train(*SWEEP, "seed=0,1,2") == 1
    err = capfd.readouterr().err
    assert "The sweep stops: [Errno 28] No space left on device" in err
    assert "1 of 3 runs done, 2 not started: here" in err
    assert "Traceback" not in err
    assert train(*SWEEP, "seed=0,1,2") == 0


def test_a_disk_too_full_for_the_status_too(train, monkeypatch, capfd):
    with monkeypatch.context() as patched:
        full_disk(patched, os, "replace", "here/seed=0/")
        assert train(*SWEEP, "seed=0,1") == 1
    said = capfd.readouterr()
    assert "1 of 2 runs done, 1 not started: here" in said.err
    assert "Traceback" not in said.err
    assert train(*SWEEP, "seed=0,1") == 0


def test_a_disk_too_full_for_a_run_alone(train, monkeypatch, capfd):
    full_disk(monkeypatch, os, "mkdir", "alone")
    assert train("debug=tiny", "hydra.run.dir=alone") == 1
    err = capfd.readouterr().err
    assert "[Errno 28] No space left on device" in err
    assert "Traceback" not in err


def test_a_name_too_long_for_a_folder_is_found_before_the_first_run(train, capsys):
    assert train(*SWEEP, "seed=0,1", "hydra.sweep.subdir=${seed}" + 255 * "x") == 1
    assert "hydra.sweep.subdir: expected a name of at most 255 bytes, got 256; set fewer" in capsys.readouterr().err
    assert not Path("here").exists()


def test_what_commands_launch_by_default_needs_no_extra():
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    extras = {name.partition(">")[0] for names in project["optional-dependencies"].values() for name in names}
    assert {package.replace("_", "-") for package, _ in launchers.PLUGINS.values()} <= extras
    plain = {name.partition(">")[0] for name in project["dependencies"]}
    assert "hydra-joblib-launcher" in plain  # launcher=processes: compare, lecture, reproduce, figures of no run


@pytest.mark.parametrize(
    ("launcher", "plugin"), [("slurm", "submitit_slurm"), ("slurm_local", "submitit_local"), ("ray", "ray")]
)
def test_a_missing_plugin_names_the_extra(launcher, plugin, train, capsys):
    if launchers.installed(plugin):
        pytest.skip("the plugin is installed")
    assert train(*SWEEP, "seed=0,1", f"launcher={launcher}") == 1
    install = f"pip install 'gradflow-rnn[{launchers.PLUGINS[plugin][1]}]'"
    err = capsys.readouterr().err
    assert f"launcher={launcher}: its plugin is not installed; install it by {install}" in err
    assert "\n" not in err.strip()
    assert train("debug=tiny", f"launcher={launcher}") == 0  # a run alone needs none


def test_what_was_checked_is_what_runs(train, monkeypatch):
    """Hydra would compose the settings again when the run starts, from files that may have changed since."""
    monkeypatch.setattr(sweeper, "to_launch", lambda runs: seen.extend(runs) or [])
    seen: list[Planned] = []
    assert train(*SWEEP, "seed=3") == 1
    sent = pickle.loads(pickle.dumps(seen[0].overrides))
    settings = AsPlanned().load_sweep_config(OmegaConf.create(), [sent])
    assert settings.seed == 3
    assert settings.hydra.sweep.dir == str(Path("here").absolute())


class DyingWorkers:
    """A launcher like joblib's of which a worker dies: the first run of a launch ends, two are recorded, one waits."""

    def __init__(self) -> None:
        self.launched: list[list[str]] = []

    def launch(self, runs: list[list[Composed]], initial_job_idx: int) -> None:
        names = [AsPlanned().load_sweep_config(OmegaConf.create(), run).hydra.sweep.subdir for run in runs]
        self.launched.append(names)
        if len(runs) < 4:
            for name in names:
                write_status(f"here/{name}", "finished")
            return
        write_status(f"here/{names[0]}", "finished")
        workers = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
        for name, worker in zip(names[1:3], workers, strict=True):
            write_status(f"here/{name}", "running")
            set_status(f"here/{name}", pid=worker.pid)
        time.sleep(1)
        for worker in reversed(workers):
            worker.kill()
            worker.wait()
        raise BrokenProcessPool


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_killed_worker_costs_its_own_run_only(train, monkeypatch, capsys):
    launcher = DyingWorkers()
    monkeypatch.setattr(sweeper.Plugins, "instantiate_launcher", lambda *_: launcher)
    monkeypatch.setattr(view, "SECONDS", 0.1)
    assert train(*SWEEP, "seed=0,1,2,3") == 1
    assert launcher.launched == [["seed=0", "seed=1", "seed=2", "seed=3"], ["seed=1", "seed=3"]]
    err = capsys.readouterr().err
    assert "here/seed=2: lost: its process ended without a word" in err
    assert "3 of 4 runs done, 1 lost: here" in err


def test_workers_that_die_at_once_end_the_sweep(train, monkeypatch, capsys):
    class DeadWorkers(DyingWorkers):
        def launch(self, runs: list[list[Composed]], initial_job_idx: int) -> None:
            raise BrokenProcessPool

    monkeypatch.setattr(sweeper.Plugins, "instantiate_launcher", lambda *_: DeadWorkers())
    assert train(*SWEEP, "seed=0,1") == 1
    assert "The sweep stops: workers are killed before a run begins: is there enough memory?" in capsys.readouterr().err


def test_a_job_that_ends_early_is_named_by_its_error(capsys):
    def results() -> list:
        raise ChildProcessError("Job failed with trace:\n---\nTraceback\nOSError: no room\n---\nSee the logs")

    owner = SimpleNamespace(results=results)
    with launchers._enduring(owner, "results", (ChildProcessError,), ["instead"]):
        assert owner.results() == ["instead"]
    assert owner.results is results
    assert capsys.readouterr().err == "A job of the sweep ended early: OSError: no room\n"


def test_runs_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert [side_by_side(threads) for threads in (1, 3, 8, 9)] == [8, 2, 1, 1]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_the_first_death_is_known():
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(4)]
    deaths = Deaths()
    assert deaths.first() is None
    for process in processes:
        deaths.watch(process.pid)
    for index in (2, 0, 3, 1):
        processes[index].send_signal(signal.SIGKILL)
        processes[index].wait()
    assert deaths.first() == processes[2].pid
    assert deaths.first() is None


def test_ctrl_c_signals_no_process_that_a_status_names(tmp_path, monkeypatch):
    bystander = subprocess.Popen(["sleep", "60"])
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)) if number else None)
    paths = [tmp_path / str(number) for number in range(6)]
    for path, process in zip(paths, (bystander.pid, -1, 0, 1, "many", 2**80), strict=True):
        write_status(path, "running")
        set_status(str(path), pid=process, host=socket.gethostname())
    monkeypatch.setattr(signals, "PATIENCE", 0.2)
    with signals.leash() as held:
        held.let_go()
        signals.wait_for_end(paths)
    assert sent == []
    assert bystander.poll() is None
    monkeypatch.undo()
    bystander.kill()
    bystander.wait()


def test_a_run_is_interrupted_when_its_sweep_lets_go_of_it(monkeypatch):
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    monkeypatch.setattr(signals, "SECONDS", 0.01)
    with signals.leashed("not/seen/on/this/host"), signals.leashed(None):
        time.sleep(0.1)
    with signals.leash() as held:
        with signals.leashed(held.name):
            time.sleep(0.1)
            assert sent == []
        with signals.leashed(held.name):
            held.let_go()
            time.sleep(0.3)
            assert sent == [(os.getpid(), signal.SIGTERM)]
    with signals.leashed(held.name):  # the sweep is over
        time.sleep(0.1)
    assert len(sent) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_view_counts_and_names_failures(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(view, "SECONDS", 0.02)
    monkeypatch.setattr(view, "tqdm", lambda **options: tqdm(**options, file=terminal, mininterval=0, ncols=100))
    monkeypatch.setattr(view.tqdm, "write", tqdm.write, raising=False)
    write_status(tmp_path / "a", "failed", error="of an attempt before")
    with view.View([tmp_path / "a", tmp_path / "b", tmp_path / "c"]):
        time.sleep(0.1)
        assert "0/3" in terminal.getvalue()
        assert "attempt" not in terminal.getvalue()
        write_status(tmp_path / "a", "running")
        write_status(tmp_path / "b", "failed", error="no room")
        time.sleep(0.1)
        assert "1 running, 1 failed" in terminal.getvalue()
        write_status(tmp_path / "a", "finished")
        write_status(tmp_path / "c", "diverged")
    assert f"{tmp_path / 'b'}: failed: no room\n" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert "1 failed, 1 diverged" in terminal.getvalue().rpartition("3/3")[2]


def test_the_table_of_a_sweep_that_goes_on(tmp_path):
    writer = RunWriter(tmp_path / "a", meta={}, config={"seed": 0})
    write_status(tmp_path / "b", "failed", error="x" * 100)
    sweep = gf.open_sweep(tmp_path)
    rows = report.printed(report.table(sweep)).splitlines()
    assert rows[0].split()[-1] == "error"
    assert any(row.endswith("x" * 59 + "…") for row in rows)
    assert report.not_done(sweep) == [
        f"{tmp_path / 'b'}: failed: {'x' * 100}",
        "1 of 2 runs are still running",
    ]
    writer.close()


def test_a_sweep_that_is_refused_leaves_no_folder(train):
    assert train("-m", "debug=tiny", "seed=0,0") != 0
    assert not list(Path().iterdir())
