from __future__ import annotations

import datetime as dt

import pytest

from airflow_secure_ml.core.policy import Rule, Rules

TODAY = dt.date(2026, 11, 22)
DIGEST = "sha256:" + "d" * 64
HEALTH = Rule(
    prefix="s3://lake/health",
    key="health",
    readers=("secure_training", "score_*"),
    signers=("pipeline", "release"),
    plain="refuse",
)
MODELS = Rule(prefix="file:///models", key="models")
REPLICA = Rule(prefix="s3://lake-dr", same_as="s3://lake")
MOVING = Rule(prefix="s3://moving", plain="refuse", plain_until=dt.date(2027, 1, 31))
OPEN = Rule(prefix="s3://open", plain="allow")


def rules(default: str = "observe") -> Rules:
    data = (HEALTH, MODELS, REPLICA, MOVING, OPEN)
    return Rules(version="1", digest=DIGEST, default=default, data=data)


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("s3://lake/health", HEALTH),
        ("s3://lake/health/", HEALTH),
        ("s3://lake/health/a/b.csv", HEALTH),
        ("s3://lake/healthy", None),
        ("s3://lake/healthy/a", None),
        ("s3://lake/health.csv", None),
        ("s3://lake/Health/a", None),
        ("s3://lake", None),
        ("s3://lake-dr/health/a", REPLICA),
        ("file:///models", MODELS),
        ("file:///models/m1", MODELS),
        ("file:///models.sig/x", None),
    ],
)
def test_a_prefix_covers_itself_and_what_lies_below(uri, rule):
    assert rules().rule_for(uri) is rule


def test_the_first_rule_that_covers_decides():
    inner = Rule(prefix="s3://lake/health/public", key="public")
    both = Rules(version="1", digest=DIGEST, data=(inner, HEALTH))

    assert both.rule_for("s3://lake/health/public/a") is inner
    assert both.rule_for("s3://lake/health/a") is HEALTH


@pytest.mark.parametrize(
    ("uri", "dag_id", "sealed", "key", "why"),
    [
        ("s3://lake/health/a", "secure_training", True, "health", None),
        ("s3://lake/health/a", "score_daily", True, None, None),
        ("s3://lake/health/a", "score", True, "health", "rule_denied"),
        ("s3://lake/health/a", "my_score_daily", True, "health", "rule_denied"),
        ("s3://lake/health/a", "Secure_training", True, "health", "rule_denied"),
        ("s3://lake/health/a", None, True, "health", "rule_denied"),
        ("s3://lake/health/a", "score_x", True, "data", "key_not_allowed"),
        ("s3://lake/health/a", "score_x", False, None, "not_sealed"),
        ("s3://lake/health/a", "other", False, None, "rule_denied"),
        ("file:///models/m", "any", True, "models", None),
        ("file:///models/m", None, False, None, None),
        ("s3://open/a", "any", False, None, None),
        ("s3://elsewhere/a", None, False, None, None),
    ],
)
def test_who_may_read_what(uri, dag_id, sealed, key, why):
    decision = rules().decide_read(uri, dag_id=dag_id, sealed=sealed, key=key, today=TODAY)

    assert decision.why == why
    assert decision.allow is (why is None)
    assert bool(decision.reasons) is (why is not None)


@pytest.mark.parametrize(
    ("uri", "key", "why"),
    [
        ("s3://lake/health/a", "health", None),
        ("s3://lake/health/a", "data", "key_not_allowed"),
        ("s3://lake/health/a", None, "not_sealed"),
        ("file:///models/m", None, None),
        ("s3://lake-dr/a", "data", None),
        ("s3://elsewhere/a", "data", None),
    ],
)
def test_what_may_be_written_under_which_key(uri, key, why):
    decision = rules().decide_write(uri, key=key, today=TODAY)

    assert (decision.why, decision.allow) == (why, why is None)


@pytest.mark.parametrize(
    ("day", "allow"), [(30, True), (31, False)], ids=["the day before", "the day"]
)
def test_plain_objects_are_refused_from_their_day_on(day, allow):
    today = dt.date(2027, 1, day)

    decision = rules().decide_read("s3://moving/a", dag_id="x", sealed=False, key=None, today=today)

    assert decision.allow is allow
    assert bool(decision.warnings) is allow


def test_a_sealed_object_is_not_warned_about():
    sealed = rules().decide_read("s3://moving/a", dag_id="x", sealed=True, key="k", today=TODAY)

    assert sealed.warnings == ()


@pytest.mark.parametrize(
    ("default", "allow", "warns"),
    [("observe", True, False), ("warn", True, True), ("refuse", False, False)],
)
def test_data_that_no_rule_covers_gets_the_default(default, allow, warns):
    asked = rules(default)
    for decision in (
        asked.decide_read("s3://new/a", dag_id="x", sealed=True, key="k", today=TODAY),
        asked.decide_write("s3://new/a", key="k", today=TODAY),
    ):
        assert (decision.rule, decision.allow) == ("default", allow)
        assert bool(decision.warnings) is warns
        assert decision.why == (None if allow else "rule_denied")


def test_a_decision_names_rule_and_file():
    decision = rules().decide_read(
        "s3://lake/health/a", dag_id="other", sealed=True, key="data", today=TODAY
    )

    assert decision.as_record() == {
        "id": "data:s3://lake/health",
        "digest": DIGEST,
        "decision": "deny",
    }
    assert decision.reasons == (
        "s3://lake/health/a: DAG other is not among its readers, secure_training, score_*"
        " (rule data:s3://lake/health)",
        "s3://lake/health/a: key data, only health is allowed here (rule data:s3://lake/health)",
    )


@pytest.mark.parametrize(
    ("uri", "key", "signers", "same_as"),
    [
        ("s3://lake/health/a", "health", ("pipeline", "release"), None),
        ("s3://lake-dr/health/a", None, None, "s3://lake/health/a"),
        ("s3://lake-dr", None, None, "s3://lake"),
        ("s3://elsewhere", None, None, None),
    ],
)
def test_what_a_rule_says_besides(uri, key, signers, same_as):
    asked = rules()

    assert asked.key_for_write(uri) == key
    assert asked.signers_for_read(uri) == signers
    assert asked.same_as(uri) == same_as
