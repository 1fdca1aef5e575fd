"""What somebody should hear is said once, in the log and to whoever records."""

from __future__ import annotations

import logging

import pytest

from airflow_secure_ml.hooks import connection_warnings
from airflow_secure_ml.hooks.connection_warnings import ConnectionWarning, on_warning, warn


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(connection_warnings, "_said", set())
    monkeypatch.setattr(connection_warnings, "_untold", [])
    yield
    on_warning(None)


def a_warning(subject="vault_default"):
    return ConnectionWarning(about="something", subject=subject, because="it is so")


def test_a_warning_is_logged_and_told_once_a_connection(caplog):
    told = []
    on_warning(told.append)

    for _ in range(3):
        warn(a_warning())
    warn(a_warning("another"))

    assert [one.subject for one in told] == ["vault_default", "another"]
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.WARNING, "connection vault_default: something: it is so"),
        (logging.WARNING, "connection another: something: it is so"),
    ]


def test_what_was_said_before_anybody_listened_is_told():
    warn(a_warning())
    told = []

    on_warning(told.append)
    on_warning(told.append)

    assert told == [a_warning()]


def test_who_is_told_may_warn_in_turn():
    told = []

    def tell(warning):
        told.append(warning.subject)
        warn(a_warning("in turn"))

    on_warning(tell)
    warn(a_warning())

    assert told == ["vault_default", "in turn"]


def test_a_warning_fits_the_event_that_it_becomes():
    from airflow_secure_ml.core.audit.catalogue import ACTIVITIES

    said = set(ConnectionWarning.__dataclass_fields__)

    assert said
    assert said <= set(ACTIVITIES["alert.raise"].facts["seen"])
