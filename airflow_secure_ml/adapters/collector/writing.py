"""A few threads that write and sync segments, so that the collector's loop waits for no disk.

What comes at one time goes to one thread, and is handed back at one time: to wake a thread costs as
much as a fast disk takes to sync. Where the disk is slow, several threads sync at once.

Source: AUDIT_TRAIL, When it is durable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.collector.caller import Caller, Segment
    from airflow_secure_ml.core.audit.receiving import Place

# What one thread is given to do at a time.
_SHARE_S: Final = 0.001


class Writing:
    """Frames of one sender on their way to the disk.

    Attributes:
        caller: Whose they are.
        place: How far its emitter is once they are there.
        error: Why they are not; None while nothing is wrong.
    """

    __slots__ = ("_frames", "_segment", "caller", "error", "place")

    def __init__(self, caller: Caller, segment: Segment, frames: bytes, place: Place) -> None:
        self.caller, self.place = caller, place
        self._segment, self._frames = segment, frames
        self.error: BaseException | None = None

    def go(self) -> None:
        """Write and sync them; whatever goes wrong is kept for the loop."""
        try:
            self._segment.write(self._frames, wait=True)
        # Its sender is told, and let go of; another's frames are written all the same.
        except BaseException as error:  # noqa: BLE001 - a thread has nobody above it
            self.error = error


class Writers:
    """Threads for writings, started at once: later there might be no room for one.

    Args:
        threads: How many.
        done: Called with writings that are over, from their thread.
        now_s: A clock that never goes back, seconds.
    """

    def __init__(
        self,
        threads: int,
        done: Callable[[Sequence[Writing]], None],
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._done, self._now_s = done, now_s
        self._queue: SimpleQueue[Sequence[Writing]] = SimpleQueue()
        # How long the last one took; a disk that was never seen is taken for a slow one.
        self._took_s = _SHARE_S
        self._threads = [
            threading.Thread(target=self._work, name=f"sync-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, writings: Sequence[Writing]) -> None:
        """Have them written; returns at once."""
        share = max(1, int(_SHARE_S / max(self._took_s, 1e-6)))
        for begin in range(0, len(writings), share):
            self._queue.put(writings[begin : begin + share])

    def close(self) -> None:
        """End the threads once everything is written."""
        for _ in self._threads:
            self._queue.put(())
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while writings := self._queue.get():
            began_s = self._now_s()
            for writing in writings:
                writing.go()
            self._took_s = (self._now_s() - began_s) / len(writings)
            self._done(writings)
