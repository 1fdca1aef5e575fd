"""`audit erase`: a person's name, gone from the trail and from every copy of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from airflow_secure_ml.audit_sinks import segment_folders
from airflow_secure_ml.commands.asking import ask
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.erasing_subject import Erased, erase_subject

INCOMPLETE = 4
MAX_NAME_BYTES = 4096


def erase(arguments: argparse.Namespace, session: Session) -> Result:
    """Destroy the key that opens what hidden values of a person hide."""
    name = _name(arguments.person)
    ask(
        f"Erase {name!r} from the trail? Events and proofs stay, and name nobody any more; nobody "
        "can undo it. The name to go on: ",
        answer=name,
        refused="nothing was erased",
        yes=arguments.yes,
    )
    place = deployment().audit_place
    if place.subjects is None:
        raise ConfigurationError("[secure_ml] audit_subjects_dir: there is none")
    with session.act("trail.erase") as outcome:
        done = erase_subject(name, place.subjects, place.eraser(), lambda: _segments(session))
        outcome.more = {"count": done.rows}
        if done.waiting:
            outcome.more["because"] = f"{done.waiting} segments of the spool still hold it"
    data = {"known": done.is_known, "rows": done.rows, "waiting": done.waiting}
    return Result(data=data, lines=_lines(done), status=INCOMPLETE if done.waiting else 0)


def _name(given: str) -> str:
    """The name; `-` is standard input, which no list of processes shows."""
    name = sys.stdin.read(MAX_NAME_BYTES).strip("\n") if given == "-" else given
    if not name or any("\ud800" <= sign <= "\udfff" for sign in name):
        raise ConfigurationError("person: expected a name as it was recorded")
    return name


def _segments(session: Session) -> Iterator[bytes]:
    for directory in segment_folders(session.settings):
        for path in sorted(directory.glob("*.seg")):
            yield _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        # Taken in meanwhile: what it held lies under the key that is gone, or a newer one.
        return b""


def _lines(done: Erased) -> list[str]:
    if not done.is_known:
        lines = ["nobody of that name is in the trail; it may be recorded in another spelling"]
    else:
        lines = [f"erased; {done.rows} values were removed from the log's table"]
    if done.waiting:
        lines.append(
            f"{done.waiting} segments of the spool still hold the name: their processes run; end "
            "or restart them, and run this again"
        )
    return lines
