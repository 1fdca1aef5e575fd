"""A secured task under a real scheduler that leaves nothing of the trail on its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.verifying import verify_log

DAGS = Path(__file__).parent / "dags"
RUN = "handed-over-1"
pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


@pytest.fixture
def empty(trail_server):
    """A database that `airflow db migrate` has to fill."""
    place = trail_server.empty()
    yield place
    trail_server.drop(place)


def test_a_task_hands_all_it_records_over_to_the_inbox(own_airflow, empty, tmp_path_factory):
    settings = {
        "AIRFLOW__SECURE_ML__AUDIT_STORE": empty.address("trail_owner"),
        "AIRFLOW__SECURE_ML__AUDIT_STORE_PASSFILE": str(empty.passfile),
        "AIRFLOW__SECURE_ML__AUDIT_SPOOL": "push",
        "AIRFLOW__SECURE_ML__AUDIT_INBOX": empty.address("trail_worker"),
        "AIRFLOW__SECURE_ML__AUDIT_INBOX_PASSFILE": str(empty.passfile),
    }
    folder = tmp_path_factory.mktemp("pushed_to_inbox")
    with own_airflow.running(folder, DAGS, settings) as airflow:
        reader = PostgresAuditReader(empty.login("trail_reader"))
        airflow.start("handed_over", RUN)
        states = airflow.wait("handed_over", RUN)
        ended = EventQuery(dag="handed_over", acts=("task.end", "object.publish"), results=("ok",))
        own_airflow.until(
            lambda: len({leaf.event["act"] for leaf in reader.page(ended)}) == 2,
            own_airflow.TRAIL_S,
            lambda: str(reader.kinds(EventQuery(), limit=99)),
        )
        own_airflow.until(
            lambda: reader.checkpoint() is not None, own_airflow.TRAIL_S, lambda: "no checkpoint"
        )
        (publish,) = reader.page(
            EventQuery(dag="handed_over", acts=("object.publish",), results=("ok",))
        )
        emitters = [leaf.event["more"] for leaf in reader.page(EventQuery(acts=("trail.emitter",)))]
        found = [more for more in emitters if more["state"] == "found"]
        keys = (airflow.home / "secure_ml" / "signer" / "log_keys").read_text()
        with reader.whole() as whole:
            report = verify_log(whole, parse_log_keys(keys))

        assert states == {("make", -1): "success"}
        assert list(airflow.audit_dir.glob("spool/*")) == []
        assert {(more["via"], more["login"]) for more in found} == {("inbox", "trail_worker")}
        assert publish.event["emitter"] in {more["emitter"] for more in found}
        assert report.problem == ""
        assert empty.passwords["trail_worker"] not in airflow.logs()
