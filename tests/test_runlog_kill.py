"""A run that is killed at any moment opens, holds every iteration that was flushed, and none of them twice."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow.runlog import FlushPolicy, RunWriter
from gradflow.runlog.schema import Label

ROWS = 3
FLUSH_EVERY = 3  # iterations
FAST = FlushPolicy(max_nbytes=1000, merge_at=4, large_part=25_000)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["gradflow.runlog", __name__])


def write(path, iterations, exit_at=None):
    """What runs in the child: writes as fast as it can, and notes in `acknowledged` what was flushed."""
    if exit_at is not None:
        exit_at_file_call(exit_at)
    with open(path / "acknowledged", "w", buffering=1) as acknowledged:
        writer = RunWriter(
            path / "run", meta={}, quantities={"log_state_gradient": Label("nats", "a quantity")}, policy=FAST
        )
        for iteration in range(iterations):
            where = {"module": "rnn", "call": 0, "layer": 0, "direction": 0, "time": np.arange(ROWS)}
            writer.append("time", iteration, where | {"log_state_gradient_mean": expected([iteration])})
            writer.append("scalars", iteration, {"loss": iteration % 7, "lr": np.nan})
            if iteration % FLUSH_EVERY == 0:
                writer.flush()
                acknowledged.write(f"{iteration}\n")
        writer.close()
        acknowledged.write(f"{iterations - 1}\n")


def exit_at_file_call(number):
    """Let the process vanish just before its n-th rename or removal of a file."""
    left = iter(range(number))

    def or_exit(call):
        def wrapped(*arguments, **options):
            if next(left, None) is None:
                os._exit(9)
            return call(*arguments, **options)

        return wrapped

    os.replace, os.unlink = or_exit(os.replace), or_exit(os.unlink)


def expected(iterations):
    """The values of the table `time`, with a NaN and an infinity among them."""
    values = np.array([[iteration, np.nan, -np.inf] for iteration in iterations], np.float32)
    return values.reshape(-1)


def start_child(path, *arguments):
    child = processes.Process(target=write, args=(path, *arguments), daemon=True)
    child.start()
    return child


def last_acknowledged(path):
    """The last iteration that was on disk for certain, -1 before the first; a line may be half written."""
    text = (path / "acknowledged").read_text() if (path / "acknowledged").exists() else ""
    whole = text[: text.rfind("\n") + 1].split()
    return int(whole[-1]) if whole else -1


def check(path):
    """The run opens whole up to some iteration, not before the last that was acknowledged; the number of iterations."""
    acknowledged = (path / "acknowledged").read_text().split() if (path / "acknowledged").exists() else []
    if not (path / "run" / "run.json").exists():
        assert not acknowledged
        return 0
    run = gf.open_run(path / "run")
    scalars, rows = run.scalars, run.frame("time", columns=["log_state_gradient_mean"])
    flushed = len(rows) // ROWS
    assert scalars.index.tolist() == list(range(len(scalars)))
    assert scalars["loss"].tolist() == [iteration % 7 for iteration in scalars.index]
    assert rows["iteration"].tolist() == list(np.repeat(np.arange(flushed), ROWS))
    np.testing.assert_array_equal(rows["log_state_gradient_mean"], expected(range(flushed)))
    assert flushed >= len(scalars) >= 1 + int((acknowledged or [-1])[-1])
    for table, known in (("scalars", len(scalars)), ("time", len(rows))):
        check_plain_pandas(path / "run" / "gradients", table, known)
    return len(scalars)


def check_plain_pandas(root: Path, table: str, known: int):
    """Plain pandas reads a table, and in full unless a merge was under way; never a row twice."""
    merging = any((root / ".merge" / table).glob("*"))
    if (root / table).exists():
        plain = pd.read_parquet(root / table)
        assert len(plain) <= known if merging else len(plain) == known
        if table == "scalars" and len(plain):
            assert plain["iteration"].tolist() == list(range(len(plain)))


def kill_at_a_random_moment(path, generator):
    path.mkdir()
    """By iterations, not by the clock, so that a busy machine is killed as far on as a quiet one."""
    child, iteration = start_child(path, 10**9), generator.uniform(0, 120)
    while last_acknowledged(path) < iteration and child.is_alive():
        time.sleep(0.001)
    time.sleep(generator.uniform(0, 0.01))
    child.kill()
    child.join()
    child.close()
    iterations = check(path)
    if (path / "run" / "status.json").exists():
        assert gf.open_run(path / "run").status == "lost"
    return iterations


def exit_at_a_file_call(path, number):
    path.mkdir()
    child = start_child(path, 24, number)
    child.join()
    code = child.exitcode
    child.close()
    check(path)
    return code


def test_killed_at_random_moments(tmp_path):
    generator = random.Random(0)
    lengths = [kill_at_a_random_moment(tmp_path / str(number), generator) for number in range(10)]
    assert max(lengths) > 4 * FLUSH_EVERY * FAST.merge_at  # merges were among what was interrupted


def test_killed_at_file_calls(tmp_path):
    assert {exit_at_a_file_call(tmp_path / str(number), number) for number in range(0, 54, 6)} == {9}


@pytest.mark.slow
def test_killed_at_random_moments_often(tmp_path):
    generator = random.Random(1)
    for number in range(400):
        kill_at_a_random_moment(tmp_path / str(number), generator)


@pytest.mark.slow
def test_killed_at_every_file_call(tmp_path):
    number = 0
    while exit_at_a_file_call(tmp_path / str(number), number) == 9:
        number += 1
    assert number > 50


def test_a_reader_beside_the_writer_sees_whole_iterations(tmp_path):
    child = start_child(tmp_path, 10**9)
    lengths, end = [], time.monotonic() + 0.5
    try:
        while time.monotonic() < end or (len(set(lengths)) <= 3 and time.monotonic() < end + 60):
            if (tmp_path / "run" / "run.json").exists():
                run = gf.open_run(tmp_path / "run")
                scalars = run.scalars.index.tolist()
                rows = run.frame("time", columns=[])["iteration"].tolist()
                assert scalars == list(range(len(scalars)))
                assert rows == list(np.repeat(np.arange(len(rows) // ROWS), ROWS))
                assert len(rows) >= ROWS * len(scalars)
                lengths.append(len(scalars))
    finally:
        child.kill()
        child.join()
        child.close()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
