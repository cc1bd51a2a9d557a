"""Who records into a folder: one, as long as it lives; the operating system says so, not the age of a file."""

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch

import gradflow as gf
from gradflow.runlog import FlushPolicy, RunWriter, lock
from tests import hostile

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch", "gradflow.runlog", __name__])

EVERY_APPEND = FlushPolicy(max_nbytes=1, merge_at=3)


def append(writer: RunWriter, *iterations: int, mark: float = 0) -> None:
    for iteration in iterations:
        writer.append("scalars", iteration, {"loss": mark})


def recording(path: Path, said, iterations: int = 10**9, mark: float = 0) -> None:
    """What runs in the other process: takes the folder, says how that went, and records until it is killed."""
    try:
        writer = RunWriter(path, meta={}, policy=EVERY_APPEND)
    except FileExistsError as error:
        said.put(str(error))
        return
    append(writer, 0, 1, mark=mark)
    said.put("records")
    append(writer, *range(2, min(iterations, 50)), mark=mark)
    time.sleep(60 if iterations > 50 else 0.05)
    writer.close()


@pytest.fixture
def another(tmp_path):
    """A process that records into a folder."""
    said = processes.Queue()
    child = processes.Process(target=recording, args=(tmp_path / "run", said), daemon=True)
    child.start()
    assert said.get(timeout=60) == "records"
    yield child
    child.kill()
    child.join()


def age(path: Path, seconds: float) -> None:
    """Makes everything in a folder look as if it was written long ago, as after a clock that jumped."""
    then = time.time() - seconds
    for place in [path, *path.rglob("*")]:
        os.utime(place, (then, then))


def status(path: Path, **values: object) -> None:
    document = path / "status.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | values))


def test_a_run_lives_as_long_as_its_process_however_silent(tmp_path, another):
    os.kill(another.pid, signal.SIGSTOP)
    age(tmp_path / "run", 10**6)
    assert gf.open_run(tmp_path / "run").status == "running"
    with pytest.raises(FileExistsError, match=r"another process records into .*run right now; record into another"):
        RunWriter(tmp_path / "run", meta={}, resume=True)
    another.kill()
    another.join()
    assert gf.open_run(tmp_path / "run").status == "lost"
    RunWriter(tmp_path / "run", meta={}, resume=True).close()
    assert gf.open_run(tmp_path / "run").status == "finished"


def test_the_process_that_a_status_names_does_not_matter(tmp_path, another):
    for process in (-1, 0, 1, os.getpid(), None):
        status(tmp_path / "run", pid=process)
        assert gf.open_run(tmp_path / "run").status == "running"
    another.kill()
    another.join()
    for process in (-1, 0, 1, os.getpid(), None):
        status(tmp_path / "run", pid=process)
        assert gf.open_run(tmp_path / "run").status == "lost"


def test_asking_writes_nothing(tmp_path, another):
    before = {file: os.stat(file).st_mtime_ns for file in (tmp_path / "run" / ".lock", tmp_path / "run")}
    assert lock.is_held(tmp_path / "run")
    assert {file: os.stat(file).st_mtime_ns for file in before} == before
    assert lock.is_held(tmp_path) is None
    assert os.listdir(tmp_path) == ["run"]


def race(path: Path) -> str:
    """Two processes record into one folder at once; the verdict on what came of it."""
    said = processes.Queue()
    children = [processes.Process(target=recording, args=(path, said, 40, mark), daemon=True) for mark in (1, 2)]
    for child in children:
        child.start()
    words = [said.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
    run = gf.open_run(path)
    whole = run.status == "finished" and run.scalars.index.tolist() == list(range(40))
    refused = [word for word in words if "holds one" in word or "another process records into" in word]
    if len(refused) != 1 or words.count("records") != 1:
        return "silent"
    return "clear" if whole and run.scalars["loss"].nunique() == 1 else "lost"


@pytest.mark.parametrize("trials", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_of_two_processes_one_records_and_the_other_is_told(trials, tmp_path):
    for trial in range(trials):
        verdict = race(tmp_path / str(trial))
        hostile.record("two writers in one folder", str(trial), verdict)
        assert verdict == "clear"


def test_two_recorders_of_one_process(tmp_path):
    first = RunWriter(tmp_path, meta={})
    append(first, 0)
    for resume in (False, True, 0):
        with pytest.raises(FileExistsError, match=r"another recorder of this process records into .*close that one"):
            RunWriter(tmp_path, meta={}, resume=resume)
    os.symlink(tmp_path, tmp_path / "by-another-name")
    with pytest.raises(FileExistsError, match="another recorder of this process"):
        RunWriter(tmp_path / "by-another-name", meta={})
    first.close()
    assert gf.open_run(tmp_path).scalars.index.tolist() == [0]
    RunWriter(tmp_path, meta={}, resume=True).close()


def test_a_recorder_that_is_gone_holds_nothing(tmp_path):
    writer = RunWriter(tmp_path, meta={})
    append(writer, 0)
    writer.flush()
    del writer
    assert gf.open_run(tmp_path).status == "lost"
    with pytest.raises(ValueError, match="resume: expected dtype"):
        RunWriter(tmp_path, meta={"dtype": "other"}, resume=0)
    RunWriter(tmp_path, meta={}, resume=0).close()


def test_a_folder_may_be_kept_for_the_one_writer_to_come(tmp_path):
    kept = lock.take(tmp_path, reserve=True)
    writer = RunWriter(tmp_path, meta={})
    with pytest.raises(FileExistsError, match="another recorder of this process"):
        RunWriter(tmp_path, meta={})
    with pytest.raises(FileExistsError, match="another recorder of this process"):
        lock.take(tmp_path, reserve=True)
    writer.close()
    assert lock.is_held(tmp_path)
    kept.release()
    assert lock.is_held(tmp_path) is False


def in_child(work) -> int:
    """Forks, works in the child, and gives the status it ends with."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_writes_nothing(tmp_path):
    layer = torch.nn.RNN(2, 3)

    def step(recorder):
        layer(torch.zeros(4, 1, 2))[0].sum().backward()
        recorder.step()

    def child():
        with pytest.raises(RuntimeError, match=r"expected the process that records into .* got a child"):
            step(recorder)
        with pytest.raises(RuntimeError, match="got a child that was forked"):
            recorder.flush()
        recorder.__exit__(None, None, None)
        with pytest.raises(FileExistsError, match="another process records into"):
            RunWriter(tmp_path / "run", meta={}, resume=True)
        with gf.record(layer, tmp_path / "of-the-child") as own:
            step(own)

    with gf.record(layer, tmp_path / "run") as recorder:
        step(recorder)
        recorder.flush()
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
        assert in_child(child) == 0
        assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == before
        assert gf.open_run(tmp_path / "run").status == "running"
        step(recorder)
    for name, iterations in (("run", [0, 1]), ("of-the-child", [0])):
        run = gf.open_run(tmp_path / name)
        assert (run.status, run.scalars.index.tolist()) == ("finished", iterations)


def fork_and_die(path: Path, said) -> None:
    writer = RunWriter(path, meta={})
    append(writer, 0)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    said.put(child)
    said.close()
    said.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_forked_child_keeps_no_folder_from_others(tmp_path):
    said = processes.Queue()
    parent = processes.Process(target=fork_and_die, args=(tmp_path, said))
    parent.start()
    child = said.get(timeout=60)
    parent.join()
    try:
        os.kill(child, 0)
        assert gf.open_run(tmp_path).status == "lost"
        RunWriter(tmp_path, meta={}, resume=0).close()
    finally:
        os.kill(child, signal.SIGKILL)


GONE = r"writing the log failed because the folder was renamed, moved or deleted .* not begun anew; .*'.*run'"


@pytest.mark.parametrize("when", ["at a flush", "at the end"])
@pytest.mark.parametrize("what", ["renamed", "deleted", "replaced", "description", "tables"])
def test_a_folder_that_goes_away_is_an_error_and_no_new_folder(what, when, tmp_path):
    path, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    writer = RunWriter(path, meta={})
    append(writer, 0)
    writer.flush()
    if what in ("renamed", "replaced"):
        path.rename(elsewhere)
    elif what == "deleted":
        shutil.rmtree(path)
    elif what == "description":
        (path / "run.json").unlink()
    else:
        shutil.rmtree(path / "gradients")
    if what == "replaced":
        RunWriter(path, meta={}).close()
    append(writer, 1)
    with pytest.raises(FileNotFoundError, match=GONE):
        writer.flush() if when == "at a flush" else writer.close()
    if when == "at a flush":
        with pytest.raises(FileNotFoundError, match=GONE):
            writer.close()
    if elsewhere.exists():
        moved = gf.open_run(elsewhere)
        assert (moved.status, moved.scalars.index.tolist()) == ("lost", [0])
    if what == "replaced":
        assert (gf.open_run(path).status, len(gf.open_run(path).scalars)) == ("finished", 0)
    elif what in ("renamed", "deleted"):
        assert not path.exists()
    elif what == "tables":
        assert gf.open_run(path).status == "failed"


def test_a_script_may_change_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = RunWriter("run", meta={})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    append(writer, 0)
    writer.close()
    assert gf.open_run(tmp_path / "run").status == "finished"
    assert os.listdir() == []


# Where the lock says nothing


@pytest.fixture
def gone() -> int:
    """The number of a process that lived."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_logs_older_than_locks(tmp_path, gone):
    writer = RunWriter(tmp_path, meta={}, policy=FlushPolicy(max_seconds=100))
    append(writer, 0)
    writer.flush()
    (tmp_path / ".lock").unlink()
    for process, host, seconds, stands in (
        (os.getpid(), socket.gethostname(), 290, "running"),
        (os.getpid(), socket.gethostname(), 310, "lost"),
        (gone, socket.gethostname(), 0, "lost"),
        (gone, "another", 290, "running"),
        (gone, "another", 310, "lost"),
    ):
        status(tmp_path, pid=process, host=host)
        age(tmp_path, seconds)
        assert gf.open_run(tmp_path).status == stands


def test_the_lock_of_another_host_may_not_be_seen(tmp_path):
    RunWriter(tmp_path, meta={})
    status(tmp_path, host="another")
    assert gf.open_run(tmp_path).status == "running"
    age(tmp_path, 190)
    assert gf.open_run(tmp_path).status == "lost"
    writer = RunWriter(tmp_path, meta={}, resume=0)
    status(tmp_path, host="another")
    age(tmp_path, 190)
    assert gf.open_run(tmp_path).status == "running"  # it is seen
    del writer


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    writer = RunWriter(tmp_path, meta={})
    assert not (tmp_path / ".lock").exists()
    assert gf.open_run(tmp_path).status == "running"
    with pytest.raises(FileExistsError, match="another recorder of this process"):
        RunWriter(tmp_path, meta={})
    append(writer, 0)
    monkeypatch.undo()
    writer.close()
    assert gf.open_run(tmp_path).status == "finished"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_a_stranger_put_in_the_place_of_the_lock(kind, tmp_path):
    RunWriter(tmp_path / "run", meta={})
    place = tmp_path / "run" / ".lock"
    place.unlink()
    {"link": lambda: place.symlink_to(tmp_path / "outside"), "fifo": lambda: os.mkfifo(place), "folder": place.mkdir}[
        kind
    ]()
    assert gf.open_run(tmp_path / "run").status in ("running", "lost")
    if kind != "fifo":
        with pytest.raises(OSError, match="writing the log failed"):
            RunWriter(tmp_path / "run", meta={}, resume=0)
    assert not (tmp_path / "outside").exists()
