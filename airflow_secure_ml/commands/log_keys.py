"""`audit signer`, `audit rotate-key`: run what has the log's key, and let another key follow it.

A key itself is never printed. Making a successor is an event of the trail, and so is the hand-over,
which the sequencer says.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from airflow_secure_ml.adapters.log_signer import (
    PUBLIC_FILE,
    LogSigner,
    prepare_successors,
    read_log_keys,
)
from airflow_secure_ml.commands.running import OTHER_SYSTEM, WRONG_USE, Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.audit.checkpoint import LogKey, parse_log_keys
from airflow_secure_ml.core.audit.log_key import ML_DSA_65
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.recording import close_sink

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.log_signer import KeyElsewhere
    from airflow_secure_ml.settings import Settings

# A sequencer signs a second after the event that says so; a key elsewhere takes its own time.
_HAND_OVER_S = 15.0
_POLL_S = 0.1


def signer(arguments: argparse.Namespace, session: Session) -> Result:
    """Run the signer in this process until it is stopped."""
    from airflow_secure_ml import signer as program

    settings = session.settings
    if settings.audit_signer_socket is None:
        raise ConfigurationError(
            "[secure_ml] audit_signer_socket: expected where the signer listens, found nothing"
        )
    words = ["--signer-dir", str(settings.audit_signer_dir)]
    words += ["--socket", str(settings.audit_signer_socket)]
    words += ["--vault-conn-id", settings.vault_conn_id, "--aws-conn-id", settings.aws_conn_id]
    for uid in arguments.allow_uid or ():
        words += ["--allow-uid", str(uid)]
    status = program.main(words)
    if status == WRONG_USE:
        raise ConfigurationError("signer: it could not start; its message stands above")
    if status == OTHER_SYSTEM:
        raise ServiceUnavailableError(
            service="signer", action="run", reason="its message stands above"
        )
    return Result(data={"status": status}, lines=[], status=status)


def rotate_key(arguments: argparse.Namespace, session: Session) -> Result:
    """Make the log's next key; the sequencer hands over to it at its next checkpoint."""
    settings = session.settings
    in_use = LogSigner(settings.audit_signer_dir).in_use()
    # Never taken back by an option that was forgotten.
    post_quantum = arguments.post_quantum or any(key.algorithm == ML_DSA_65 for key in in_use)
    key = {"system": "log", "name": in_use[0].name, "version": in_use[0].key_id.hex()}
    with session.act("key.rotate", key=key, more={"purpose": "log"}) as outcome:
        new = prepare_successors(
            settings.audit_signer_dir, at=key_elsewhere(settings), post_quantum=post_quantum
        )
        outcome.key = {"version": new[0].key_id.hex()}
    # Its end is what the sequencer takes up, and signs.
    close_sink()
    deployment().ensure_sequencer()
    return _handed_over(settings, new)


def key_elsewhere(settings: Settings) -> KeyElsewhere | None:
    """The key that `audit_signer` names; None: one is made in the signer's directory.

    Raises:
        ConfigurationError: Only a signer process reaches it, and none is set.
        ServiceError: Its key system says no, or does not answer.
    """
    from airflow_secure_ml.signer import LOCAL, KeySystems

    if settings.audit_signer == LOCAL:
        return None
    if settings.audit_signer_socket is None:
        raise ConfigurationError(
            "[secure_ml] audit_signer_socket: expected where `secure-ml audit signer` listens: the "
            "sequencer, which has the key otherwise, speaks to no network"
        )
    systems = KeySystems(vault_conn_id=settings.vault_conn_id, aws_conn_id=settings.aws_conn_id)
    return systems.key_at(settings.audit_signer)


def _handed_over(settings: Settings, new: tuple[LogKey, ...]) -> Result:
    """Wait until the sequencer has let the new keys take over."""
    deadline = time.monotonic() + _HAND_OVER_S
    found = _public(settings)
    while not _is_in_use(found, new) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        found = _public(settings)
    is_done = _is_in_use(found, new)
    if is_done:
        first = next(key for key in found if key.key_id == new[0].key_id)
        lines = [
            f"log key {first.key_id.hex()} signs from {first.from_size} leaves on; the one before "
            "is gone. Whoever checks this log needs the new lines, in [secure_ml] audit_log_keys:",
            *(key.line().strip() for key in found),
        ]
    else:
        lines = [
            f"log key {new[0].key_id.hex()} is made; the log's next checkpoint hands over to it. "
            "No sequencer has got there yet: see `secure-ml audit show --act trail.key`"
        ]
    data = {
        "key": new[0].key_id.hex(),
        "handed_over": is_done,
        "log_keys": [key.line().strip() for key in found],
    }
    return Result(data=data, lines=lines)


def _public(settings: Settings) -> tuple[LogKey, ...]:
    return parse_log_keys(read_log_keys(settings.audit_signer_dir / PUBLIC_FILE))


def _is_in_use(found: tuple[LogKey, ...], new: tuple[LogKey, ...]) -> bool:
    return {key.key_id for key in new} <= {key.key_id for key in found if key.to_size is None}
