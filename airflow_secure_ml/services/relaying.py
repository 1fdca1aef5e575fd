"""Do one job of the relay over and over: when it is due, when it failed, and when to tell.

Each job has a thread and a back-off of its own, so a receiver that is slow or gone slows neither a
task nor another job. Starting threads is the program's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.relaying import RelayBook, Trouble
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError

FIRST_WAIT_S, LAST_WAIT_S = 1.0, 300.0
# A receiver that is away for a short while concerns nobody.
TOLD_AFTER_MS = 900_000
_MAX_BECAUSE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What a step left.

    Attributes:
        seconds: How long until the next look.
        is_done: Whether everything that there is was handed over.
    """

    seconds: float
    is_done: bool


class Job(Protocol):
    """Something that goes out after the fact.

    `name` names it in the book, in alerts and on pages: unique and lasting. `about` is its kind.
    """

    name: str
    about: str

    def step(self) -> Rest:
        """Do what is due, durably; a step may run again after it was cut off.

        Raises:
            ServiceUnavailableError: Tried again later; told only where it lasts.
            SecureMLError: Told at once, tried again later.
        """


class JobRunner:
    """Runs one job.

    Args:
        job: The job.
        book: Where its trouble is remembered.
        tell: Records an alert; says whether it is durable.
        now_ms: Wall clock, ms since 1970 UTC.
        on_trouble: Told of each failure.
    """

    def __init__(
        self,
        job: Job,
        book: RelayBook,
        *,
        tell: Callable[[Fact], bool],
        now_ms: Callable[[], int],
        on_trouble: Callable[[str, SecureMLError], None],
    ) -> None:
        self.job, self._book, self._tell = job, book, tell
        self._now_ms, self._on_trouble = now_ms, on_trouble
        self._failures = 0
        self.is_done = False

    def run(self, wait: Callable[[float], bool]) -> None:
        """Step until `wait`, which waits so many seconds, says that it is time to end."""
        while not wait(self.once()):
            pass

    def once(self) -> float:
        """Do one step; returns the seconds until the next one. Nothing of ours is raised."""
        try:
            rest = self._step()
        except SecureMLError as error:
            # Of the book itself, which another process may hold, or whose disk is full.
            self._on_trouble(self.job.name, error)
            rest = None
        if rest is None:
            self.is_done = False
            self._failures += 1
            return min(FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 16), LAST_WAIT_S)
        self._failures, self.is_done = 0, rest.is_done
        return rest.seconds

    def _step(self) -> Rest | None:
        try:
            rest = self.job.step()
        except SecureMLError as error:
            self._on_trouble(self.job.name, error)
            self._remember(error)
            return None
        self._recover()
        return rest

    def _trouble(self) -> Trouble | None:
        return next((each for each in self._book.troubles() if each.job == self.job.name), None)

    def _remember(self, error: SecureMLError) -> None:
        now, before = self._now_ms(), self._trouble()
        since = now if before is None else before.since_ms
        told = "" if before is None else before.told
        if isinstance(error, ServiceUnavailableError):
            is_due = not told and now - since >= TOLD_AFTER_MS
        else:
            # By its code: a message names sizes, and an alert makes the log grow.
            is_due = told != error.why
        if is_due and self._alert("alert.raise", "failed", error.why, str(error)):
            told = error.why
        because = str(error)[:_MAX_BECAUSE]
        self._book.set_trouble(
            Trouble(job=self.job.name, because=because, since_ms=since, told=told)
        )

    def _recover(self) -> None:
        before = self._trouble()
        if before is None:
            return
        if before.told:
            self._alert("alert.close", "ok", None, before.because)
        self._book.end_trouble(self.job.name)

    def _alert(self, act: str, result: str, why: str | None, because: str) -> bool:
        more = {
            "about": self.job.about,
            "subject": self.job.name,
            "because": because[:_MAX_BECAUSE],
        }
        return self._tell(Fact(act=act, phase="seen", result=result, why=why, more=more))
