"""The reconciler as work to do: one round under a lock, or rounds until it is stopped.

Started by a scheduler it is a process of its own and ends with it; whatever goes wrong in here,
the scheduler does not notice.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from airflow_secure_ml.adapters.sequencer import sequencer_pid
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceUnavailableError
from airflow_secure_ml.reconciling.gauges import set_up_metrics, show_trail
from airflow_secure_ml.reconciling.rounds import (
    Checked,
    Reconciler,
    next_period,
    periods,
)
from airflow_secure_ml.reconciling.spool import await_taken
from airflow_secure_ml.reconciling.tables import AirflowTables
from airflow_secure_ml.reconciling.trail import TrailSide
from airflow_secure_ml.recording import close_sink, sink_of_this_process

if TYPE_CHECKING:
    from airflow_secure_ml.deployment import Deployment

log = logging.getLogger("airflow_secure_ml.reconciling")

LOCK_FILE = "reconcile.lock"
SPOOL = "spool"
PROGRAM = "reconciler"
# An event that does not fit waits a minute for those before it.
TAKEN_S = 90.0
LOCK_S = 60.0
_POLL_S = 0.2
_LOOK_S = 5.0
_LAST_S = 20.0
_NICER = 5
_PR_SET_PDEATHSIG = 1


class StoppedError(Exception):
    """The process was told to end in the middle of a round; nothing is half recorded."""


def run_round(
    from_ms: int | None = None,
    until_ms: int | None = None,
    *,
    program: str = PROGRAM,
    by: str | None = None,
    lock_s: float = LOCK_S,
    watch: Callable[[int], None] = lambda done: None,
) -> tuple[Checked, ...]:
    """Check a period, or all time since the newest check; one round at a time.

    Args:
        from_ms: From this time on, ms since 1970 UTC; None: where the newest check ended, and a
            little before it.
        until_ms: Before this time; None, or a time to come: now.
        program: What this process calls itself in the trail.
        by: Who asked for it; None: nobody.
        lock_s: How long to wait for another round's end, seconds.
        watch: Told how many tries have been looked at.

    Returns:
        One result a day of the period; none where there is no log yet.

    Raises:
        ConfigurationError: No log, no Airflow, or a period that ends before it begins.
        ServiceUnavailableError: Another round goes on, the log does not take up what was
            recorded, or a database cannot be read.
    """
    made = deployment()
    with _round_lock(made.settings.audit_dir / LOCK_FILE, lock_s):
        # A segment of this process's own must not be met below.
        close_sink()
        _await_log(made, watch)
        try:
            return _checked(made, from_ms, until_ms, program, by, watch)
        finally:
            close_sink()


def serve(every_s: float, *, parent: int | None = None) -> int:
    """Run rounds until told to stop; returns the exit status.

    Args:
        every_s: From a round's end to the next one's beginning, seconds.
        parent: Process id of whoever started it, to end with it; None: nobody.
    """
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    if parent is not None:
        _end_with_parent(parent)
        os.nice(_NICER)

    def is_over() -> bool:
        return stopped.is_set() or (parent is not None and os.getppid() != parent)

    set_up_metrics()
    failed, told = 0, ""
    while not is_over():
        said = _guarded_round(is_over)
        show_trail(lambda: deployment().audit_reader(), now_ms=_now_ms)
        failed = failed + 1 if said else 0
        # Once for a trouble that lasts: the first round may be before the log's first event.
        if failed > 1 and said != told:
            log.warning("coverage of the audit trail was not checked: %s", said)
            told = said
        due = time.monotonic() + every_s
        while not is_over() and (left := due - time.monotonic()) > 0:
            stopped.wait(min(left, _LOOK_S))
    return 0


def _guarded_round(is_over: Callable[[], bool]) -> str:
    """One round; returns what kept it from being made, empty if nothing did."""

    def watch(done: int) -> None:
        if is_over():
            raise StoppedError

    try:
        results = run_round(watch=watch, lock_s=0)
    except StoppedError:
        return ""
    except SecureMLError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the next round may go well; nobody restarts it
        return type(error).__name__
    _tell(results)
    return ""


def _tell(results: Sequence[Checked]) -> None:
    for each in results:
        counts = each.coverage.counts
        if each.raised or each.closed:
            log.warning(
                "coverage: %d alerts raised, %d closed; of the period's tries %d cut, %d silent, "
                "%d unsecured, %d unknown; %d emitters ended badly",
                *(each.raised, each.closed, counts["cut"], counts["silent"]),
                *(counts["unsecured"], counts["unknown"], len(each.emitters)),
            )


def _checked(
    made: Deployment,
    from_ms: int | None,
    until_ms: int | None,
    program: str,
    by: str | None,
    watch: Callable[[int], None],
) -> tuple[Checked, ...]:
    trail = TrailSide(made.audit_reader())
    period = _period(trail, from_ms, until_ms)
    if period is None:
        return ()
    reconciler = Reconciler(
        AirflowTables(),
        trail,
        lambda: sink_of_this_process(program=program),
        now_ms=_now_ms,
        watch=watch,
        by=by,
    )
    return tuple(reconciler.check(start, stop) for start, stop in periods(*period))


def _period(trail: TrailSide, from_ms: int | None, until_ms: int | None) -> tuple[int, int] | None:
    now = _now_ms()
    until = now if until_ms is None else min(until_ms, now)
    found = next_period(trail, until, clock_ms=now)
    if found is None:
        return None
    start = found[0] if from_ms is None else from_ms
    if start > until:
        raise ConfigurationError(
            f"audit reconcile: the period begins {(start - until) / 1000:.0f} s after its end; "
            "expected a beginning in the past, before the end"
        )
    return start, until


def _await_log(made: Deployment, watch: Callable[[int], None]) -> None:
    def wait(seconds: float) -> None:
        watch(0)
        time.sleep(seconds)

    settings = made.settings
    made.ensure_sequencer()
    spare = settings.audit_spare_dir
    directories = [settings.audit_dir / SPOOL, *([] if spare is None else [spare])]
    left = await_taken(directories, timeout_s=TAKEN_S, wait=wait)
    if not left:
        return
    if sequencer_pid(settings.audit_dir) is None:
        raise ServiceUnavailableError(
            service="sequencer",
            action="take up what was recorded",
            reason=f"none runs, and {len(left)} segments wait; see `audit sequencer`",
            why="audit_unavailable",
        )
    log.warning("%d spool segments are not in the log yet: %s, …", len(left), min(left))


@contextmanager
def _round_lock(path: Path, wait_s: float) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        due = time.monotonic() + wait_s
        while not _lock(descriptor):
            if time.monotonic() >= due:
                raise ServiceUnavailableError(
                    service="reconciler",
                    action="begin",
                    reason=f"another round goes on; {path} is locked",
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # A database that does not answer keeps a signal from being handled, and not another thread.
    Thread(target=_leave_after, args=(parent,), daemon=True).start()


def _leave_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    time.sleep(_LAST_S)
    os._exit(0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
