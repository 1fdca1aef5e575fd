"""What may be done about an answer, by its status and by the words that Vault says."""

from __future__ import annotations

import ssl

import hvac
import pytest
import requests

from airflow_secure_ml.adapters.vault.failures import Failure, Kind, failure_of
from airflow_secure_ml.errors import (
    ConfigurationError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

BUSY, LOST, REFUSED, UNTRUSTED = Kind.BUSY, Kind.LOST, Kind.REFUSED, Kind.UNTRUSTED
INVALID = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"


def answered(status, *texts, **more):
    error = hvac.exceptions.VaultError.from_status(status, "", errors=list(texts))
    error.status, error.wait_s, error.leads_back = status, None, False
    error.__dict__.update(more)
    return error


@pytest.mark.parametrize(
    ("status", "text", "kind", "reason"),
    [
        (301, "", REFUSED, "it points to another address"),
        (307, "", BUSY, "status 307: not the active node"),
        (400, "something", REFUSED, "request not accepted"),
        (
            400,
            "wrapping token is not valid or does not exist",
            REFUSED,
            "wrapping token used or expired",
        ),
        (400, "cipher: message authentication failed", REFUSED, "message authentication failed"),
        (400, "invalid ciphertext: no prefix", REFUSED, "message authentication failed"),
        (
            400,
            "ciphertext or signature version is disallowed by policy (too old)",
            REFUSED,
            "key version no longer allowed",
        ),
        (400, "encryption key not found", REFUSED, "no such key"),
        (401, "", REFUSED, "permission denied"),
        (403, "permission denied", REFUSED, "permission denied"),
        (403, INVALID, REFUSED, "token not valid"),
        (403, "permission denied: bad token", REFUSED, "token not valid"),
        (404, "", REFUSED, "nothing at that path"),
        (405, "unsupported operation", REFUSED, "request not accepted"),
        (412, "", BUSY, "status 412: a replica that is behind"),
        (413, "", REFUSED, "request not accepted"),
        (429, "", BUSY, "status 429: too many requests"),
        (473, "", BUSY, "status 473: a standby"),
        (500, "pq: could not connect", LOST, "status 500: it failed inside"),
        (500, "cipher: message authentication failed", REFUSED, "message authentication failed"),
        (500, "local node not active but active cluster node not found", BUSY, None),
        (501, "", BUSY, "status 501: not initialized"),
        (502, "", LOST, "status 502: whether it was done is not known"),
        (503, "Vault is sealed", BUSY, "status 503: sealed or in maintenance"),
        (504, "", LOST, None),
        (599, "", LOST, None),
    ],
)
def test_an_answer_is_told_by_its_status_and_words(status, text, kind, reason):
    found = failure_of(answered(status, text))

    assert found.kind is kind
    assert reason in (None, found.reason)


def test_the_wait_that_was_asked_for_is_kept():
    assert failure_of(answered(429, wait_s=7.0)).wait_s == 7.0


def test_a_path_that_leads_back_is_no_standby():
    found = failure_of(answered(307, leads_back=True))

    assert (found.kind, found.reason) == (REFUSED, "path not in its plain form")


@pytest.mark.parametrize(
    ("inner", "kind", "reason"),
    [
        (ssl.SSLCertVerificationError(1, "x"), UNTRUSTED, "certificate not trusted"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), LOST, "connection cut"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), LOST, "connection cut"),
        (ssl.SSLZeroReturnError(6, "closed"), LOST, "connection cut"),
    ],
    ids=["certificate", "no reason", "end", "closed"],
)
def test_a_connection_cut_in_tls_is_no_distrust(inner, kind, reason):
    found = failure_of(requests.exceptions.SSLError(inner))

    assert (found.kind, found.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("kind", "reason", "action", "error"),
    [
        (UNTRUSTED, "certificate not trusted", "read x", ConfigurationError),
        (UNTRUSTED, "no TLS at that address", "read x", ConfigurationError),
        (UNTRUSTED, "our certificate not accepted", "read x", ConfigurationError),
        (BUSY, "status 503", "read x", ServiceUnavailableError),
        (LOST, "connection cut", "read x", ServiceUnavailableError),
        (REFUSED, "permission denied", "read x", ServiceRefusedError),
    ],
)
def test_each_kind_becomes_an_error_that_says_what_to_do(kind, reason, action, error):
    made = Failure(kind=kind, reason=reason).as_error(action, "https://v.test")

    assert type(made) is error
    assert len(str(made)) > 40


def test_a_login_that_is_denied_is_a_login_that_is_refused():
    denied = Failure(kind=REFUSED, reason="permission denied")

    assert denied.as_error("log in by JWT at jwt", "x").reason == "login not accepted"
    assert denied.as_error("read x", "x").reason == "permission denied"
