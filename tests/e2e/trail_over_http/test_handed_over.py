"""A secured task under a real scheduler whose events go to an API server by real TLS."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.airflow

DAG, RUN = "handed_over", "handed-over-1"


def test_a_task_hands_all_it_records_over_to_an_api_server(own_airflow, airflow, taker):
    airflow.start(DAG, RUN)
    states = airflow.wait(DAG, RUN)
    ends = {"dag": DAG, "acts": ("task.end", "object.publish"), "results": ("ok",)}
    own_airflow.until(
        lambda: len({event["act"] for event in taker.page(**ends)}) == 2,
        own_airflow.TRAIL_S,
        lambda: f"{[event['act'] for event in taker.page()]}\n{taker.said()[-3000:]}",
    )
    own_airflow.until(
        lambda: taker.verify().status == 0, own_airflow.TRAIL_S, lambda: taker.verify().problem
    )

    more = [event["more"] for event in taker.page(acts=("trail.emitter",))]
    came_by = {each["emitter"]: each.get("via") for each in more if each["state"] == "found"}
    of_the_run = {event["emitter"] for event in taker.page(dag=DAG)}
    assert states == {("make", -1): "success"}
    assert {came_by[emitter] for emitter in of_the_run} == {"http"}
    assert list(airflow.audit_dir.glob("spool/*")) == []
    assert taker.token() not in airflow.logs() + taker.said()
