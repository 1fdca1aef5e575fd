"""Check the whole log now: in a thread of its own, with progress, and on record.

The thread goes on if the reader leaves, so what it found is in the trail in any case.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from fastapi import HTTPException

from airflow_secure_ml.adapters.log_signer import read_last_note
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.plugin.wording import duration, visible
from airflow_secure_ml.services.verifying import (
    CANNOT_TELL,
    INCOMPLETE,
    WHOLE,
    Report,
    verify_log,
)

log = logging.getLogger(__name__)
PROGRESS_S = 0.1
_NAMED = 3
_SHOWN_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a verification ended, for a reader.

    Attributes:
        tone: good, bad, or look.
        sign: What stands before the text.
        text: What was found.
        look: What should be looked at all the same, in a line of its own; empty: nothing.
    """

    tone: str
    sign: str
    text: str
    look: str = ""


def verify_now(trail: Trail, user: str, kept: str) -> Iterator[Verdict | tuple[int, int]]:
    """Check the log from its first event.

    Args:
        trail: The trail.
        user: Who asked; recorded.
        kept: A checkpoint that the reader kept; empty if none.

    Returns:
        (leaves done, leaves in all) as it goes on, the verdict last.

    Raises:
        HTTPException: 409: another check runs in this process.
        ServiceUnavailableError: That it is asked for cannot be recorded.
    """
    if not trail.verifying.acquire(blocking=False):
        raise HTTPException(409, "The log is being checked already; wait for that to end.")
    try:
        size = trail.store.size()
        intent = Fact(act="trail.verify", phase="intent", by=user, more={"size": size})
        [asked] = trail.record(intent)
        steps: queue.Queue[Verdict | tuple[int, int]] = queue.Queue()
        threading.Thread(
            target=_work, args=(trail, user, kept, asked, steps), name="verify", daemon=True
        ).start()
    except BaseException:
        trail.verifying.release()
        raise
    return _until_verdict(steps)


def as_lines(steps: Iterator[Verdict | tuple[int, int]]) -> Iterator[str]:
    """The steps as JSON, one line each."""
    for step in steps:
        if isinstance(step, Verdict):
            yield json.dumps(asdict(step)) + "\n"
        else:
            yield json.dumps({"done": step[0], "of": step[1]}) + "\n"


def _until_verdict(
    steps: queue.Queue[Verdict | tuple[int, int]],
) -> Iterator[Verdict | tuple[int, int]]:
    while True:
        step = steps.get()
        yield step
        if isinstance(step, Verdict):
            return


def _work(
    trail: Trail,
    user: str,
    kept: str,
    asked: str,
    steps: queue.Queue[Verdict | tuple[int, int]],
) -> None:
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_S:
            said = time.monotonic()
            steps.put((done, total))

    verdict = Verdict(tone="look", sign="?", text="The check broke off; nothing is known from it.")
    try:
        began = time.monotonic()
        last = read_last_note(trail.settings.audit_signer_dir)
        with trail.store.whole() as whole:
            report = verify_log(
                whole, trail.log_keys(), kept=kept or None, signed_last=last, progress=progress
            )
        verdict = describe(report, time.monotonic() - began)
        trail.record(_outcome(report, asked, user))
    except SecureMLError as error:
        log.warning("checking the audit log: %s", error)
        verdict = Verdict(tone="look", sign="?", text=f"It could not be checked: {error}")
    finally:
        trail.verifying.release()
        steps.put(verdict)


def _outcome(report: Report, asked: str, user: str) -> Fact:
    more: dict[str, object] = {"size": report.size, "root": report.root}
    if report.first_bad is not None:
        more["first_bad"] = report.first_bad
    if report.status == WHOLE:
        return Fact(act="trail.verify", phase="outcome", result="ok", of=asked, by=user, more=more)
    more["because"] = report.problem[:500]
    why = "not_checkable" if report.status == CANNOT_TELL else "digest_differs"
    return Fact(
        act="trail.verify", phase="outcome", result="failed", why=why, of=asked, by=user, more=more
    )


def _unended(report: Report) -> str:
    """The newest few recordings that did not end well, by name; the page lists more."""
    endings = report.badly_ended
    if not endings.named:
        return ""
    shown = endings.named[:_NAMED]
    names = [
        f"{one.program or '?'} on {one.host or '?'}"
        + ("" if one.pid is None else f" (process {one.pid})")
        for one in shown
    ]
    left = len(endings.named) - len(shown) + endings.more
    more = f" and {left:,} more" if left else ""
    return visible(f"Not ended well: {', '.join(names)}{more}.", limit=_SHOWN_CHARS)


def describe(report: Report, seconds: float) -> Verdict:
    """Say what a verification found."""
    took = duration(seconds)
    if report.status == WHOLE:
        later = report.size - report.signed_size
        open_end = f" The newest {later:,} are covered by no checkpoint yet." if later else ""
        brought = " The one you brought is among them." if report.kept_size is not None else ""
        return Verdict(
            tone="good",
            sign="✓",
            text=(
                f"Nothing has changed: {report.checked:,} events derived again in {took}, "
                f"{report.checkpoints:,} checkpoints hold.{brought}{open_end}"
            ),
            look=_unended(report),
        )
    place = "" if report.first_bad is None else f" First bad event: {report.first_bad:,}."
    if report.status == INCOMPLETE:
        return Verdict(
            tone="look", sign="!", text=f"Not changed, but incomplete: {report.problem}.{place}"
        )
    if report.status == CANNOT_TELL:
        return Verdict(tone="look", sign="?", text=f"It cannot be told: {report.problem}.")
    return Verdict(
        tone="bad", sign="✗", text=f"The log was changed. {report.problem}.{place} ({took})"
    )
