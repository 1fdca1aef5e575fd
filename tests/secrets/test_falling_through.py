"""What Airflow does with an answer after it was given: where that fails, it asks the next one."""

from __future__ import annotations

import asyncio
import sys
import traceback

import pytest

from tests.secrets.conftest import denied

CANARY = "canary-8841d0"

NO_TEXT = [
    {"conn_type": "http", "login": 5},
    {"conn_type": "http", "host": 5},
    {"conn_type": "http", "schema": 5},
    {"conn_type": "http", "password": 5},
    {"conn_type": 5},
]


@pytest.mark.parametrize("fields", NO_TEXT, ids=str)
def test_a_field_that_is_no_text_does_not_lead_to_the_static_login(place, chain, fields):
    place.put("connections/warehouse", fields)
    airflow = chain(place)

    denied(lambda: airflow._get_connection("warehouse"), "cannot be read")
    denied(lambda: asyncio.run(airflow._async_get_connection("warehouse")), "cannot be read")


@pytest.mark.parametrize("fields", NO_TEXT, ids=str)
def test_nor_does_it_in_the_scheduler_and_the_api_server(place, fields):
    from airflow.models.connection import Connection

    place.put("connections/warehouse", fields)
    ours = place.ours()
    ours._set_connection_class(Connection)

    denied(lambda: ours.get_connection("warehouse"), "cannot be read")


@pytest.mark.parametrize(
    "value", ["no JSON", "{", "", "[" * 100_000], ids=["word", "brace", "empty", "deep"]
)
def test_a_variable_that_is_no_json_does_not_lead_to_the_static_one(place, chain, value):
    place.put("variables/warehouse", {"value": value})
    airflow = chain(place)

    error = denied(lambda: airflow._get_variable("warehouse", True), "asked for as JSON")

    assert "no JSON" not in str(error)
    assert airflow._get_variable("warehouse", False) == value


@pytest.mark.parametrize("value", [{"a": [1, None]}, [1], 5, True, '{"a": [1, null]}'], ids=str)
def test_a_variable_that_was_stored_as_an_object_is_read_as_json(place, chain, value):
    place.put("variables/warehouse", {"value": value})
    airflow = chain(place)

    found = airflow._get_variable("warehouse", True)

    assert found == ({"a": [1, None]} if isinstance(value, str) else value)


def test_nothing_that_was_read_hangs_on_a_denial(place):
    place.put("connections/malformed", {"conn_type": "http", "port": CANARY})
    ours = place.ours()

    error = denied(lambda: ours.get_connection("malformed"))

    assert error.__context__ is None
    assert error.__cause__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert "_or_denied" in {frame.f_code.co_name for frame in frames}
    here = sys._getframe().f_code
    for frame in frames:
        if frame.f_code is not here:
            assert CANARY not in repr(frame.f_locals)


@pytest.mark.parametrize(
    "text", ['{"rules": {', "[]", "null", ""], ids=["cut", "list", "null", "no"]
)
def test_options_that_airflow_cannot_read_are_no_defaults(place, chain, monkeypatch, text):
    from airflow.sdk.configuration import clear_secrets_backends_cache

    airflow = chain(place)
    monkeypatch.setenv("VAULT_ADDR", place.vault.url)
    monkeypatch.setenv("VAULT_TOKEN", "any")
    monkeypatch.setenv("VAULT_CACERT", str(place.vault.ca))
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", text)
    clear_secrets_backends_cache()

    denied(lambda: airflow._get_connection("warehouse"), "Airflow gives none where")
