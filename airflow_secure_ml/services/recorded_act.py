"""One act outside a secured run, such as a look-up: a durable intent, then its outcome.

Runs of several steps are `services.journal`'s business.

Source: AUDIT_TRAIL, "In the body each … XCom or secret look-up has its own durable intent".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.ports import AuditSink, KeyRef
from airflow_secure_ml.errors import SecureMLError, ServiceError


class Outcome:
    """What an outcome says besides its result; filled in by whoever acts.

    Attributes:
        because: In a word, what was particular; None: nothing.
        key: The key that was used; None: none was.
    """

    def __init__(self) -> None:
        self.because: str | None = None
        self.key: KeyRef | None = None


@contextmanager
def recorded(
    sink: AuditSink,
    run: RunRef | None,
    act: str,
    facts: Mapping[str, Any],
    *,
    place: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """Act between a durable intent and its outcome; a refusal is durable before it is raised.

    Args:
        sink: Where the events go.
        run: The task try; None: none.
        act: An activity of the catalogue that has both phases.
        facts: What both events say.
        place: Their `object`.
        clock: Seconds, for the duration; any zero.

    Raises:
        ServiceUnavailableError: The intent cannot be made durable; nothing was done.
    """
    about: dict[str, Any] = {"act": act, "run": run, "object": place}
    intent = sink.record(Fact(phase="intent", more=facts, **about))
    sink.settle()
    began, outcome = clock(), Outcome()
    try:
        yield outcome
    except BaseException as error:
        result, why = _verdict(error)
        more = {**facts, "because": outcome.because}
        fact = Fact(phase="outcome", of=intent, result=result, why=why, more=more, **about)
        sink.record(fact)
        sink.settle()
        raise
    more = {**facts, "because": outcome.because, "ms": max(0, round((clock() - began) * 1000))}
    key = outcome.key
    about["key"] = key and {"system": key.system, "name": key.name, "version": key.version}
    sink.record(Fact(phase="outcome", of=intent, result="ok", more=more, **about))


def printable(name: str) -> str:
    """A name that anybody may have made up, as an event can hold it."""
    return name.encode("utf-8", "replace").decode().replace("\0", "?")


def _verdict(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ImportError) and not isinstance(error, SecureMLError):
        # Airflow's, where a value is of a class that it does not allow.
        return "failed", "misconfigured"
    if not isinstance(error, SecureMLError):
        # What Airflow raises when its API server does not answer; or a timer, or the end.
        return "failed", "service_unavailable" if isinstance(error, Exception) else "task_raised"
    # A key system may raise our errors with a word of its own: recorded all the same, without it.
    why = error.why if error.why in WHYS else "bug"
    return "failed" if isinstance(error, ServiceError) else "refused", why
