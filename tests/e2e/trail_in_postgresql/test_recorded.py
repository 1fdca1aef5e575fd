"""A secured task under a real scheduler, with the log in PostgreSQL: recorded, shown, whole."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.verifying import verify_log

DAGS = Path(__file__).parent / "dags"
RUN = "recorded-1"
pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


@pytest.fixture
def empty(trail_server):
    """A database that `airflow db migrate` has to fill."""
    place = trail_server.empty()
    yield place
    trail_server.drop(place)


def test_a_task_is_recorded_in_the_database_and_the_page_shows_it(
    own_airflow, empty, tmp_path_factory
):
    settings = {
        "AIRFLOW__SECURE_ML__AUDIT_STORE": empty.address("trail_owner"),
        "AIRFLOW__SECURE_ML__AUDIT_STORE_PASSFILE": str(empty.passfile),
    }
    folder = tmp_path_factory.mktemp("trail_in_postgresql")
    with own_airflow.running(folder, DAGS, settings) as airflow:
        reader = PostgresAuditReader(empty.login("trail_reader"))
        airflow.start("recorded", RUN)
        states = airflow.wait("recorded", RUN)
        ended = EventQuery(dag="recorded", acts=("task.end", "object.publish"), results=("ok",))
        own_airflow.until(
            lambda: len({leaf.event["act"] for leaf in reader.page(ended)}) == 2,
            own_airflow.TRAIL_S,
            lambda: str(reader.kinds(EventQuery(), limit=99)),
        )
        request = urllib.request.Request(
            f"{airflow.url}/secure-ml/events?dag=recorded",
            headers={"Cookie": f"_token={airflow.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            page = answer.read().decode()
        own_airflow.until(
            lambda: reader.checkpoint() is not None, own_airflow.TRAIL_S, lambda: "no checkpoint"
        )
        keys = (airflow.home / "secure_ml" / "signer" / "log_keys").read_text()
        with reader.whole() as whole:
            report = verify_log(whole, parse_log_keys(keys))

        assert states == {("make", -1): "success"}
        assert not (airflow.audit_dir / "trail.db").exists()
        assert "object.publish" in page
        assert "table.csv" in page
        assert report.problem == ""
        logs = airflow.logs()
        assert empty.passwords["trail_owner"] not in logs
