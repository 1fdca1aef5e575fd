"""Whatever goes wrong is a denial that ends the look-up: no static login is used instead."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import threading
import traceback

import pytest
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

from tests.secrets.conftest import denied

CANARY = "canary-64be0f"
LOGIN = "auth/approle/login"


def test_what_the_policy_denies_is_denied_and_not_the_static_login(place, chain):
    airflow = chain(place)

    denied(lambda: airflow._get_connection("forbidden"), "permission denied")
    denied(lambda: airflow._get_variable("forbidden", False), "permission denied")


def test_asynchronous_code_is_denied_too(place, chain):
    import asyncio

    airflow = chain(place)

    denied(lambda: asyncio.run(airflow._async_get_connection("forbidden")), "permission denied")


def test_what_is_absent_comes_from_the_next_back_end(place, chain):
    airflow = chain(place)

    assert airflow._get_connection("never").host == "static"
    assert airflow._get_variable("never", False) == "static"


def test_absence_is_denied_where_that_was_said(place, chain):
    airflow = chain(place, absent={"connections": "deny"})

    denied(lambda: airflow._get_connection("never"), "no other back end may be asked")
    assert airflow._get_variable("never", False) == "static"
    assert place.facts[1].why == "rule_denied"


def test_a_sealed_vault_is_a_denial_and_not_the_static_login(place, chain):
    place.put("connections/warehouse", {"conn_uri": "http://vault"})
    airflow = chain(place, cache_ttl_s=0, deadline_s=1)
    assert airflow._get_connection("warehouse").host == "vault"
    place.vault.seal()
    try:
        denied(lambda: airflow._get_connection("warehouse"), "sealed or in maintenance")
    finally:
        place.vault.unseal()


def test_a_vault_that_does_not_answer_is_a_denial(place):
    ours = place.ours(url="https://127.0.0.1:1", deadline_s=0.5)

    denied(lambda: ours.get_connection("warehouse"), "not reachable")
    denied(lambda: ours.get_variable("other"), "not reachable")
    assert {f.why for f in place.facts if f.result == "failed"} == {"service_unavailable"}


def test_a_server_that_nobody_vouches_for_gets_nothing(place):
    ours = place.ours(verify=True)

    denied(lambda: ours.get_connection("warehouse"), "certificate was not issued by")
    assert place.asked(LOGIN) == 0


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"url": None}, "url: not set"),
        ({"url": "http://127.0.0.1:8200"}, "not encrypted"),
        ({"verify": False}, "any server would be trusted"),
        ({"auth_type": "azure"}, "azure"),
        ({"misspelt": 1}, "no such option"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_options_that_are_not_allowed_deny_everything(place, kwargs, text, monkeypatch):
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    ours = place.ours(**kwargs)

    for ask in (ours.get_connection, ours.get_conn_value, ours.get_variable, ours.get_config):
        error = denied(lambda ask=ask: ask("warehouse"), text)
        assert place.secret_id not in str(error)
    assert {f.why for f in place.facts if f.phase == "outcome"} == {"misconfigured"}


@pytest.mark.parametrize(
    "fields",
    [
        {"conn_uri": "", "conn_type": "http"},
        {"conn_uri": 5},
        {"password": CANARY, "unknown_field": CANARY},
        {"conn_type": "http", "port": CANARY},
    ],
    ids=["empty uri", "uri no text", "unknown field", "port no number"],
)
def test_a_connection_that_cannot_be_read_is_denied_without_itself(place, fields):
    place.put("connections/malformed", fields)

    error = denied(lambda: place.ours().get_connection("malformed"))

    assert CANARY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("fields", [{}, {"valeu": CANARY}, {"value": None}], ids=str)
def test_a_variable_without_its_field_is_denied(place, fields):
    place.put("variables/malformed", fields)

    denied(lambda: place.ours().get_variable("malformed"), "no field `value`")


def test_what_cannot_be_recorded_is_not_handed_out(place):
    place.put("variables/x", {"value": CANARY})
    place.audit.broken = True

    denied(lambda: place.ours().get_variable("x"), "broken by a test")

    assert place.asked("airflow/data/variables/x") == 0


def test_a_look_up_inside_a_look_up_ends(place, monkeypatch):
    ours = place.ours()
    found = []

    def ask_again(*_):
        found.append(denied(lambda: ours.get_variable("inner"), "while another look-up"))

    monkeypatch.setattr(type(place.audit), "settle", ask_again)
    place.put("variables/outer", {"value": "x"})

    assert ours.get_variable("outer") == "x"
    assert len(found) == 1
    assert ours.get_variable("outer") == "x"


def test_a_thousand_denials_are_one_login(place):
    # Airflow makes a back end for each thing that it asks for.
    options = {"lookups_per_s": 0, "cache_ttl_s": 0}
    outcomes = []

    def ask(thread):
        for number in range(125):
            try:
                place.ours(**options).get_variable(f"forbidden{thread}-{number}")
                outcomes.append("given")
            except AirflowSecretsBackendAccessDenied:
                outcomes.append("denied")

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == ["denied"] * 1000
    assert place.asked(LOGIN) == 1
    assert sum(f.result == "failed" for f in place.facts) == 1000


def test_a_refused_login_is_tried_once(place):
    ours = place.ours(secret_id="wrong", lookups_per_s=0)

    for number in range(50):
        denied(lambda number=number: ours.get_variable(str(number)), "login not accepted")

    assert place.asked(LOGIN) == 1


def test_one_denied_name_is_asked_for_once(place):
    ours = place.ours()

    for _ in range(20):
        denied(lambda: ours.get_variable("forbidden"), "permission denied")

    assert place.asked("airflow/data/variables/forbidden") == 1


def test_far_too_many_look_ups_are_denied(place):
    ours = place.ours(lookups_per_s=1, cache_ttl_s=0)
    ours.get_variable("first")
    refused = []

    def ask(number):
        try:
            ours.get_variable(str(number))
        except AirflowSecretsBackendAccessDenied as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 5 <= len(refused) <= 7
    assert all("more than 1 secrets in a second" in text for text in refused)


def test_a_forked_child_begins_with_nothing_and_logs_in_for_itself(place):
    place.put("variables/x", {"value": "x"})
    ours = place.ours()
    ours.get_variable("x")
    here, there = multiprocessing.get_context("fork").Pipe()

    def child():
        from airflow_secure_ml.secrets.answering import forget_answers

        try:
            there.send(ours.get_variable("x"))
        finally:
            forget_answers()
            ours._answers.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)

    assert here.poll(0)
    assert here.recv() == "x"
    assert process.exitcode == 0
    assert place.asked("airflow/data/variables/x") == 2
    assert place.asked(LOGIN) == 2
    assert ours.get_variable("x") == "x"


def test_the_constructor_reads_and_connects_nothing(place):
    place.ours()

    assert place.asked(LOGIN) == 0
    assert place.facts == []


def test_no_secret_is_in_what_is_printed_logged_or_recorded(place, caplog):
    place.put("connections/c", {"conn_type": "http", "password": CANARY})
    place.put("variables/v", {"value": CANARY + "-v"})
    ours = place.ours()

    with caplog.at_level(logging.DEBUG):
        ours.get_connection("c")
        ours.get_variable("v")
        denied(lambda: ours.get_variable("forbidden"))

    for text in (repr(ours), repr(vars(ours)), repr(place.facts), caplog.text):
        for secret in (CANARY, place.secret_id):
            assert secret not in text


def test_a_back_end_is_not_pickled(place):
    ours = place.ours()

    for one in (ours, ours._answers):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(one)
