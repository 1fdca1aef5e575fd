"""Say what a secured run does, in the trail and in the task's own log.

Every fact carries the run it belongs to, since one process may run several; every outcome names
the run's intent.

Source: AUDIT_TRAIL, Event; API, "One line in the task's own log for each act".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.ports import AuditSink, KeyRef
from airflow_secure_ml.errors import SecureMLError


class Journal:
    """The facts of one secured run.

    Args:
        sink: Where they go.
        run: The task try; None outside Airflow.
        tell: Takes one line in plain words for each act.
        clock: Seconds, for durations; any zero.
    """

    def __init__(
        self,
        sink: AuditSink,
        run: RunRef | None,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink, self._run, self._clock = sink, run, clock
        self._tell = tell
        self.intent: str | None = None

    def begin(
        self, more: Mapping[str, Any], then: Sequence[tuple[str, Mapping[str, Any]]] = ()
    ) -> None:
        """Record the run's intent and make it durable: before any key, credential or byte.

        Args:
            more: Names, addresses and operator.
            then: Acts and parts of further intents that belong to it.
        """
        fact = Fact(act="task.secure", phase="intent", run=self._run, more=more)
        self.intent = self._sink.record(fact)
        for act, parts in then:
            self.intend(act, **parts)
        self.settle()

    def tell(self, line: str) -> None:
        """Say something in the task's own log, if anybody is there to read it."""
        # A supervisor that died took the log with it: never a reason to stop between two publishes.
        with contextlib.suppress(OSError):
            self._tell(line)

    def intend(self, act: str, **parts: Any) -> str:
        """Record what is about to be done; returns the event's name."""
        return self._sink.record(Fact(act=act, phase="intent", run=self._run, **parts))

    def did(
        self, act: str, *, since: float | None = None, of: str | None = None, **parts: Any
    ) -> str:
        """Record that an act succeeded; returns the event's name."""
        return self._outcome(act, "ok", None, since, of, parts)

    def decided(self, rule: Mapping[str, Any], more: Mapping[str, Any], why: str | None) -> str:
        """Record a rule's decision; `why` for a denial."""
        result = "ok" if why is None else "refused"
        return self._outcome("rule.decide", result, why, None, None, {"rule": rule, "more": more})

    def refused(
        self, act: str, error: SecureMLError, *, of: str | None = None, **parts: Any
    ) -> str:
        """Record that an act was refused, or failed if another system is to blame."""
        return self._outcome(act, error.result, error.why, None, of, parts)

    def ended(self, result: str, why: str | None, more: Mapping[str, Any]) -> None:
        """Record the run's outcome; durable after `settle`."""
        self._outcome("task.secure", result, why, None, None, {"more": more})

    def settle(self) -> None:
        """Return when all of it would survive a power loss; ServiceUnavailableError if not."""
        self._sink.settle()

    def now(self) -> float:
        """Seconds, for `since`."""
        return self._clock()

    def _outcome(
        self,
        act: str,
        result: str,
        why: str | None,
        since: float | None,
        of: str | None,
        parts: Mapping[str, Any],
    ) -> str:
        # A suite or a key system may raise our errors with a word of its own: it is recorded all
        # the same, and the word is not.
        why = why if why is None or why in WHYS else "bug"
        given = dict(parts)
        if since is not None:
            given["more"] = {**(given.get("more") or {}), "ms": self._ms(since)}
        return self._sink.record(
            Fact(
                act=act,
                phase="outcome",
                result=result,
                why=why,
                of=of or self.intent,
                run=self._run,
                **given,
            )
        )

    def _ms(self, since: float) -> int:
        return max(0, round((self._clock() - since) * 1000))


def key_facts(key: KeyRef) -> dict[str, str]:
    """A key as events name it."""
    return {"system": key.system, "name": key.name, "version": key.version}


def in_words(size_bytes: int) -> str:
    """A size as a person says it: `12 MB`."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
