"""`RunWriter`: appends rows to a run folder so that it opens at any moment, even after the process was killed."""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradflow.checks import check_name
from gradflow.runlog.buffers import RowBuffer, ScalarBuffer
from gradflow.runlog.documents import config_hash, was_written_here, write_description, write_status
from gradflow.runlog.lock import Lock, identity, take
from gradflow.runlog.parts import has_parts, merge_parts, write_part
from gradflow.runlog.reader import is_run, open_run
from gradflow.runlog.resume import check_resumable, first_iteration, trim
from gradflow.runlog.schema import TABLES, Label, table_columns


@dataclass(frozen=True)
class FlushPolicy:
    """When waiting rows go to disk, and when small parts are merged."""

    seconds: float = 10.0  # flush after this long if at least `nbytes` wait
    nbytes: int = 256 * 1024
    max_seconds: float = 60.0  # flush after this long whatever waits
    max_nbytes: int = 32 * 1024 * 1024  # flush at once when so much waits
    merge_at: int = 64  # new parts of a table that trigger a merge
    large_part: int = 8 * 1024 * 1024  # bytes of a part that is not merged again


class RunWriter:
    """Writes the log of one run.

    Rows wait in memory and are flushed between iterations, so an iteration is on disk whole or not at all, except that
    `scalars` go last: an iteration that is among the scalars is complete in every table. What was flushed survives the
    process. Call :meth:`close` at the end; it merges the parts and says how the run ended.

    Args:
        path: the run folder; made if missing, and it may hold anything but recorded parts.
        meta: what else `run.json` should say: threads, device, dtype, reduction, and `proof_tolerance`, the largest
            residual in the table `proof` of an identity that holds.
        config: the resolved settings.
        seed: the seed of the run.
        parameters: names of the parameters whose gradient norms will be given among the scalars.
        scalars: names of further scalars, such as `accuracy`.
        quantities: name -> unit and long name of what is recorded in the tables `time` and `lag`.
        resume: go on with the run that is there from this iteration on (True: after the last one in the log); what
            the log holds from there on is removed. With 0 or True nothing need be there.
        durable: call fsync on every part, so that it survives a loss of power as well (about 2 ms per part).
        policy: when to flush and merge.

    Attributes:
        path: the run folder, as an absolute path.
        start: the iteration at which this writer starts; 0 but for a resumed run.
        iteration: the last iteration a row was given for, None before the first.

    Raises:
        FileExistsError: the folder holds a recorded run and `resume` is not given, or another process, or another
            writer of this one, records into it.
        FileNotFoundError: the folder holds no run that could be resumed.
        ValueError: a scalar whose name is taken, or a resumed run with other options or columns.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        meta: dict,
        config: dict | None = None,
        seed: int | None = None,
        parameters: Sequence[str] = (),
        scalars: Sequence[str] = (),
        quantities: Mapping[str, Label] | None = None,
        resume: int | bool = False,
        durable: bool = False,
        policy: FlushPolicy | None = None,
    ) -> None:
        self.path = Path(path).absolute()  # so that a script may change its folder
        self.iteration: int | None = None
        self._root = self.path / "gradients"
        self._durable = durable
        self._policy = policy or FlushPolicy()
        meta = {**meta, "flush_seconds": self._policy.max_seconds}
        columns = table_columns(parameters, scalars, quantities)
        self._start(resume)
        if is_run(self.path) and open_run(self.path).status == "running" and not was_written_here(self.path):
            raise FileExistsError(
                f"path: expected a folder of its own, but another process records into {self.path} right now; "
                f"record into another folder, or end that process (on another host: wait until three minutes after)"
            )
        with self._explained():
            self._lock = take(self.path)
        try:
            self._start(resume)  # now that nobody else can change it
            elapsed = self._open(meta, columns, config, seed)
        except BaseException:
            self._lock.release()
            raise
        self._new_parts = dict.fromkeys(TABLES, 0)
        self._flushed = dict.fromkeys(TABLES, self.start - 1)
        self._closed = False
        self._last_flush = time.monotonic()
        rows = {table: RowBuffer(table, columns[table]) for table in TABLES if table != "scalars"}
        scalar_rows = ScalarBuffer(columns["scalars"], elapsed)
        self._buffers: dict[str, RowBuffer | ScalarBuffer] = {**rows, "scalars": scalar_rows}

    @property
    def lock(self) -> Lock:
        """The hold of this process on the folder."""
        return self._lock

    @property
    def is_ours(self) -> bool:
        """Whether this process may write: not so in a child that was forked from the one that does, nor once closed."""
        return self._lock.is_ours

    def _start(self, resume: int | bool) -> None:
        if resume is False and has_parts(self._root):
            raise FileExistsError(
                f"path: expected a folder without a recorded run, but {self.path} holds one; record into another "
                f"folder, delete this one first, or go on with it: resume=True, or the number of updates so far"
            )
        start = None if resume is False else first_iteration(self.path, resume)
        self._resumes, self.start = start is not None, start or 0

    def _open(self, meta: dict, columns: dict[str, dict[str, Label]], config: dict | None, seed: int | None) -> float:
        """Bring the folder to where rows can be added; the seconds that were recorded before."""
        if self._resumes:
            check_resumable(self.path, meta, columns)
        with self._explained():
            shutil.rmtree(self._root / ".tmp", ignore_errors=True)
            self._root.mkdir(exist_ok=True)
            if not self._resumes:
                write_description(self.path, meta=meta, config=config, seed=seed, columns=columns)
            write_status(self.path, "running", config_hash=config_hash(config) if config else None)
            if self._resumes:
                trim(self.path, self.start, meta, config, seed, durable=self._durable)
        elapsed = open_run(self.path).frame("scalars", ["wall_time"])["wall_time"].max() if self._resumes else 0.0
        return elapsed if elapsed > 0 else 0.0

    def append(self, table: str, iteration: int, rows: Mapping[str, object]) -> None:
        """Add rows to a table; whatever waits from earlier iterations may be flushed before.

        Args:
            table: "scalars", "time", "lag", "gates", "spectrum" or "proof".
            iteration: the optimiser update; never before that of an earlier row.
            rows: column to a one-dimensional array, or to a scalar that holds for all rows. Key columns are required
                (`iteration` is filled in), a value column that is left out becomes NaN, a count null. `wall_time` is
                filled in.

        Raises:
            ValueError: an unknown table or column, arrays of different lengths, or an iteration out of order.
            OSError: a flush failed, before these rows were taken, which may be given again; what was flushed before
                stays readable.
            RuntimeError: this process was forked from the one that records.
        """
        if table not in self._buffers:
            check_name("table", table, TABLES)
        if self._closed:
            raise ValueError(f"append: {self.path} is closed; record into another folder")
        self._refuse_child()
        if iteration != self.iteration:
            self._begin(int(iteration))
        if iteration <= self._flushed[table]:
            raise ValueError(
                f"iteration: expected at least {self._flushed[table] + 1} in table {table!r}, got {iteration}, whose "
                f"rows went to disk with the last flush; give all rows of an iteration before"
            )
        self._buffers[table].append(iteration, rows)

    def flush(self) -> None:
        """Bring every waiting row to disk; a table that has rows of the iteration at hand can get no more of it.

        Raises:
            OSError: it failed, or the folder was renamed or deleted; what was flushed before stays readable.
            RuntimeError: this process was forked from the one that records.
        """
        if self.iteration is None or self._closed:
            return
        self._refuse_child()
        self._write()

    def _write(self) -> None:
        with self._explained():
            self._check_place()
        for table, buffer in self._buffers.items():
            if buffer.nbytes:
                self._flushed[table] = buffer.last
                with self._explained():
                    write_part(self._root, table, buffer.to_table(), durable=self._durable)
                buffer.clear()
                self._new_parts[table] += 1
        self._last_flush = time.monotonic()
        for table, new in self._new_parts.items():
            if new >= self._policy.merge_at:
                self._merge(table)

    def close(self, state: str = "finished", *, error: str | None = None, iteration: int | None = None) -> None:
        """Flush, merge and write the final status. Closing twice does nothing, nor does closing in a forked child.

        Args:
            state: "finished", "diverged", "failed" or "interrupted".
            error: what went wrong, in one line.
            iteration: the one that diverged; the last one if not given.

        Raises:
            OSError: the last flush failed; the status then says `failed`, if it can be written.
        """
        if self._closed:
            return
        self._closed = True
        if not self.is_ours:
            return
        try:
            self._write()
            for table in TABLES:
                self._merge(table)
        except BaseException as failure:
            state, error = "failed", error or str(failure) or type(failure).__name__
            raise
        finally:
            last = self.iteration if iteration is None else iteration
            try:
                with self._explained():
                    self._check_place()
                    write_status(self.path, state, error=error, iteration=last)
            finally:
                self._lock.release()

    def _begin(self, iteration: int) -> None:
        """Start an iteration: all rows of the earlier ones are there, so they may go to disk."""
        earliest = self.start if self.iteration is None else self.iteration
        if iteration < earliest:
            raise ValueError(
                f"iteration: expected at least {earliest}, got {iteration}; rows come in order of iteration"
            )
        self.iteration = iteration
        if self._is_due():
            self._last_flush = time.monotonic()  # should this fail, the next try is that far away
            self.flush()

    @property
    def is_full(self) -> bool:
        """Whether so much waits in memory that it can wait no longer."""
        return sum(buffer.nbytes for buffer in self._buffers.values()) >= self._policy.max_nbytes

    def _is_due(self) -> bool:
        waiting = sum([buffer.nbytes for buffer in self._buffers.values()])
        age, policy = time.monotonic() - self._last_flush, self._policy
        enough = age >= policy.seconds and waiting >= policy.nbytes
        return waiting > 0 and (enough or age >= policy.max_seconds or waiting >= policy.max_nbytes)

    def _merge(self, table: str) -> None:
        with self._explained():
            merge_parts(self._root, table, self._policy.large_part, durable=self._durable)
        self._new_parts[table] = 0

    def _refuse_child(self) -> None:
        if not self.is_ours:
            raise RuntimeError(
                f"append: expected the process that records into {self.path}, got a child that was forked from it; "
                f"record into another folder there, or start the child before recording starts"
            )

    def _check_place(self) -> None:
        """Raise where the folder is no more what it was when recording started, so that no new one is begun."""
        if identity(self.path) != self._lock.folder or not (self.path / "run.json").is_file():
            raise FileNotFoundError(errno.ENOENT, "moved", str(self.path))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in an OSError where it happened and what is safe."""
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise  # it is explained already
            reason = f"({error.strerror}); what was flushed before stays readable with gradflow.open_run"
            if isinstance(error, FileNotFoundError):
                reason = (
                    "because the folder was renamed, moved or deleted while the run was recorded, and it is not begun "
                    "anew; if it was renamed or moved, what was flushed is there"
                )
            raise OSError(error.errno, f"writing the log failed {reason}", str(self.path)) from error
