"""What the lines have in common on which an emitter hands its frames over, wherever they lead.

How one is reached, and what counts as its word that frames are durable, is each adapter's business.

Source: AUDIT_TRAIL, When it is durable.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from airflow_secure_ml.errors import ServiceUnavailableError

# Who took no frames for one of these would, asked again, say so again.
FINAL: Final = frozenset({errno.EPROTO, errno.EPERM, errno.EINVAL})


class Patience:
    """How long one line goes on trying. Who waited in vain once does not wait again: many calls
    would add up.

    Args:
        seconds: How long to wait for who does not take frames, where somebody waits for that.
        now_s: A clock that never goes back, seconds.
    """

    def __init__(self, seconds: float, now_s: Callable[[], float]) -> None:
        self._seconds, self._now_s = seconds, now_s
        self._is_missed = False

    @contextmanager
    def turn(self, *, wait: bool) -> Iterator[float]:
        """One call's tries, until when by the clock; it is in vain if it ends with an OSError."""
        until = self._now_s() + (0.0 if self._is_missed or not wait else self._seconds)
        try:
            yield until
        except OSError:
            self._is_missed = True
            raise
        self._is_missed = False


def not_durable(service: str, place: object, found: str, advice: str) -> ServiceUnavailableError:
    """What to raise where a line does not take what it should.

    Args:
        service: What it leads to, such as `audit inbox`.
        place: Which one that is.
        found: What happened.
        advice: What to see to.
    """
    return ServiceUnavailableError(
        f"{service} {place}: expected events to become durable before the work goes on, "
        f"found: {found}; {advice}",
        service=service,
        action="settle",
        reason=found,
        why="audit_unavailable",
    )
