"""The sensor under a real scheduler and triggerer, with a connection to a real Vault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.transit_place import TransitPlace

DAGS = Path(__file__).parent / "dags"
LOOKED_S = 120

pytestmark = [pytest.mark.airflow, pytest.mark.vault]


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        made.make("data")
        made.make("pipeline", "ed25519")
        yield made


@pytest.fixture
def airflow(own_airflow, place, tmp_path):
    settings = {
        "AIRFLOW__SECURE_ML__KEY_SYSTEM": f"vault://{place.mount}?conn_id=prod",
        "AIRFLOW_CONN_PROD": place.connection(),
    }
    with own_airflow.running(tmp_path, DAGS, settings) as running:
        yield running


def test_a_rotation_in_vault_wakes_the_task_that_waits_in_the_triggerer(
    own_airflow, airflow, place
):
    airflow.start("waiting", "r1")
    own_airflow.until(
        lambda: airflow.states("waiting", "r1").get(("wait", -1)) == "deferred",
        LOOKED_S,
        lambda: f"{airflow.states('waiting', 'r1')}\n{airflow.logs()[-3000:]}",
    )
    looks = place.count("read keys/data")
    # The task looked before it was deferred; from here on only the triggerer looks.
    own_airflow.until(lambda: place.count("read keys/data") >= looks + 2, LOOKED_S, airflow.logs)

    place.rotate("data")

    assert airflow.wait("waiting", "r1") == {("wait", -1): "success", ("seal", -1): "success"}
    assert airflow.xcom("waiting", "r1", "wait") == {"key": "data", "version": 2}
    sealed = [each for each in airflow.events(acts=("object.seal",)) if each["phase"] == "outcome"]
    assert [each["key"]["version"] for each in sealed] == ["2"]
