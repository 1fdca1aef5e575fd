"""`audit migrate`: make the log's tables in a database, without Airflow."""

from __future__ import annotations

import argparse

from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.migrations.applying import HEAD, migrate


def migrate_log(arguments: argparse.Namespace, session: Session) -> Result:
    """Make the steps that are missing, by the tables' owner."""
    login = deployment().audit_place.login()
    made = migrate(login)
    data = {"store": str(login.address), "revision": HEAD, "made": list(made)}
    said = f"made {', '.join(made)}" if made else "nothing to be made"
    return Result(data=data, lines=[f"{login.address}: {said}; it is at {HEAD}"])
