"""`audit prune` and `audit hold`: what may go from the log, and what must stay.

Both write the log themselves, under the sequencer's lock: no event of a task can say either.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from airflow_secure_ml import __version__
from airflow_secure_ml.adapters.log_signer import LogSigner, SocketSigner, read_last_note
from airflow_secure_ml.adapters.sequencer import SequencerLock, SpoolSegments, stop_sequencer
from airflow_secure_ml.commands.asking import ask
from airflow_secure_ml.commands.audit_log import check_text, log_keys, log_reader
from airflow_secure_ml.commands.reconcile import parse_time
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.ports import LogWriter
from airflow_secure_ml.core.audit.pruning import Hold
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.recording import close_sink
from airflow_secure_ml.services.archiving import ObjectFolder, archive_leaves
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.own_events import Clock, Host
from airflow_secure_ml.services.pruning import (
    Survey,
    hold_log,
    prune_log,
    release_hold,
    survey_log,
)
from airflow_secure_ml.services.sequencing import Sequencer
from airflow_secure_ml.services.verifying import CANNOT_TELL, TAMPERED, verify_log
from airflow_secure_ml.settings_values import MAX_RETENTION_DAYS

DAY_MS = 86_400_000
MAX_BECAUSE_CHARS = 200
# A task that begins just now may start a sequencer again.
_TRIES = 20


class _Writing(NamedTuple):
    sequencer: Sequencer
    checkpointer: Checkpointer
    log: LogWriter


def prune(arguments: argparse.Namespace, session: Session) -> Result:
    """Remove the bytes of leaves that are old enough, and that no hold keeps."""
    days = _days(arguments.older_than, session.settings.audit_retention_days)
    check_text(arguments.because)
    session.see("trail.view", more={"page": "cli audit prune"})
    before_ms = time.time_ns() // 1_000_000 - days * DAY_MS
    found, below = _plan(session, before_ms)
    if below <= found.first and not found.unfinished:
        data = {"pruned_below": found.first, "archived": 0}
        return Result(data=data, lines=[_nothing(found, days)])
    _confirm(arguments, found, below)
    archive, files = _archive(arguments, session, before_ms, below)
    because = arguments.because or f"older than {days} days"
    with _writing(session) as (sequencer, checkpointer, log):
        prune_log(sequencer, checkpointer, log, below, because=because, archive=archive)
    lines = [f"leaves below {below} are there by their hashes alone; proofs of them still check"]
    lines += (
        [f"{archive}: {files} files made, read back and held against the log"] if archive else []
    )
    return Result(data={"pruned_below": below, "archived": files}, lines=lines)


def hold(arguments: argparse.Namespace, session: Session) -> Result:
    """Keep leaves from pruning, let them go again, or list what is kept."""
    if arguments.what == "list":
        found = _survey(session, 0)[0]
        held = [found.holds.standing[name] for name in sorted(found.holds.standing)]
        data = [{"name": h.name, "from": h.from_index, "because": h.because} for h in held]
        return Result(
            data=data, lines=[f"{h.name}: from leaf {h.from_index}, {h.because}" for h in held]
        )
    if arguments.name is None or not arguments.because:
        raise ConfigurationError(f"audit hold {arguments.what}: give a name, and --because TEXT")
    check_text(arguments.name, arguments.because)
    if len(arguments.because) > MAX_BECAUSE_CHARS:
        raise ConfigurationError(f"--because: expected at most {MAX_BECAUSE_CHARS} characters")
    session.see("trail.view", more={"page": f"cli audit hold {arguments.what}"})
    from_index = 0
    if arguments.what == "add":
        since = parse_time(arguments.since, datetime.now(UTC))
        found = _survey(session, since or 0)[0]
        from_index = max(found.older_than if since is not None else 0, found.first)
        from_index = from_index if arguments.from_leaf is None else arguments.from_leaf
    said = Hold(name=arguments.name, from_index=from_index, because=arguments.because)
    say = hold_log if arguments.what == "add" else release_hold
    with _writing(session) as (sequencer, checkpointer, log):
        say(sequencer, checkpointer, log, said)
    done = f"keeps all leaves from {from_index} on" if arguments.what == "add" else "is released"
    return Result(data={"name": said.name, "from": from_index}, lines=[f"{said.name}: {done}"])


def _days(asked: int | None, retention_days: int) -> int:
    """How old what goes has to be."""
    if asked is None and not retention_days:
        raise ConfigurationError(
            "audit prune: give --older-than DAYS, or set [secure_ml] audit_retention_days"
        )
    days = retention_days if asked is None else asked
    least = max(retention_days, 1)
    if not least <= days <= MAX_RETENTION_DAYS:
        told = " ([secure_ml] audit_retention_days)" if retention_days else ""
        raise ConfigurationError(
            f"--older-than {days}: expected days, from {least}{told} to {MAX_RETENTION_DAYS}"
        )
    return days


def _plan(session: Session, before_ms: int) -> tuple[Survey, int]:
    found, signed_size = _survey(session, before_ms)
    due = max(found.due(), min(found.unfinished, found.limit()))
    return found, min(due, signed_size - signed_size % TILE_WIDTH)


def _survey(session: Session, before_ms: int) -> tuple[Survey, int]:
    """What a log that verifies says, and how much of it is signed.

    Raises:
        AuditLogError: It was tampered with: nothing of the evidence goes.
    """
    last = read_last_note(session.settings.audit_signer_dir)
    with log_reader().whole() as log:
        report = verify_log(log, log_keys(), signed_last=last)
        if report.status in {TAMPERED, CANNOT_TELL}:
            report.raise_for_status()
        return survey_log(log, before_ms=before_ms), report.signed_size


def _archive(
    arguments: argparse.Namespace, session: Session, before_ms: int, below: int
) -> tuple[str | None, int]:
    if arguments.archive is None:
        return None, 0
    uri = session.address(arguments.archive)
    folder = ObjectFolder(session.store_of(uri), uri)
    reader = log_reader()
    note = reader.checkpoint()
    if note is None:
        raise AuditLogError("archive: there is no checkpoint")
    with reader.whole() as log:
        first = survey_log(log, before_ms=before_ms).first
        found = archive_leaves(log, note, log_keys(), folder, first=first, below=below)
    return uri, found.written


def _confirm(arguments: argparse.Namespace, found: Survey, below: int) -> None:
    where = "archived and then removed" if arguments.archive else "removed, and archived nowhere"
    ask(
        f"The bytes of leaves {found.first} to {below - 1} are {where}; nobody can undo it. "
        "yes to go on: ",
        answer="yes",
        refused="nothing was pruned",
        yes=arguments.yes,
    )


def _nothing(found: Survey, days: int) -> str:
    held = ", ".join(sorted(found.holds.standing))
    return f"nothing to prune that is older than {days} days" + (f"; held: {held}" if held else "")


@contextmanager
def _writing(session: Session) -> Iterator[_Writing]:
    """Be the log's one writer."""
    settings = session.settings
    # Its events are for the sequencer that runs next.
    close_sink()
    lock = SequencerLock(settings.audit_dir)
    for _ in range(_TRIES):
        if lock.acquire():
            break
        stop_sequencer(settings.audit_dir)
    else:
        raise ServiceUnavailableError(
            service="sequencer", action="stop", reason="another one works on this log; stop it"
        )
    try:
        socket_path = settings.audit_signer_socket
        signer = (
            LogSigner(settings.audit_signer_dir)
            if socket_path is None
            else SocketSigner(socket_path)
        )
        with deployment().audit_place.writer(signer.origin) as log:
            clock = _clock()
            sequencer = Sequencer(
                log=log,
                segments=SpoolSegments([], settings.audit_dir / "refused"),
                clock=clock,
                host=_host(),
                random_bytes=secrets.token_bytes,
            )
            yield _Writing(sequencer, Checkpointer(log=log, signer=signer, clock=clock), log)
    finally:
        lock.release()


def _clock() -> Clock:
    return Clock(
        now_ms=lambda: time.time_ns() // 1_000_000,
        mono_ms=lambda: time.monotonic_ns() // 1_000_000,
    )


def _host() -> Host:
    facts = {"pid": os.getpid(), "uid": os.getuid(), "program": "cli", "version": __version__}
    return Host(name=socket.gethostname(), facts=facts)
