"""Who may use a secret: the DAGs and tasks that it names, and nobody where that cannot be read."""

from __future__ import annotations

import pickle

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.stored_secret import (
    StoredSecret,
    parse_restriction,
    parse_secret_rules,
    rules_for,
)
from airflow_secure_ml.errors import ConfigurationError


def run(dag="churn", task="train"):
    return RunRef(dag=dag, run="r1", task=task, try_number=1, ti="t")


@pytest.mark.parametrize(
    ("found", "dag", "task", "allowed"),
    [
        ({"dags": "churn"}, "churn", "train", True),
        ({"dags": "churn"}, "churn2", "train", False),
        ({"dags": "churn"}, "Churn", "train", False),
        ({"dags": "a, churn_*"}, "churn_eu", "train", True),
        ({"dags": "*"}, "any", "any", True),
        ({"dags": ""}, "churn", "train", False),
        ({"tasks": "churn/train"}, "churn", "train", True),
        ({"tasks": "churn/train"}, "churn", "evaluate", False),
        ({"tasks": "*/train"}, "other", "train", True),
        ({"tasks": "churn/group.*"}, "churn", "group.train", True),
        ({"tasks": "churn/*"}, "churn.group", "train", False),
        ({"dags": "a", "tasks": "churn/train"}, "churn", "train", True),
        ({"dags": "a", "tasks": ""}, "churn", "train", False),
    ],
)
def test_a_restriction_allows_what_it_names(found, dag, task, allowed):
    assert parse_restriction(found).allows(run(dag, task)) is allowed


def test_a_dot_in_an_id_makes_no_other_task_of_it():
    restriction = parse_restriction({"tasks": "a/b.c"})

    assert restriction.allows(run("a", "b.c"))
    assert not restriction.allows(run("a.b", "c"))


def test_whoever_is_no_task_may_not():
    everyone = parse_restriction({"dags": "*", "tasks": "*/*"})

    assert not everyone.allows(None)
    assert not everyone.allows(RunRef(dag="churn", run="r1"))


def test_a_secret_that_names_nobody_is_everybodys():
    assert StoredSecret(stored={"value": "x"}, metadata={"owner": "ml"}).restrictions() == []


def test_restrictions_beside_a_secret_and_in_it_both_count():
    secret = StoredSecret(
        stored={"value": "x", "secure_ml_tasks": "churn/train"}, metadata={"dags": "churn"}
    )

    found = secret.restrictions()

    assert [one.allows(run(task="train")) for one in found] == [True, True]
    assert [one.allows(run(task="other")) for one in found] == [True, False]
    assert secret.fields == {"value": "x"}


@pytest.mark.parametrize(
    "found",
    [
        {"dags": 3},
        {"dags": ["churn"]},
        {"dags": None},
        {"tasks": "train"},
        {"tasks": "a/b/c"},
        {"tasks": "/train"},
        {"tasks": "churn/"},
        {"tasks": {"a": "b"}},
    ],
    ids=repr,
)
def test_what_cannot_be_read_allows_nobody(found):
    with pytest.raises(ConfigurationError):
        StoredSecret(stored={}, metadata=found).restrictions()


@pytest.mark.parametrize("name", ["secure_ml_dag", "secure_ml_task", "secure_ml_"])
def test_a_restriction_that_is_misspelt_allows_nobody(name):
    with pytest.raises(ConfigurationError, match="expected secure_ml_dags or secure_ml_tasks"):
        StoredSecret(stored={"value": "x", name: "churn"}).restrictions()


def test_rules_restrict_by_kind_and_name():
    rules = parse_secret_rules(
        {"connections/prod_*": {"dags": "churn"}, "connections/*_db": {"tasks": "churn/train"}}
    )

    found = rules_for(rules, {"connections/prod_db"})

    assert len(found) == 2
    assert all(one.allows(run()) for one in found)
    assert rules_for(rules, {"variables/prod_db"}) == []
    assert rules_for(rules, {"connections/dev"}) == []
    assert len(rules_for(rules, {"variables/connections/prod_db", "connections/prod_db"})) == 2


@pytest.mark.parametrize(
    "found",
    [
        [],
        "connections/*",
        {"prod_*": {"dags": "a"}},
        {"secrets/x": {"dags": "a"}},
        {"connections/x": {}},
        {"connections/x": "a"},
        {"connections/x": {"dags": "a", "dag": "b"}},
        {"connections/x": {"tasks": "train"}},
    ],
    ids=repr,
)
def test_rules_that_cannot_be_read_are_an_error(found):
    with pytest.raises(ConfigurationError):
        parse_secret_rules(found)


def test_a_secret_is_neither_printed_nor_pickled():
    secret = StoredSecret(stored={"value": "canary"}, metadata={"note": "canary"})

    assert "canary" not in repr(secret)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
