"""Run the sequencer: steps, checkpoints, and an end of its own when nothing is left to do.

Source: AUDIT_TRAIL, Sequencer and Tree, checkpoint, signer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.handing_over import announcement
from airflow_secure_ml.core.audit.ports import LogWriter
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.own_events import Clock
from airflow_secure_ml.services.sequencing import Sequencer, Step

CHECKPOINT_MS = 1000
# After a refusal: the reason does not go away within a second.
REFUSED_MS = 60_000
POLL_S = 0.2
RETRY_S = 1.0


@dataclass(slots=True)
class _Watch:
    """Since when something is due."""

    uncovered_ms: int | None = None
    active_ms: int = 0
    trouble: str = ""


def run_sequencer(
    sequencer: Sequencer,
    checkpointer: Checkpointer,
    *,
    clock: Clock,
    wait: Callable[[float], object],
    stop: Callable[[], bool],
    on_trouble: Callable[[SecureMLError], None],
    once: bool = False,
    idle_s: float | None = None,
) -> None:
    """Sequence until told to stop, or until there is nothing left to do.

    Args:
        sequencer: What puts events into the log.
        checkpointer: What has the log signed.
        clock: Monotonic and wall clock.
        wait: Waits so many seconds, or until there may be something to do.
        stop: Whether to finish; looked at between steps.
        on_trouble: Told of what keeps checkpoints or batches from being made, once each.
        once: Take what is there now, sign it, end.
        idle_s: End after so many seconds without a segment; None: never.

    Raises:
        SecureMLError: With `once`, whatever would go to `on_trouble`.
    """
    watch = _Watch(uncovered_ms=clock.mono_ms(), active_ms=clock.mono_ms())
    while True:
        is_last = once or stop()
        step = _step(sequencer, watch, on_trouble, is_last=once)
        now = clock.mono_ms()
        if step is None:
            if is_last:
                break
            wait(RETRY_S)
            continue
        if step.appended or step.segments:
            watch.active_ms = now
        if step.appended and watch.uncovered_ms is None:
            watch.uncovered_ms = now
        is_idle = idle_s is not None and now - watch.active_ms >= idle_s * 1000
        if not step.has_more and (is_last or is_idle):
            break
        if watch.uncovered_ms is not None and now - watch.uncovered_ms >= CHECKPOINT_MS:
            _checkpoint(sequencer, checkpointer, watch, clock, on_trouble)
        if not step.has_more:
            wait(POLL_S)
    _finish(sequencer, checkpointer, watch, clock, on_trouble, once=once)


def adopt_log(sequencer: Sequencer, checkpointer: Checkpointer, log: LogWriter) -> str:
    """Go on with a log whose signer does not know what it signed last; a person decided so.

    Returns:
        The new checkpoint's note.

    Raises:
        AuditLogError: The log's leaves do not give its root.
        ConfigurationError: Nothing has to be adopted.
    """
    edge = log.edge()
    more = {"size": edge.size, "root": edge.root().hex()}
    sequencer.record(Fact(act="trail.adopt", phase="seen", result="ok", more=more))
    sequencer.close()
    return checkpointer.adopt()


def _finish(
    sequencer: Sequencer,
    checkpointer: Checkpointer,
    watch: _Watch,
    clock: Clock,
    on_trouble: Callable[[SecureMLError], None],
    *,
    once: bool,
) -> None:
    if once:
        _hand_over(sequencer, checkpointer)
        sequencer.close()
        checkpointer.make()
        return
    try:
        sequencer.close()
    except ServiceUnavailableError as error:
        _tell(watch, on_trouble, error)
        return
    _checkpoint(sequencer, checkpointer, watch, clock, on_trouble, is_last=True)


def _step(
    sequencer: Sequencer,
    watch: _Watch,
    on_trouble: Callable[[SecureMLError], None],
    *,
    is_last: bool,
) -> Step | None:
    try:
        return sequencer.step(is_last=is_last)
    except ServiceUnavailableError as error:
        if is_last:
            raise
        _tell(watch, on_trouble, error)
        return None


def _checkpoint(
    sequencer: Sequencer,
    checkpointer: Checkpointer,
    watch: _Watch,
    clock: Clock,
    on_trouble: Callable[[SecureMLError], None],
    *,
    is_last: bool = False,
) -> None:
    """Have the log signed; if that is refused, sequencing goes on and the log says so."""
    try:
        # Whoever has said that it ends says nothing more: the next sequencer hands over.
        if not is_last:
            _hand_over(sequencer, checkpointer)
        checkpointer.make()
    except SecureMLError as error:
        watch.uncovered_ms = clock.mono_ms() + REFUSED_MS - CHECKPOINT_MS
        if _tell(watch, on_trouble, error):
            _alert(sequencer, watch, error)
    else:
        watch.uncovered_ms, watch.trouble = None, ""


def _hand_over(sequencer: Sequencer, checkpointer: Checkpointer) -> None:
    """Let new keys of the log take over, where some were made."""
    new = checkpointer.successors()
    if not new:
        return
    sequencer.record_last(
        lambda size: Fact(
            act="trail.key", phase="seen", result="ok", more=announcement(new, size=size)
        )
    )
    checkpointer.hand_over()


def _alert(sequencer: Sequencer, watch: _Watch, error: SecureMLError) -> None:
    fact = Fact(
        act="alert.raise",
        phase="seen",
        result="failed",
        why=error.why if error.why != "bug" else "service_unavailable",
        more={"about": "checkpoint", "because": str(error)[:500]},
    )
    try:
        sequencer.record(fact)
    except ServiceUnavailableError:
        # The log cannot be written at all; the next try tells again.
        watch.trouble = ""


def _tell(watch: _Watch, on_trouble: Callable[[SecureMLError], None], error: SecureMLError) -> bool:
    """Tell of a trouble unless it is the one told last; returns whether it was told."""
    if str(error) == watch.trouble:
        return False
    watch.trouble = str(error)
    on_trouble(error)
    return True
