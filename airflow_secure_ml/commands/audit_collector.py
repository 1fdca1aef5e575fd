"""`audit collector`: run what takes the events of other users' processes.

Its user is the sequencer's, and no task's.
"""

from __future__ import annotations

import argparse

from airflow_secure_ml.commands.running import OTHER_SYSTEM, WRONG_USE, Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError


def collector(arguments: argparse.Namespace, session: Session) -> Result:
    """Run the collector in this process until it is stopped."""
    from airflow_secure_ml import collector as program

    words = ["--audit-dir", str(session.settings.audit_dir), "--socket", arguments.socket]
    for uid in arguments.allow_uid or ():
        words += ["--allow-uid", str(uid)]
    status = program.main(words)
    if status == WRONG_USE:
        raise ConfigurationError("collector: it could not start; its message stands above")
    if status == OTHER_SYSTEM:
        raise ServiceUnavailableError(
            service="collector", action="run", reason="its message stands above"
        )
    return Result(data={"status": status}, lines=[], status=status)
