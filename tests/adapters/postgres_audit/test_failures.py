"""Every code that PostgreSQL documents has a home in our tree, and no row leaves with it."""

from __future__ import annotations

import psycopg
import pytest

from airflow_secure_ml.adapters.postgres_audit.failures import as_ours, translated
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

CODES = sorted(psycopg.errors._sqlcodes)


def test_every_code_becomes_an_error_of_ours():
    found = {code: as_ours(psycopg.errors.lookup(code)("text"), "read") for code in CODES}

    assert len(found) > 200
    assert all(isinstance(error, SecureMLError) for error in found.values())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", ServiceUnavailableError),
        ("25006", ServiceUnavailableError),
        ("40001", ServiceUnavailableError),
        ("53100", ServiceUnavailableError),
        ("55P03", ServiceUnavailableError),
        ("57P01", ServiceUnavailableError),
        ("58030", ServiceUnavailableError),
        ("28P01", ServiceRefusedError),
        ("42501", ServiceRefusedError),
        ("3D000", ConfigurationError),
        ("22P02", AuditLogError),
        ("23505", AuditLogError),
        ("42P01", AuditLogError),
        ("XX001", AuditLogError),
    ],
)
def test_a_code_tells_what_may_be_done_about_it(code, kind):
    assert type(as_ours(psycopg.errors.lookup(code)("text"), "read")) is kind


@pytest.mark.parametrize("error", [psycopg.OperationalError, psycopg.InterfaceError])
def test_a_lost_session_is_unavailable(error):
    with pytest.raises(ServiceUnavailableError), translated("read"):
        raise error("the connection is closed")


@pytest.mark.postgres
def test_what_the_server_quotes_stays_there(trail_place):
    with pytest.raises(psycopg.Error) as caught:
        trail_place.query("INSERT INTO asml_trail.leaf(idx, data) VALUES (1, 'canary4711')")

    assert "canary4711" in str(caught.value)
    assert "canary4711" not in str(as_ours(caught.value, "append"))
