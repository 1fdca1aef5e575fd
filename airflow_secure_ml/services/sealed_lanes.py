"""A few threads that take segments until none is left, and doors where their order is kept.

The caller's thread is one of them, so a timer's exception strikes where it is expected. The first
error stops all; none outlives `run`, or it would write to a descriptor that means another file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from airflow_secure_ml.errors import ConfigurationError

MAX_THREADS = 64


class _StoppedError(Exception):
    """Another thread failed; its error is the one to tell."""


class Door:
    """Where the threads of one job pass one at a time, in the order of their pieces."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._turn = 0

    @contextmanager
    def in_turn(self, index: int) -> Iterator[None]:
        """Enter after everyone with a smaller index, from 0, has left; every index must come.

        Indices must be taken in order: then the smallest is never the one that waits.
        """
        changed = self._lanes.changed
        with changed:
            changed.wait_for(lambda: self._turn == index or self._lanes.stopped)
        self._lanes.check()
        yield
        with changed:
            self._turn += 1
            changed.notify_all()


class Lanes:
    """Threads that share one job.

    Args:
        threads: 1 to 64, the caller's included.
        pieces: How many pieces there are, if that is known: no more threads are started.
    """

    def __init__(self, threads: int, *, pieces: int | None = None) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise ConfigurationError(f"threads: {threads}, expected 1 to {MAX_THREADS}")
        self._threads = threads if pieces is None else max(1, min(threads, pieces))
        self.stopped = False
        self.changed = threading.Condition()

    def run(self, work: Callable[[], None]) -> None:
        """Call `work` in every thread and return when all have returned.

        Raises:
            BaseException: What the first failing one raised, after the others have stopped.
        """
        if self._threads == 1:
            work()
            return
        with ThreadPoolExecutor(max_workers=self._threads - 1) as pool:
            try:
                others = [pool.submit(self._guard, work) for _ in range(self._threads - 1)]
                self._guard(work)
                for other in others:
                    other.result()
            except BaseException:
                self._stop()
                raise

    def check(self) -> None:
        """To be called before each piece of work: leaves it if another thread has failed."""
        if self.stopped:
            raise _StoppedError

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _StoppedError:
            return
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
