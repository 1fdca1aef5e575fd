"""A secured task under a real scheduler, with the log in PostgreSQL: recorded, shown, whole."""

from __future__ import annotations

import urllib.request

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


def test_a_task_is_recorded_in_the_database_and_the_page_shows_it(
    airflow, trail, empty_trail_place
):
    states = trail.run()
    request = urllib.request.Request(
        f"{airflow.url}/secure-ml/events?dag=recorded",
        headers={"Cookie": f"_token={airflow.token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        page = answer.read().decode()
    report = trail.verify()

    assert states == {("make", -1): "success"}
    assert not (airflow.audit_dir / "trail.db").exists()
    assert "object.publish" in page
    assert "table.csv" in page
    assert report.problem == ""
    logs = airflow.logs()
    assert empty_trail_place.passwords["trail_owner"] not in logs
