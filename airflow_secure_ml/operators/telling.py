"""Say in a task's log, now and then, how far a walk over many objects is."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_secure_ml.services.desk import Work

_EVERY_S = 30.0


def told(work: Work, what: str) -> Callable[[int], None]:
    """A progress function that tells the task's log every half minute."""
    last = [time.monotonic()]

    def progress(done: int) -> None:
        if time.monotonic() - last[0] >= _EVERY_S:
            last[0] = time.monotonic()
            work.journal.tell(f"looked at {done} {what}")

    return progress
