"""A secured task under a real scheduler that leaves nothing of the trail on its disk."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit.query import EventQuery

pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


@pytest.fixture
def settings(settings, empty_trail_place):
    return settings | {
        "AIRFLOW__SECURE_ML__AUDIT_SPOOL": "push",
        "AIRFLOW__SECURE_ML__AUDIT_INBOX": empty_trail_place.address("trail_worker"),
        "AIRFLOW__SECURE_ML__AUDIT_INBOX_PASSFILE": str(empty_trail_place.passfile),
    }


def test_a_task_hands_all_it_records_over_to_the_inbox(airflow, trail, empty_trail_place):
    states = trail.run()
    report = trail.verify()

    (publish,) = trail.reader.page(
        EventQuery(dag="recorded", acts=("object.publish",), results=("ok",))
    )
    emitters = trail.reader.page(EventQuery(acts=("trail.emitter",)))
    founds = [leaf.event["more"] for leaf in emitters if leaf.event["more"]["state"] == "found"]
    assert states == {("make", -1): "success"}
    assert list(airflow.audit_dir.glob("spool/*")) == []
    assert {(more["via"], more["login"]) for more in founds} == {("inbox", "trail_worker")}
    assert publish.event["emitter"] in {more["emitter"] for more in founds}
    assert report.problem == ""
    assert empty_trail_place.passwords["trail_worker"] not in airflow.logs()
