"""Who records into a run folder: a lock that the operating system gives back when its holder dies, however it dies.

The file `.lock` in the folder is empty and stays there; what counts is whether a process holds it (`flock`). Asking
needs no more than the right to read. Where nothing can be learnt from it (a log that is older than locks, a file system
that has none, a run on another host whose locks may not be seen here), the process that `status.json` names and the
age of what was written have to do.
"""

import errno
import os
import socket
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows, which is then as a file system without locks
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_PATIENCE = 1.0  # seconds; those who ask hold the lock for an instant
_PAUSE = 0.01


class Lock:
    """The hold of this process on a run folder, until it is released or nothing refers to it any more.

    A forked child does not share it: neither does it keep the folder when its parent is gone, nor may it write.

    Args:
        path: the folder.
        reserved: whether a writer of this process may share it.

    Raises:
        FileExistsError: another process holds it.
        OSError: the folder cannot be read, or the lock not written.
    """

    def __init__(self, path: Path, *, reserved: bool) -> None:
        self.reserved, self.holders = reserved, 1
        self._folder = os.open(path, os.O_RDONLY) if fcntl else None  # open, so that its inode is not used again
        self.folder = identity(path)
        try:
            self._file = None if self._folder is None else _locked(path, self._folder)
        except OSError:
            _close(self._folder)
            raise
        self._give_back = weakref.finalize(self, _close, self._folder, self._file)
        _held.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process holds it, not one that this was forked from."""
        return self in _held

    def release(self) -> None:
        """Let go; the folder is free when all who share the lock have."""
        self.holders -= 1
        if self.holders == 0 and self in _held:
            _held.discard(self)
            self._give_back()

    def leave_to_parent(self) -> None:
        """Close the copy of a forked child, which gives nothing back."""
        if self._give_back.detach():
            for descriptor in (self._folder, self._file):
                if descriptor is not None:
                    os.close(descriptor)


_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def take(path: Path, *, reserve: bool = False) -> Lock:
    """Take a run folder, made if missing, for this process.

    Args:
        path: the folder.
        reserve: keep it for the one writer that this process makes next, which shares the lock.

    Raises:
        FileExistsError: another process records into it, or a writer of this one.
        OSError: the folder or its lock cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    folder = identity(path)
    for lock in _held:
        if lock.folder == folder:
            if reserve or not lock.reserved or lock.holders > 1:
                raise FileExistsError(
                    f"path: expected a folder of its own, but another recorder of this process records into {path}; "
                    f"record into another folder, or close that one first (leave its `with` block)"
                )
            lock.holders += 1
            return lock
    return Lock(path, reserved=reserve)


def is_held(path: Path) -> bool | None:
    """Whether some process, this one included, holds a folder; None where that cannot be known. Writes nothing."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path / NAME, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)


def is_held_here(path: Path) -> bool:
    """Whether this process holds a folder."""
    folder = identity(path)
    return any(lock.folder == folder for lock in _held)


def is_alive(path: Path, status: Mapping[str, Any], places: Iterable[Path], silence: float) -> bool:
    """Whether the process that wrote `running` into the status of a folder still records there.

    Args:
        path: the folder.
        status: its `status.json`.
        places: what recording changes from time to time.
        silence: seconds after which a run is given up that cannot be asked.
    """
    held = is_held(path)
    here = status.get("host") == socket.gethostname()
    if held or (here and held is not None):
        return bool(held)
    if here and _is_gone(status.get("pid")):
        return False
    newest = max((place.stat().st_mtime for place in places if place.exists()), default=0.0)
    return time.time() - newest <= silence


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, which it keeps when it is renamed; None if there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _locked(path: Path, folder: int) -> int | None:
    """The descriptor of the locked file in a folder; None where there are no locks: the file is not left there then."""
    descriptor = os.open(NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        _wait_for(descriptor, time.monotonic() + _PATIENCE)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        raise FileExistsError(
            f"path: expected a folder of its own, but another process records into {path} right now; record into "
            f"another folder, or end that process"
        ) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        os.unlink(NAME, dir_fd=folder)
        return None


def _wait_for(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _close(folder: int | None, file: int | None = None) -> None:
    if file is not None:
        fcntl.flock(file, fcntl.LOCK_UN)  # so that copies in children which escaped `_in_child` hold nothing either
        os.close(file)
    if folder is not None:
        os.close(folder)


def _is_gone(process: object) -> bool:
    """Whether there is no such process on this host."""
    if os.name != "posix" or not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # it lives, under another user
    return False


def _in_child() -> None:
    for lock in list(_held):
        lock.leave_to_parent()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
