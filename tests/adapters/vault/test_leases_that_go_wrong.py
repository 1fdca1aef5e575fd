"""Credentials whose answer is lost, is none, or hides something: a real Vault, and a responder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.leases import VaultCredentials
from airflow_secure_ml.adapters.vault.logins import TokenLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ServiceRefusedError, ServiceUnavailableError
from tests.adapters.vault.responder import Responder, Said
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Cut, Hang

POLICY = """
path "database/creds/*" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"""
LEASE_ID = "database/creds/r/abc"
LOGIN = {"username": "u-1", "password": "p-12345"}


@pytest.fixture
def token(vault):
    made = vault_setup.token(vault, vault_setup.policy(vault, "leases-wrong", POLICY), ttl="60s")
    yield made
    vault_setup.revoke(vault, made)


@pytest.fixture
def source_at(token):
    def make(url, **more):
        server = VaultServer(url=url, deadline_s=5, **more)
        return VaultCredentials(VaultClient(server, TokenLogin(token=Secret(token))))

    return make


@pytest.fixture
def proxied(source_at, vault_proxy, vault):
    return source_at(vault_proxy.url, ca=str(vault.ca))


@pytest.fixture
def answered(source_at):
    """A source whose server gives one answer to all; its requests after it."""
    made = []

    def answer(body):
        responder = Responder(lambda asked: _said(asked, body))
        made.append(responder.__enter__())
        return source_at(responder.url, allow_http=True), responder

    yield answer
    for responder in made:
        responder.__exit__()


def _said(asked, body):
    if asked.path.startswith("/v1/sys/leases/revoke"):
        return Said(status=204, body=(), length=0)
    data = json.dumps(body).encode()
    return Said(body=(data,), length=len(data))


def test_a_lease_whose_first_answer_was_lost_is_known_to_be_there_twice(
    proxied, vault_proxy, vault_database
):
    path = vault_database.make_role("lost", "60s", "120s")
    vault_proxy.will(Cut(path=path))

    granted = proxied.grant(path, {})

    assert granted.may_be_twice
    proxied.revoke(granted.lease_id)


def test_a_lease_that_was_asked_for_once_is_there_once(proxied, vault_proxy, vault_database):
    path = vault_database.make_role("lost", "60s", "120s")
    vault_proxy.will(Answer(path=path, status=503))

    granted = proxied.grant(path, {})

    assert vault_proxy.count(path) == 2
    assert not granted.may_be_twice
    proxied.revoke(granted.lease_id)


def test_a_no_after_a_lost_answer_is_no_no(proxied, vault_proxy, vault_database):
    path = vault_database.make_role("lost", "60s", "120s")
    vault_proxy.will(Cut(path=path), Answer(path=path, status=403))

    with pytest.raises(ServiceUnavailableError, match="after an answer that was lost"):
        proxied.grant(path, {})


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        "text",
        {"password": "half \ud800"},
        {"half \udc00": "text"},
        {"password": "x" * 70_000},
        {f"field-{i}": "x" for i in range(65)},
    ],
    ids=["none", "list", "empty", "text", "no text", "no name", "too long", "too many"],
)
def test_what_is_leased_and_no_credential_is_given_back(answered, data):
    source, responder = answered({"lease_id": LEASE_ID, "lease_duration": 60, "data": data})

    with pytest.raises(ServiceRefusedError, match="gave"):
        source.grant("database/creds/r", {})

    assert json.loads(responder.asked[-1].body) == {"lease_id": LEASE_ID, "sync": True}


def test_a_wrapped_answer_is_refused_with_the_reason(answered):
    source, _ = answered({"data": None, "wrap_info": {"token": "hvs.wrapping", "ttl": 60}})

    with pytest.raises(ServiceRefusedError, match="wrapped answer") as caught:
        source.grant("database/creds/r", {})

    assert "hvs." not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "lease_id", "ttl_s", "renewable"),
    [
        ({"lease_id": 7}, None, None, False),
        ({"lease_id": LEASE_ID, "lease_duration": "60", "renewable": "yes"}, LEASE_ID, None, False),
        ({"lease_id": LEASE_ID, "lease_duration": -1, "renewable": 1}, LEASE_ID, None, False),
        ({"lease_id": LEASE_ID, "lease_duration": 10**12, "renewable": True},
         LEASE_ID, 2**31 - 1, True),
        ({"lease_id": "", "renewable": True, "lease_duration": 60}, None, None, False),
        ({"warnings": ["careful"], "auth": {"client_token": "hvs.x"}}, None, None, False),
    ],
    ids=["a number", "texts", "negative", "very long", "none", "warned"],
)  # fmt: skip
def test_an_answer_of_other_types_is_taken_for_what_it_is(
    answered, answer, lease_id, ttl_s, renewable
):
    source, _ = answered({"data": LOGIN, **answer})

    granted = source.grant("database/creds/r", {})

    found = None if granted.lease_id is None else granted.lease_id.reveal()
    assert (found, granted.ttl_s, granted.renewable) == (lease_id, ttl_s, renewable)
    assert set(granted.fields) == {"username", "password"}


def test_the_certificate_of_a_year_far_away_is_taken(answered):
    source, _ = answered({"data": {**LOGIN, "expiration": "9" * 300}})

    assert source.grant("pki/issue/x", {}).ttl_s == 2**31 - 1


def test_fields_of_any_type_are_texts(answered):
    source, _ = answered(
        {"data": {"n": 5, "b": False, "o": {"a": [1]}, "l": ["x", "y"], "z": None}}
    )

    granted = source.grant("kv/x", {})

    found = {name: field.reveal() for name, field in granted.fields.items()}
    assert found == {"n": "5", "b": "false", "o": '{"a": [1]}', "l": "x\ny"}


def test_revoking_without_a_guardian_takes_a_few_seconds_at_most(
    proxied, vault_proxy, vault_database
):
    granted = proxied.grant(vault_database.make_role("lost", "60s", "120s"), {})
    vault_proxy.will(Hang(path="sys/leases/revoke", seconds=20))

    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="TimeoutError"):
        proxied.revoke(granted.lease_id)

    assert time.monotonic() - began < 5


def test_a_certificate_named_from_here_is_found_by_the_guardian_elsewhere(
    source_at, vault, monkeypatch
):
    monkeypatch.chdir(vault.ca.parent)

    line = source_at(vault.url, ca=vault.ca.name).line()

    assert Path(line.server["ca"]) == vault.ca
    assert os.path.isabs(line.server["ca"])
