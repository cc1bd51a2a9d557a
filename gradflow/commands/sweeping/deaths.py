"""Which of several processes died first: joblib kills the other workers when one is gone, and does not say which."""

import os
import select
from contextlib import suppress


class Deaths:
    """Keeps watch over processes of this host.

    Linux makes a descriptor of a process readable when that process dies, and `epoll` gives descriptors in the order in
    which they became so. Where there is no such thing, nothing is known.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(os, "pidfd_open") and hasattr(select, "epoll") else None
        self._processes: dict[int, int] = {}

    def watch(self, process: object) -> None:
        """Adds a process; one that is gone already, and what is no number of a process, is left out."""
        if self._epoll is not None and isinstance(process, int) and process not in self._processes.values():
            with suppress(OSError, OverflowError):
                descriptor = os.pidfd_open(process)
                self._processes[descriptor] = process
                self._epoll.register(descriptor, select.EPOLLIN)

    def first(self) -> int | None:
        """The process that died first, None if that is not known; the watch begins anew."""
        dead = self._epoll.poll(0) if self._epoll is not None else []
        first = self._processes[dead[0][0]] if dead else None
        for descriptor in self._processes:
            os.close(descriptor)
        self._processes.clear()
        return first
