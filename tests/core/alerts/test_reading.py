"""Rules and correlations from documents: what belongs together, and what is refused."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.alerts.reading import Document, parse_rules
from airflow_secure_ml.errors import ConfigurationError

SOURCE = {"product": "airflow_secure_ml", "service": "trail"}
BASE = {
    "title": "Refused",
    "name": "refused",
    "id": "5638f7c0-ac70-491d-8465-2a65075e0d86",
    "logsource": SOURCE,
    "detection": {"s": {"result": "refused"}, "condition": "s"},
}
COUNT = {
    "title": "Often refused",
    "name": "often_refused",
    "level": "high",
    "correlation": {
        "type": "event_count",
        "rules": ["refused"],
        "group-by": ["run.dag"],
        "timespan": "10m",
        "condition": {"gte": 5},
    },
}


def read(*bodies):
    return parse_rules(Document(source=f"{at}.yml", body=body) for at, body in enumerate(bodies))


def counted(**parts):
    return {**COUNT, "correlation": {**COUNT["correlation"], **parts}}


def test_a_counted_rule_is_no_alert_by_itself():
    (found,) = read(BASE, COUNT)

    assert (found.name, found.level, found.title) == ("often_refused", "high", "Often refused")
    assert (found.kind, found.at_least, found.timespan_ms) == ("event_count", 5, 600_000)
    assert (found.group_by, found.field) == (("run.dag",), "")


def test_a_rule_that_generates_is_one_as_well():
    names = [rule.name for rule in read(BASE, counted(generate=True))]

    assert names == ["often_refused", "refused"]


def test_a_rule_may_be_named_by_its_id():
    (found,) = read(BASE, counted(rules=[BASE["id"]]))

    assert found.name == "often_refused"


def test_a_rule_that_none_counts_is_met_by_one_event():
    (found,) = read(BASE)

    assert (found.at_least, found.group_by, found.level) == (1, (), "medium")


def test_more_than_is_one_more():
    (found,) = read(BASE, counted(condition={"gt": 5}))

    assert found.at_least == 6


def test_the_digest_is_that_of_every_document_of_the_rule():
    (one,) = read(BASE, COUNT)
    (other,) = read({**BASE, "detection": {"s": {"result": "failed"}, "condition": "s"}}, COUNT)

    assert one.digest.startswith("sha256:")
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (counted(type="temporal"), "correlation.type 'temporal'"),
        (counted(type="value_percentile"), "correlation.type 'value_percentile'"),
        (counted(aliases={"a": {}}), "correlation.aliases is not evaluated"),
        (counted(rules=["nobody"]), "'nobody' is no detection rule here"),
        (counted(rules=["often_refused"]), "'often_refused' is no detection rule here"),
        (counted(rules=[]), "correlation.rules"),
        (counted(timespan="10 minutes"), "correlation.timespan"),
        (counted(timespan="99d"), "correlation.timespan"),
        (counted(condition={"lte": 5}), "correlation.condition.lte"),
        (counted(condition={"eq": 5}), "correlation.condition.eq"),
        (counted(condition={"gte": 0}), "expected 1 to 200"),
        (counted(condition={"gte": 100_000}), "expected 1 to 200"),
        (counted(condition={"gte": True}), "one whole number"),
        (counted(condition={"gte": 5, "gt": 6}), "one whole number"),
        (counted(condition={"gte": 5, "field": "by"}), "exactly value_count"),
        (counted(type="value_count"), "exactly value_count"),
        (counted(**{"group-by": ["run.dga"]}), "'run.dga'"),
        ({**COUNT, "detection": BASE["detection"]}, "either a detection or a correlation"),
        ({**COUNT, "name": "refused"}, "also the name of"),
        ({**COUNT, "name": "Not A Name"}, "name: expected"),
        ({**COUNT, "title": ""}, "title"),
        ({**COUNT, "level": "severe"}, "level"),
        ({**COUNT, "status": "deprecated"}, "its status is deprecated"),
        ({**COUNT, "action": "global"}, "'action' is not evaluated"),
        ({**COUNT, "filter": {}}, "'filter' is not evaluated"),
    ],
    ids=lambda found: None if isinstance(found, dict) else found,
)
def test_what_is_not_evaluated_is_refused_by_its_name(body, said):
    with pytest.raises(ConfigurationError) as caught:
        read(BASE, body)

    assert said in str(caught.value)
    assert "1.yml" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [None, {}, {"product": "windows"}, {**SOURCE, "service": "x"}, {**SOURCE, "category": "x"}],
    ids=str,
)
def test_a_rule_for_another_log_is_refused(source):
    with pytest.raises(ConfigurationError, match="logsource"):
        read({**BASE, "logsource": source})
