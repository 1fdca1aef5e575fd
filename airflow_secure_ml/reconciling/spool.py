"""Wait until the log has what ended processes recorded.

Only then does a missing event mean something, and only then does the trail remember what an
earlier reconciler said before it was killed.

Source: AUDIT_TRAIL, Spool and Sequencer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from airflow_secure_ml.adapters.sequencer.locks import lock_holder

_NAME = re.compile(r"[0-9a-f]{32}-[0-9]{4}\.seg", re.ASCII)
POLL_S = 0.2


def ended_segments(directories: Sequence[Path]) -> frozenset[str]:
    """Names of segments that nobody writes any more.

    Not for a process that has a segment of its own open: looking at it would drop its lock.
    """
    found: set[str] = set()
    for directory in directories:
        try:
            names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
        except FileNotFoundError:
            continue
        found.update(name for name in names if _is_ended(directory / name))
    return frozenset(found)


def await_taken(
    directories: Sequence[Path],
    *,
    timeout_s: float,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> frozenset[str]:
    """Wait until the segments that have ended by now are in the log.

    Args:
        directories: Spool directories.
        timeout_s: How long to wait at most.
        wait: Waits so many seconds.
        clock: Seconds.

    Returns:
        Names of those that are left after the time.
    """
    due = clock() + timeout_s
    left = ended_segments(directories)
    while left and clock() < due:
        wait(POLL_S)
        left &= ended_segments(directories)
    return left


def _is_ended(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Taken and gone, or nothing that the sequencer would follow either.
        return False
    try:
        return lock_holder(descriptor) is None
    finally:
        os.close(descriptor)
