"""`audit relay`, `witness`, `checkpoint`: what goes out after the fact, and what came back."""

from __future__ import annotations

import argparse
from pathlib import Path

from airflow_secure_ml.adapters.witness import LOGS_FILE, init_witness
from airflow_secure_ml.commands.audit_log import log_keys, log_reader
from airflow_secure_ml.commands.running import OTHER_SYSTEM, WRONG_USE, Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.checkpoint import open_checkpoint
from airflow_secure_ml.core.audit.cosignature import cosigned_note
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.services.standing import witnessed


def relay(arguments: argparse.Namespace, session: Session) -> Result:
    """Run the relay in this process until it is stopped."""
    from airflow_secure_ml import relay as program

    status = program.main(["--once"] * arguments.once)
    _raise_for(status, "relay")
    return Result(data={"status": status}, lines=[], status=status)


def witness(arguments: argparse.Namespace, session: Session) -> Result:
    """Make a witness's key, or be that witness until stopped."""
    from airflow_secure_ml import witness as program

    folder = Path(arguments.dir)
    if arguments.init is not None:
        vkey = init_witness(folder, arguments.init).vkey()
        lines = [vkey, f"add the log's line of log_keys to {folder / LOGS_FILE}, then start it"]
        return Result(data={"vkey": vkey, "dir": str(folder)}, lines=lines)
    words = ["--dir", str(folder), "--listen", arguments.listen or program.DEFAULT_LISTEN]
    if arguments.tls_cert is not None:
        words += ["--tls-cert", arguments.tls_cert]
    if arguments.tls_key is not None:
        words += ["--tls-key", arguments.tls_key]
    status = program.main(words)
    _raise_for(status, "witness")
    return Result(data={"status": status}, lines=[], status=status)


def checkpoint(arguments: argparse.Namespace, session: Session) -> Result:
    """Print a checkpoint with the cosignatures over it: to be kept elsewhere."""
    settings, reader, book = session.settings, log_reader(), deployment().relay_book
    keys = log_keys()
    found = witnessed(reader, book, keys, settings.audit_witnesses, settings.audit_witness_quorum)
    size = None if arguments.newest else found.size
    note = reader.checkpoint() if size is None else reader.checkpoint(at_most=size)
    if note is None:
        raise ConfigurationError("the log has no checkpoint yet; record something first")
    # What does not hold now would be kept, and tell nothing on the day it is needed.
    signed = open_checkpoint(note, keys, origin=reader.origin())
    lines = book.cosigned(signed.size)
    shown = cosigned_note(note, [each.line for each in lines])
    session.see("trail.view", more={"page": "cli audit checkpoint"})
    data = {"note": shown, "level": found.text}
    return Result(data=data, lines=shown.removesuffix("\n").split("\n"))


def _raise_for(status: int, what: str) -> None:
    if status == WRONG_USE:
        raise ConfigurationError(f"{what}: it could not start; its message stands above")
    if status == OTHER_SYSTEM:
        raise ServiceUnavailableError(service=what, action="run", reason="its message stands above")
