"""`shred` and `certificates`: the end of a data set's key, and what says so."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

from airflow_secure_ml.commands.asking import ask
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, user_name
from airflow_secure_ml.commands.trail import trail_of
from airflow_secure_ml.core.destruction import Destruction
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.shredding import (
    Asked,
    certificates_of,
    read_certificate,
    shred_data_set,
)


def shred(arguments: argparse.Namespace, session: Session) -> Result:
    """Destroy the key of a sealed directory."""
    uri = session.address(arguments.data_set)
    ask(
        f"Shred {uri}? Nothing opens it afterwards, and nobody can undo it. Its address to go on: ",
        answer=arguments.data_set,
        refused=f"{uri}: not shredded",
        yes=arguments.yes,
    )
    asked = Asked(reason=arguments.reason, now_ms=time.time_ns() // 1_000_000, by=user_name())
    signing = session.settings.signing_key
    with Progress(None, in_words=lambda count: f"{count:.0f} files") as progress:
        done = shred_data_set(
            session.store_of(uri),
            uri,
            asked,
            signer=session.keys.signer(signing),
            verifiers=session.keys.verifiers({signing, *session.settings.trusted_signers}),
            trail=trail_of(session),
            progress=progress,
        )
    objects = sum(len(each.objects) for each in done.destructions)
    data = {
        "data_set": uri,
        "objects": objects,
        "copies": sum(each.copies for each in done.destructions),
        "certificates": list(done.certificates),
    }
    lines = [f"shredded {uri}: {objects} files that nothing opens any more"]
    lines += [f"certificate: {each}" for each in done.certificates]
    return Result(data=data, lines=lines)


def certificates(arguments: argparse.Namespace, session: Session) -> Result:
    """Verify a data set's certificates of destruction, and show what they say."""
    uri = session.address(arguments.data_set)
    store = session.store_of(uri)
    verifiers = session.keys.verifiers(arguments.signed_by or session.settings.trusted_signers)
    found = [read_certificate(store, each, verifiers) for each in certificates_of(store, uri)]
    if not found:
        raise ConfigurationError(f"{uri}: expected a certificate of destruction, found none")
    return Result(
        data=[_record(each) for each in found],
        lines=[line for each in found for line in _in_words(each)],
    )


def _record(said: Destruction) -> dict[str, object]:
    task = said.producer
    return {
        "data_set": said.data_set,
        "core_id": said.core_id,
        "destroyed": _time(said),
        "by": said.by if task is None else f"{task.dag_id}.{task.task_id} {task.run_id}",
        "reason": said.reason,
        "wrapped_by": list(said.wrapped_by),
        "copies": said.copies,
        "objects": [each.path for each in said.objects],
        "event": said.event,
    }


def _in_words(said: Destruction) -> list[str]:
    record = _record(said)
    return [
        f"{said.data_set}: its key {said.core_id} was destroyed",
        f"  when     {record['destroyed']}, by {record['by']}",
        f"  reason   {said.reason}",
        f"  key of   {', '.join(said.wrapped_by)}; {said.copies} copies were removed",
        f"  objects  {len(said.objects)}",
        f"  event    {said.event}",
    ]


def _time(said: Destruction) -> str:
    return datetime.fromtimestamp(said.destroyed_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
