"""An alert through a notifier of Airflow: rendered, delivered, its failures seen."""

from __future__ import annotations

import sys

import pytest
from airflow.sdk import BaseNotifier

from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.hooks.alert_notifier import AirflowNotifier
from airflow_secure_ml.services.notifying import NewAlert

ALERT = NewAlert(
    name="ab:1", level="high", rule="data_changed", title="Data differ",
    subject="{{ 7 * 7 }} {% raw %}", dag="churn", count=3, time_ms=1_795_316_400_000,
)  # fmt: skip


class Said(BaseNotifier):
    template_fields = ("text",)
    told: list = []  # noqa: RUF012 - of a test

    def __init__(self, text="{{ alert.level }} {{ alert.title }} {{ alert.subject }}"):
        super().__init__()
        self.text = text

    def notify(self, context):
        self.told.append((self.text, context["alert"]))


class Failing(Said):
    def notify(self, context):
        raise RuntimeError("the token is hunter2")


MADE = Said("{{ alert.time }} {{ alert.url }}")
NONE = 5


def make():
    return Said("made for {{ alert.dag }}")


def breaks():
    raise RuntimeError("the token is hunter2")


@pytest.fixture
def path(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_alerts", sys.modules[__name__])
    Said.told.clear()
    return lambda name: AirflowNotifier(f"my_alerts.{name}")


def test_a_class_is_told_and_what_a_task_wrote_is_no_template(path):
    path("Said").tell(ALERT)

    ((text, alert),) = Said.told
    assert text == "high Data differ {{ 7 * 7 }} {% raw %}"
    assert alert["rule"] == "data_changed"


def test_an_instance_is_rendered_anew_for_each_alert(path):
    notifier = path("MADE")

    notifier.tell(ALERT)
    notifier.tell(ALERT)

    assert [text for text, _ in Said.told] == [Said.told[0][0]] * 2
    assert Said.told[0][0].startswith("2026-11-22T03:00:00+00:00 ")
    assert Said.told[0][0].endswith("/secure-ml/alerts?alert=ab%3A1")
    assert MADE.text == "{{ alert.time }} {{ alert.url }}"


def test_a_function_makes_one(path):
    path("make").tell(ALERT)

    assert Said.told[0][0] == "made for churn"


def test_what_goes_wrong_in_it_is_seen_and_not_repeated(path):
    with pytest.raises(ServiceUnavailableError) as caught:
        path("Failing").tell(ALERT)

    assert "RuntimeError" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "NONE", "breaks", "sys"])
def test_what_is_no_notifier_is_said(path, name):
    with pytest.raises(ConfigurationError, match=rf"alert_notifier: my_alerts\.{name}") as caught:
        path(name)

    assert "hunter2" not in str(caught.value)


def test_a_module_that_is_not_there_is_said():
    with pytest.raises(ConfigurationError, match="ModuleNotFoundError"):
        AirflowNotifier("no_such_module_here.notifier")
