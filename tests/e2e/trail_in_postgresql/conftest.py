"""An Airflow with one secured task, whose log is made in PostgreSQL by `airflow db migrate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.verifying import verify_log

DAGS = Path(__file__).parent / "dags"
DAG, RUN = "recorded", "recorded-1"


class Trail:
    """The log of a running Airflow."""

    def __init__(self, own_airflow, airflow, place):
        self._own, self._airflow = own_airflow, airflow
        self.reader = PostgresAuditReader(place.login("trail_reader"))

    def run(self):
        """The state of each task instance, once the run's last events are in the log."""
        self._airflow.start(DAG, RUN)
        states = self._airflow.wait(DAG, RUN)
        ended = EventQuery(dag=DAG, acts=("task.end", "object.publish"), results=("ok",))
        self._own.until(
            lambda: len({leaf.event["act"] for leaf in self.reader.page(ended)}) == 2,
            self._own.TRAIL_S,
            lambda: str(self.reader.kinds(EventQuery(), limit=99)),
        )
        return states

    def verify(self):
        """The report on the log as it is once there is a checkpoint."""
        self._own.until(
            lambda: self.reader.checkpoint() is not None,
            self._own.TRAIL_S,
            lambda: "no checkpoint",
        )
        keys = (self._airflow.home / "secure_ml" / "signer" / "log_keys").read_text()
        with self.reader.whole() as whole:
            return verify_log(whole, parse_log_keys(keys))


@pytest.fixture
def settings(empty_trail_place):
    """Where the log is; tests may say more."""
    return {
        "AIRFLOW__SECURE_ML__AUDIT_STORE": empty_trail_place.address("trail_owner"),
        "AIRFLOW__SECURE_ML__AUDIT_STORE_PASSFILE": str(empty_trail_place.passfile),
    }


@pytest.fixture
def airflow(own_airflow, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trail_in_postgresql")
    with own_airflow.running(folder, DAGS, settings) as running:
        yield running


@pytest.fixture
def trail(own_airflow, airflow, empty_trail_place):
    return Trail(own_airflow, airflow, empty_trail_place)
