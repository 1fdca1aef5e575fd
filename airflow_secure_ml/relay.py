"""The relay as a program: what is done after the fact, each job in a thread of its own.

It reads the log and never writes it; a receiver that is slow or gone holds up its own job alone.
An alert is an event like any other, over the spool.
Imports Airflow only where a connection of it is asked for.

Source: AUDIT_TRAIL, What it proves.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.relay import RelayLock
    from airflow_secure_ml.core.audit.event import Fact
    from airflow_secure_ml.core.audit.ports import AuditReader
    from airflow_secure_ml.core.audit.relaying import RelayBook
    from airflow_secure_ml.core.ports import AuditSink
    from airflow_secure_ml.deployment import Deployment
    from airflow_secure_ml.errors import SecureMLError
    from airflow_secure_ml.services.relaying import Job, JobRunner

log = logging.getLogger("airflow_secure_ml.relay")

READY = "READY"
LOG_OUTPUT = "relay.log"
# A fault that repeats must not fill the disk.
MAX_OUTPUT_BYTES = 1 << 20
# One that starts just now may be asked whether it runs by another that holds the lock to ask.
LOCK_S, POLL_S = 2.0, 0.05
BUG_WAIT_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay; returns the exit status.

    0: done, or another one runs. 1: with `--once`, a job failed. 2: wrong configuration. 3: the
    log's directory cannot be used.
    """
    from airflow_secure_ml.errors import ConfigurationError, SecureMLError

    options = _parse(arguments)
    try:
        from airflow_secure_ml.deployment import deployment

        made = deployment()
        if options.detach and not _detached(made.settings.audit_dir):
            return 0
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        return _serve(made, options)
    except (SecureMLError, OSError) as error:
        log.error("%s", error)
        return 2 if isinstance(error, ConfigurationError) else 3


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.relay", description=__doc__)
    parser.add_argument("--once", action="store_true", help="do what is due now, then end")
    parser.add_argument("--idle-s", type=float, default=None, help="end after so long a rest")
    parser.add_argument("--detach", action="store_true", help="run in a session of its own")
    return parser.parse_args(arguments)


def _detached(audit_dir: Path) -> bool:
    """Go on in a child of a session of its own; False in the parent."""
    audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.fork():
        return False
    os.setsid()
    os.umask(0o077)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(audit_dir / LOG_OUTPUT, flags, 0o600)
    if os.fstat(output).st_size > MAX_OUTPUT_BYTES:
        os.ftruncate(output, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    return True


def _serve(made: Deployment, options: argparse.Namespace) -> int:
    from airflow_secure_ml.adapters.relay import RelayLock

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    lock = RelayLock(made.settings.audit_dir)
    deadline = time.monotonic() + LOCK_S
    while not lock.acquire():
        if time.monotonic() >= deadline or stopped.wait(POLL_S):
            log.info("another relay works on this log")
            lock.close()
            return 0
    teller = _Teller(made)
    try:
        book = made.relay_book
        runners = [_runner(job, book, teller) for job in jobs_of(made, book)]
        sys.stdout.write(f"{READY} {len(runners)} jobs\n")
        sys.stdout.flush()
        if options.once:
            for runner in runners:
                runner.once()
            return 0 if all(runner.is_done for runner in runners) else 1
        _run(runners, stopped, lock, options.idle_s)
        return 0
    finally:
        teller.close()
        lock.close()


def jobs_of(made: Deployment, book: RelayBook) -> list[Job]:
    """The jobs that the settings ask for."""
    from airflow_secure_ml.outgoing import HttpPoster
    from airflow_secure_ml.services.witnessing import WitnessJob

    reader = made.audit_reader()
    witnesses: list[Job] = [
        WitnessJob(
            key=witness.key,
            door=HttpPoster(f"witness {witness.key.name}", witness.url, ca=witness.ca),
            reader=reader,
            log_keys=made.log_keys,
            book=book,
        )
        for witness in made.settings.audit_witnesses
    ]
    return [
        *witnesses,
        *_keeping_jobs(made, reader, book),
        *_alert_jobs(made, reader, book),
        *_notify_jobs(made, reader, book),
        *_siem_jobs(made, reader, book),
    ]


def _alert_jobs(made: Deployment, reader: AuditReader, book: RelayBook) -> list[Job]:
    """The one that holds events against alert rules."""
    from airflow_secure_ml.adapters.relay import AlertRecorder
    from airflow_secure_ml.audit_sinks import open_emitter, segment_folders
    from airflow_secure_ml.relay_ports import alert_rules
    from airflow_secure_ml.services.alerting import JOB, AlertJob

    # Whatever tasks do without a trail: an alert that was not recorded was not raised.
    settings = replace(made.settings, audit_unavailable="refuse")
    if not settings.has_alert_rules:
        return []
    recorder = AlertRecorder(
        lambda: open_emitter(settings, None, "relay", airflow=None),
        segment_folders(settings),
        made.ensure_sequencer,
    )
    return [
        AlertJob(
            rules=lambda: alert_rules(settings),
            reader=reader,
            book=book,
            recorder=recorder,
            now_ms=_now_ms,
            on_pruned=lambda said: log.warning("%s: %s", JOB, said),
        )
    ]


def _notify_jobs(made: Deployment, reader: AuditReader, book: RelayBook) -> list[Job]:
    """The one that tells an Airflow notifier of alerts."""
    from airflow_secure_ml.relay_ports import alert_notifier
    from airflow_secure_ml.services.notifying import NotifyJob

    settings = made.settings
    if not settings.alert_notifier:
        return []
    level = settings.alert_notifier_level
    return [
        NotifyJob(notifier=lambda: alert_notifier(settings), level=level, reader=reader, book=book)
    ]


def _siem_jobs(made: Deployment, reader: AuditReader, book: RelayBook) -> list[Job]:
    """Those that hand events to receivers of events."""
    from airflow_secure_ml.relay_ports import siem_receivers
    from airflow_secure_ml.services.forwarding import ForwardJob

    return [
        ForwardJob(
            receiver=receiver,
            reader=reader,
            book=book,
            clock_s=time.monotonic,
            acts=made.settings.siem_events,
        )
        for receiver in siem_receivers(made.settings)
    ]


def _keeping_jobs(made: Deployment, reader: AuditReader, book: RelayBook) -> list[Job]:
    """Those for the anchor and for time stamps."""
    from airflow_secure_ml.relay_ports import anchor_store, stamper
    from airflow_secure_ml.services.anchoring import AnchorJob
    from airflow_secure_ml.services.stamping import StampJob

    jobs: list[Job] = []
    store, authority = anchor_store(made.settings), stamper(made.settings)
    keys = made.log_keys
    if store is not None:
        jobs.append(AnchorJob(store=store, reader=reader, log_keys=keys, book=book, now_ms=_now_ms))
    if authority is not None:
        jobs.append(
            StampJob(stamper=authority, reader=reader, log_keys=keys, book=book, now_ms=_now_ms)
        )
    return jobs


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Teller:
    """Records alerts as an emitter of its own, opened for the first one."""

    def __init__(self, made: Deployment) -> None:
        self._made, self._lock = made, threading.Lock()
        self._sink: AuditSink | None = None

    def tell(self, fact: Fact) -> bool:
        from airflow_secure_ml.errors import SecureMLError

        with self._lock:
            try:
                if self._sink is None:
                    self._sink = self._made.open_sink(None, "relay")
                self._sink.record(fact)
                self._sink.settle()
            except SecureMLError as error:
                log.error("an alert cannot be recorded: %s", error)
                return False
        return True

    def close(self) -> None:
        from airflow_secure_ml.errors import SecureMLError

        with self._lock:
            if self._sink is None:
                return
            try:
                self._sink.close()
            except SecureMLError as error:
                log.error("the relay's recording cannot be ended: %s", error)


def _runner(job: Job, book: RelayBook, teller: _Teller) -> JobRunner:
    from airflow_secure_ml.services.relaying import JobRunner

    def on_trouble(name: str, error: SecureMLError) -> None:
        log.warning("%s: %s", name, error)

    return JobRunner(
        job,
        book,
        tell=teller.tell,
        now_ms=_now_ms,
        on_trouble=on_trouble,
    )


def _run(
    runners: Sequence[JobRunner], stopped: threading.Event, lock: RelayLock, idle_s: float | None
) -> None:
    """Run every job in its thread until told to end, or until all have rested for long enough.

    Where the log's directory is gone, there is nothing to wait for either.
    """
    for runner in runners:
        # A daemon: one that waits for an answer does not hold up the end.
        threading.Thread(target=_run_one, args=(runner, stopped), daemon=True).start()
    busy_s = time.monotonic()
    while not stopped.wait(1.0):
        now_s = time.monotonic()
        if not all(runner.is_done for runner in runners):
            busy_s = now_s
        if not lock.is_there() or (idle_s is not None and now_s - busy_s >= idle_s):
            stopped.set()


def _run_one(runner: JobRunner, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            runner.run(stopped.wait)
        except Exception:
            # A bug in one job must not end the others, nor this one for good.
            runner.is_done = False
            log.exception("%s: a bug", runner.job.name)
            stopped.wait(BUG_WAIT_S)


if __name__ == "__main__":
    sys.exit(main())
