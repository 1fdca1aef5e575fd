"""`audit …`: derive the log anew, show its events, run its sequencer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow_secure_ml.adapters.log_signer import (
    LAST_FILE,
    LogSigner,
    read_last_note,
)
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.commands.asking import ask
from airflow_secure_ml.commands.audit_log import check_text, log_keys, log_reader, read_note
from airflow_secure_ml.commands.running import OTHER_SYSTEM, WRONG_USE, Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.recording import close_sink
from airflow_secure_ml.relay_ports import anchor_store, stamper
from airflow_secure_ml.services.anchoring import Held, hold_against, read_anchors
from airflow_secure_ml.services.endings import Endings
from airflow_secure_ml.services.kept_outside import kept_outside
from airflow_secure_ml.services.standing import witnessed
from airflow_secure_ml.services.verifying import CANNOT_TELL, TAMPERED, WHOLE, Report, verify_log

# A new log's first checkpoint comes a second after its first leaf.
_FIRST_CHECKPOINT_S = 5.0
_POLL_S = 0.1
# A task that begins just now may start a sequencer again.
_ADOPT_TRIES = 5
_ACTS = (
    *("task.", "rule.", "object.", "scratch.", "lease.", "secret.", "xcom.", "key.", "dag."),
    *("run.", "user.", "coverage.", "alert.", "emitter.loss", "trail.refused", "trail.verify"),
)
_WORDS = {0: "whole", 1: "TAMPERED", 4: "incomplete", 5: "cannot tell"}


def verify(arguments: argparse.Namespace, session: Session) -> Result:
    """Derive the whole log anew and hold it against every checkpoint."""
    kept = None if arguments.checkpoint is None else read_note(arguments.checkpoint)
    with session.act("trail.verify") as outcome:
        reader = log_reader()
        _await_checkpoint(reader)
        last = read_last_note(session.settings.audit_signer_dir)
        held = _anchors(session, reader) if arguments.anchor else None
        with reader.whole() as log:
            report = verify_log(log, log_keys(), kept=kept, signed_last=last)
            if held is not None:
                report = hold_against(report, log, held)
        outcome.more = {"size": report.checked, "root": report.root}
        if report.first_bad is not None:
            outcome.more["first_bad"] = report.first_bad
        if report.status != WHOLE:
            outcome.why = "not_checkable" if report.status == CANNOT_TELL else "digest_differs"
            outcome.more["because"] = report.problem[:500]
        level = _level(reader, session)
    data = {**asdict(report), "verdict": _WORDS[report.status], "level": level}
    lines = [*_report_lines(report), level]
    if held is not None:
        data["anchors"] = len(held.checkpoints)
        lines.insert(-1, f"held against {len(held.checkpoints)} anchored checkpoints")
    return Result(data=data, lines=lines, status=report.status)


def _anchors(session: Session, reader: AuditReader) -> Held:
    """What the store of anchors keeps of this log."""
    store = anchor_store(session.settings)
    if store is None:
        raise ConfigurationError(
            "--anchor: expected an address in [secure_ml] audit_anchor, found none"
        )
    return read_anchors(store, log_keys(), reader.origin())


def _level(reader: AuditReader, session: Session) -> str:
    """What stands behind the log beyond its key; a log that is damaged may not tell."""
    settings = session.settings
    try:
        book, keys = deployment().relay_book, log_keys()
        found = witnessed(
            reader, book, keys, settings.audit_witnesses, settings.audit_witness_quorum
        )
        more = kept_outside(
            book,
            anchor=settings.audit_anchor,
            stamper=partial(stamper, settings),
            log_keys=keys,
            origin=reader.origin(),
        )
    except SecureMLError as error:
        return f"level in force: it cannot be told: {error}"
    problem = f"; {found.problem}" if found.problem else ""
    return f"level in force: {'. '.join([found.text, *more])}{problem}"


def show(arguments: argparse.Namespace, session: Session) -> Result:
    """Show events, newest last."""
    query = EventQuery(
        dag=arguments.dag,
        run=arguments.run,
        task=arguments.task,
        acts=() if arguments.all else tuple(arguments.act or _ACTS),
        results=tuple(arguments.result or ()),
        uri=arguments.uri,
    )
    check_text(arguments.dag, arguments.run, arguments.task, arguments.uri, *arguments.act or ())
    session.see("trail.view", more={"page": "cli audit show"})
    leaves = list(log_reader().page(query, limit=arguments.limit))[::-1]
    data = [{"index": leaf.index, "event": leaf.event} for leaf in leaves]
    return Result(data=data, lines=[_event_line(leaf) for leaf in leaves])


def sequencer(arguments: argparse.Namespace, session: Session) -> Result:
    """Run the sequencer in this process until it is stopped."""
    words = ["--once"] * arguments.once + ["--standby"] * arguments.standby
    words += ["--collector"] * arguments.collector
    status = _sequence(session, *words)
    _raise_for(status)
    data = {"status": status, "audit_dir": str(session.settings.audit_dir)}
    return Result(data=data, lines=[], status=status)


def adopt(arguments: argparse.Namespace, session: Session) -> Result:
    """Have the log signed as it is, although nothing tells what was signed last."""
    settings = session.settings
    signer = LogSigner(settings.audit_signer_dir)
    last = settings.audit_signer_dir / LAST_FILE
    if last.exists():
        raise ConfigurationError(f"{last}: is there; a log is adopted only where it is lost")
    ask(
        f"Adopt {signer.origin} as it is now? Only a checkpoint kept elsewhere can still show "
        "that it was cut or rolled back. yes to go on: ",
        answer="yes",
        refused=f"{signer.origin}: not adopted",
        yes=arguments.yes,
    )
    _require_sound(session)
    session.see("trail.adopt", more={"because": "a person asked for it"})
    # The sequencer that runs next in this process must not meet a segment of this process.
    close_sink()
    status = OTHER_SYSTEM
    for _ in range(_ADOPT_TRIES):
        stop_sequencer(settings.audit_dir)
        status = _sequence(session, "--adopt")
        if status != OTHER_SYSTEM:
            break
    _raise_for(status)
    if status:
        return Result(data={"status": status}, lines=[], status=status)
    size, root = signer.last()
    data = {"status": status, "origin": signer.origin, "size": size, "root": root.hex()}
    return Result(data=data, lines=[f"adopted {signer.origin}, {size} leaves, root {root.hex()}"])


def _require_sound(session: Session) -> None:
    """Refuse a log that contradicts itself or a checkpoint in it: signing it would hide that."""
    try:
        log_reader().size()
    except ConfigurationError:
        # Nobody has made it yet, or it cannot be opened: the sequencer says which.
        return
    with log_reader().whole() as log:
        report = verify_log(log, log_keys())
    if report.status == TAMPERED:
        report.raise_for_status()


def _sequence(session: Session, *more: str) -> int:
    """Run the sequencer's program in this process; returns its exit status."""
    from airflow_secure_ml import sequencer as program

    settings = session.settings
    words = ["--audit-dir", str(settings.audit_dir), "--signer-dir", str(settings.audit_signer_dir)]
    if settings.audit_spare_dir is not None:
        words += ["--spare-dir", str(settings.audit_spare_dir)]
    if settings.audit_signer_socket is not None:
        words += ["--signer-socket", str(settings.audit_signer_socket)]
    words += deployment().audit_place.arguments()
    words += ["--ingest"] * settings.takes_ingest
    return program.main([*words, *more])


def _raise_for(status: int) -> None:
    if status == WRONG_USE:
        raise ConfigurationError("sequencer: it could not start; its message stands above")
    if status == OTHER_SYSTEM:
        raise ServiceUnavailableError(
            service="sequencer", action="run", reason="its message stands above"
        )


def _await_checkpoint(reader: AuditReader) -> None:
    deadline = time.monotonic() + _FIRST_CHECKPOINT_S
    while reader.checkpoint() is None and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _report_lines(report: Report) -> list[str]:
    lines = [
        f"{report.origin}: {_WORDS[report.status]}",
        f"{report.checked} of {report.size} leaves derived anew, root {report.root}",
        f"{report.checkpoints} checkpoints hold, the newest covers {report.signed_size} leaves",
    ]
    if report.status != WHOLE:
        where = "" if report.first_bad is None else f" (first bad leaf: {report.first_bad})"
        lines.append(f"{report.problem}{where}")
    if report.pruned_below:
        lines.append(f"leaves below {report.pruned_below} are there by their hashes alone: pruned")
    if report.ends:
        ends = ", ".join(f"{count} {state}" for state, count in report.ends.items())
        lines.append(f"emitters: {ends}")
    return [*lines, *_ending_lines(report.badly_ended)]


def _ending_lines(endings: Endings) -> list[str]:
    """Which recordings did not end well; what they say of themselves may hold anything."""
    lines = []
    for ending in endings.named:
        words = [ending.program or "?", "on", ending.host or "?"]
        words += [] if ending.pid is None else [f"process {ending.pid}"]
        words += [".".join(ending.run.values())] if ending.run else []
        words += [f"refused {ending.refused}"] if ending.refused else []
        last = f"last {ending.last_act or 'nothing'}"
        last += f" at {_when(ending.last_ms)}" if ending.last_ms is not None else ""
        said = f"{ending.state:<8}{' '.join(words)}; {ending.events} events, {last}, {ending.last}"
        lines.append(said.removesuffix(", "))
    if endings.more:
        lines.append(f"and {endings.more} more that did not end well")
    return lines


def _event_line(leaf: Leaf) -> str:
    event = leaf.event
    said = str(event.get("result", event.get("phase")))
    if "why" in event:
        said = f"{said} ({event['why']})"
    act, when = str(event.get("act")), _when(event.get("time"))
    return f"{leaf.index:>7}  {when}  {act:<16}  {said:<24}  {_about(event)}".rstrip()


def _when(time_ms: Any) -> str:
    """A task may write any time, and an edited log anything: neither may hide the other events."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ArithmeticError, OSError, TypeError, ValueError):
        return f"{time_ms!s:.19}".ljust(19)


def _about(event: Mapping[str, Any]) -> str:
    parts = [
        ".".join(_parts(event, "run", "dag", "task")),
        *_parts(event, "object", "uri"),
        "/".join(_parts(event, "key", "name", "version")),
    ]
    return "  ".join(part for part in parts if part)


def _parts(event: Mapping[str, Any], field: str, *names: str) -> list[str]:
    found = event.get(field)
    if not isinstance(found, Mapping):
        return []
    return [_shown(found[name]) for name in names if name in found]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "(hidden)"
