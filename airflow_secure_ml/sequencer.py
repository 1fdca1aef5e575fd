"""The sequencer as a program: `python -I -m airflow_secure_ml.sequencer`.

Introduces the spool, the log and its key to `services.auditing`, and handles what belongs to a
process: its session, its signals, its lock. Imports neither Airflow nor anything it does not need.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from airflow_secure_ml.adapters.sequencer import SequencerLock
    from airflow_secure_ml.audit_ports import AuditPlace, OpenLog
    from airflow_secure_ml.core.audit.ports import CheckpointSigner, SegmentSource

log = logging.getLogger("airflow_secure_ml.sequencer")

SPOOL_DIRECTORY = "spool"
REFUSED_DIRECTORY = "refused"
LOG_OUTPUT = "sequencer.log"
READY = b"ready"
# A detached sequencer writes a few lines a day; a fault that repeats must not fill the disk.
MAX_OUTPUT_BYTES = 1 << 20
STANDBY_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sequencer; returns the exit status.

    0: done, or another one runs. 1: the log is not what its key signed. 2: wrong configuration.
    3: the log or its key cannot be reached.
    """
    options = _parse(arguments)
    if options.detach:
        return _detached(options)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return _guarded(options, lambda: None)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.sequencer", description=__doc__)
    parser.add_argument("--audit-dir", type=Path, required=True)
    parser.add_argument("--signer-dir", type=Path, required=True)
    parser.add_argument(
        "--signer-socket", type=Path, help="who has the key listens here; --signer-dir is unused"
    )
    parser.add_argument("--spare-dir", type=Path, action="append", default=[])
    parser.add_argument("--audit-store", default="sqlite", help="the log's address, or sqlite")
    parser.add_argument("--audit-store-passfile", type=Path, help="a pass file of libpq's")
    parser.add_argument("--subjects-dir", type=Path, help="keys of those whom hidden values name")
    parser.add_argument(
        "--collector", action="store_true", help="also follow what a collector here took"
    )
    parser.add_argument(
        "--ingest", action="store_true", help="also follow what an API server here took"
    )
    parser.add_argument("--once", action="store_true", help="take what is there now, then end")
    parser.add_argument(
        "--adopt", action="store_true", help="go on with a log whose `last` is lost, then end"
    )
    parser.add_argument(
        "--standby", action="store_true", help="wait for another one's end, then take over"
    )
    parser.add_argument("--idle-s", type=float, default=None, help="end after so long a rest")
    parser.add_argument("--detach", action="store_true", help="run in a session of its own")
    return parser.parse_args(arguments)


def _detached(options: argparse.Namespace) -> int:
    """Fork; the parent says whether the child got as far as having the log open."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        if answer != READY:
            sys.stderr.write(answer.decode("utf-8", "replace") or "the sequencer ended at once\n")
        return 0 if answer == READY else 3
    os.close(reader)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    options.audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _redirect(options.audit_dir / LOG_OUTPUT)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def ready(message: bytes = READY) -> None:
        os.write(writer, message)
        os.close(writer)

    status = _guarded(options, ready, ready)
    # Not sys.exit: what the parent had open and buffered is the parent's.
    os._exit(status)


def _redirect(path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(path, flags, 0o600)
    if os.fstat(output).st_size > MAX_OUTPUT_BYTES:
        os.ftruncate(output, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _guarded(
    options: argparse.Namespace,
    ready: Callable[[], None],
    failed: Callable[[bytes], None] = lambda message: None,
) -> int:
    from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceError

    is_ready = False

    def once_ready() -> None:
        nonlocal is_ready
        if not is_ready:
            is_ready = True
            ready()

    try:
        _serve(options, once_ready)
    except (SecureMLError, OSError) as error:
        log.error("%s", error)
        if not is_ready:
            failed(f"{error}\n".encode())
        if isinstance(error, ConfigurationError):
            return 2
        return 3 if isinstance(error, (ServiceError, OSError)) else 1
    return 0


def _serve(options: argparse.Namespace, ready: Callable[[], None]) -> None:
    """Take turns at the lock for as long as there is something in the spool."""
    import threading

    from airflow_secure_ml.adapters.sequencer import SequencerLock, SpoolSegments
    from airflow_secure_ml.core.audit.collecting import COLLECTED_DIRECTORY
    from airflow_secure_ml.core.audit.ingesting import INGESTED_DIRECTORY
    from airflow_secure_ml.errors import ServiceUnavailableError
    from airflow_secure_ml.services.joined_segments import JoinedSegments

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    signer = _signer(options)
    lock = SequencerLock(options.audit_dir)
    directories = [options.audit_dir / SPOOL_DIRECTORY, *options.spare_dir]
    # Told by who starts it: a task that could make this directory may not vouch for itself.
    stamped = [options.audit_dir / COLLECTED_DIRECTORY] if options.collector else []
    stamped += [options.audit_dir / INGESTED_DIRECTORY] if options.ingest else []
    while _take(lock, stopped, waits=options.standby):
        spool = SpoolSegments(directories, options.audit_dir / REFUSED_DIRECTORY, stamped=stamped)
        # Who can reach the log can reach its inbox.
        inbox = _place(options).inbox()
        segments = JoinedSegments(spool) if inbox is None else JoinedSegments(spool, inbox)
        try:
            writer = _open_log(options, signer, stopped)
            if writer is not None:
                with writer:
                    ready()
                    _run(options, writer, segments, signer, stopped)
        finally:
            lock.release()
        # Who made a segment just before the lock was free has started no other sequencer.
        is_over = options.once or options.adopt or stopped.is_set() or not segments.scan()
        spool.close()
        if inbox is not None:
            inbox.close()
        if is_over:
            return
    if stopped.is_set():
        return
    if options.adopt:
        raise ServiceUnavailableError(
            service="sequencer", action="adopt", reason="another one works on this log; stop it"
        )
    ready()
    log.info("another sequencer works on %s", options.audit_dir)


def _signer(options: argparse.Namespace) -> CheckpointSigner:
    """Who signs: another process, or this one. A log is adopted where its key's directory is."""
    from airflow_secure_ml.adapters.log_signer import LogSigner, SocketSigner

    if options.signer_socket is None or options.adopt:
        return LogSigner(options.signer_dir)
    return SocketSigner(options.signer_socket)


def _place(options: argparse.Namespace) -> AuditPlace:
    from airflow_secure_ml.audit_ports import AuditPlace

    return AuditPlace(
        audit_dir=options.audit_dir,
        store=options.audit_store,
        passfile=options.audit_store_passfile,
        subjects_dir=options.subjects_dir,
    )


def _origin(signer: CheckpointSigner, place: AuditPlace) -> str:
    """The log's name, from its signer; a log goes on without an answer, unsigned."""
    from airflow_secure_ml.errors import SecureMLError, ServiceError

    try:
        return signer.origin
    except ServiceError as error:
        try:
            found = place.reader().origin()
        except SecureMLError:
            # No log yet, and nobody who knows its name.
            raise error from None
        log.warning("%s; sequencing goes on without it", error)
        return found


def _take(lock: SequencerLock, stopped: Event, *, waits: bool) -> bool:
    """Take the log's lock; where it is to wait, as soon as the other one is gone."""
    is_told = False
    while not lock.acquire():
        if waits and not is_told:
            is_told = True
            log.info("another sequencer works on this log; standing by")
        if not waits or stopped.wait(STANDBY_S):
            return False
    return True


def _open_log(
    options: argparse.Namespace, signer: CheckpointSigner, stopped: Event
) -> OpenLog | None:
    """Open the log; where it is to wait, once it is there and no sequencer elsewhere has it."""
    from airflow_secure_ml.errors import ServiceUnavailableError

    place = _place(options)
    told, origin = "", _origin(signer, place)
    while not stopped.is_set():
        try:
            return place.writer(origin)
        except ServiceUnavailableError as error:
            if not options.standby:
                raise
            if str(error) != told:
                told = str(error)
                log.info("%s; standing by", error)
            stopped.wait(STANDBY_S)
    return None


def _run(
    options: argparse.Namespace,
    writer: OpenLog,
    segments: SegmentSource,
    signer: CheckpointSigner,
    stopped: Event,
) -> None:
    import secrets
    import time

    from airflow_secure_ml import __version__
    from airflow_secure_ml.services.auditing import adopt_log, run_sequencer
    from airflow_secure_ml.services.checkpointing import Checkpointer
    from airflow_secure_ml.services.own_events import Clock, Host
    from airflow_secure_ml.services.sequencing import Sequencer

    steady = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    clock = Clock(
        now_ms=lambda: time.time_ns() // 1_000_000,
        mono_ms=lambda: time.clock_gettime_ns(steady) // 1_000_000,
    )
    facts = {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "program": "sequencer",
        "version": __version__,
    }
    sequencer = Sequencer(
        log=writer,
        segments=segments,
        clock=clock,
        host=Host(name=socket.gethostname(), facts=facts),
        random_bytes=secrets.token_bytes,
    )
    checkpointer = Checkpointer(log=writer, signer=signer, clock=clock)
    if options.adopt:
        adopt_log(sequencer, checkpointer, writer)
        return
    run_sequencer(
        sequencer,
        checkpointer,
        clock=clock,
        wait=stopped.wait,
        stop=stopped.is_set,
        on_trouble=lambda error: log.error("%s", error),
        once=options.once,
        idle_s=options.idle_s,
    )


if __name__ == "__main__":
    sys.exit(main())
