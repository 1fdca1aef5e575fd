"""At Airflow's surface a refusal is never retried, and an unavailable system is."""

from __future__ import annotations

import pickle

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ValidationFailedError,
)
from airflow_secure_ml.securing.surface import surfaced

FINAL = [CiphertextError, ConfigurationError, PolicyError, ServiceRefusedError]


@pytest.mark.parametrize("cls", FINAL, ids=lambda cls: cls.__name__)
def test_a_refusal_is_not_retried_and_stays_what_it_was(cls):
    shown = surfaced(cls("what was found", why="rule_denied"))

    assert isinstance(shown, AirflowFailException)
    assert isinstance(shown, cls)
    assert type(shown).__name__ == cls.__name__
    assert (str(shown), shown.why) == ("what was found", "rule_denied")


def test_an_unavailable_system_may_be_retried():
    error = ServiceUnavailableError(service="audit spool", action="write", reason="disk full")

    assert surfaced(error) is error
    assert not isinstance(error, AirflowFailException)


def test_a_surfaced_error_is_surfaced_once():
    shown = surfaced(PolicyError("no"))

    assert surfaced(shown) is shown


def test_a_surfaced_error_survives_pickling():
    shown = surfaced(ValidationFailedError("no", failed=["a"]))

    again = pickle.loads(pickle.dumps(shown))

    assert isinstance(again, AirflowFailException)
    assert isinstance(again, ValidationFailedError)
    assert (str(again), again.failed) == ("no", ("a",))
