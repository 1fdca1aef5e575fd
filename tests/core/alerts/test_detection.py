"""What a rule's detection means, and what is refused by its name."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.alerts.matching import Seen
from airflow_secure_ml.errors import ConfigurationError
from tests.core.alerts.conftest import leaf, rule

BY = {"h": "ab" * 32, "n": 5}


def fits(detection, **fields):
    made = rule(detection)
    seen = Seen(leaf=leaf(**fields), derive=lambda leaf, name: None)
    return any(condition.holds(seen) for condition in made.conditions)


def selected(selection, **fields):
    return fits({"selection": selection, "condition": "selection"}, **fields)


@pytest.mark.parametrize(
    ("line", "is_met"),
    [
        ({"object.uri": "s3://lake/a.csv"}, True),
        ({"object.uri": "S3://LAKE/A.CSV"}, True),
        ({"object.uri|cased": "S3://LAKE/A.CSV"}, False),
        ({"object.uri": "s3://lake/*.csv"}, True),
        ({"object.uri": "s3://*/a.*"}, True),
        ({"object.uri": "s3://lake/?.csv"}, True),
        ({"object.uri": "s3://lake/??.csv"}, False),
        ({"object.uri": "s3://lake"}, False),
        ({"object.uri|startswith": "s3://lake"}, True),
        ({"object.uri|endswith": ".csv"}, True),
        ({"object.uri|endswith": ".cs"}, False),
        ({"object.uri|contains": "lake"}, True),
        ({"object.uri|contains|all": ["lake", "a.csv"]}, True),
        ({"object.uri|contains|all": ["lake", "b.csv"]}, False),
        ({"object.uri": ["x", "s3://lake/a.csv"]}, True),
        ({"object.uri|neq": "x"}, True),
        ({"object.uri": r"s3://lake/\*.csv"}, False),
        ({"object.rows": 7}, True),
        ({"object.rows|gte": 7}, True),
        ({"object.rows|gt": 7}, False),
        ({"object.rows|lt": 8}, True),
        ({"object.rows|lte": 6}, False),
        ({"object.bytes|gte": 0}, False),
        ({"object.version|exists": False}, True),
        ({"object.uri|exists": True}, True),
        ({"object.version": None}, True),
        ({"more.stream": True}, True),
        ({"more.stream": False}, False),
        ({"more.signers": "pipeline/2"}, True),
        ({"more.signers|contains": "nobody"}, False),
        ({"by|contains": "ab"}, False),
        ({"by|exists": True}, True),
    ],
    ids=str,
)
def test_a_line_means_what_sigma_says(line, is_met):
    fields = {"object": {"uri": "s3://lake/a.csv", "rows": 7}, "by": BY}
    fields["more"] = {"stream": True, "signers": [{"name": "pipeline/2"}, "other/1"]}

    assert selected(line, **fields) is is_met


def test_a_list_of_maps_is_an_or_and_a_map_an_and():
    either = [{"act": "key.create"}, {"act": "object.open", "result": "refused"}]

    assert not selected(either)
    assert selected(either, result="refused")
    assert selected(either, act="key.create")


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        ("a and b", False),
        ("a or b", True),
        ("a and not b", True),
        ("not (a or b)", False),
        ("b or a and not c", True),
        ("1 of a*", True),
        ("all of a*", False),
        ("1 of them", True),
        ("all of them", False),
        ("NOT b AND a", True),
        (["b", "a"], True),
    ],
    ids=str,
)
def test_a_condition_binds_as_sigma_says(condition, is_met):
    detection = {
        "a": {"act": "object.open"},
        "b": {"act": "key.create"},
        "c": {"result": "refused"},
        "ab": {"act": "key.rotate"},
        "condition": condition,
    }

    assert fits(detection) is is_met


def test_selections_below_an_underscore_are_not_among_them():
    detection = {
        "_a": {"act": "object.open"},
        "b": {"act": "key.create"},
        "condition": "1 of them",
    }

    assert not fits(detection)


def test_a_text_that_would_make_a_pattern_go_back_and_back_is_matched_at_once():
    text = "a" * 1000

    assert not selected({"object.name": "*a*a*a*a*a*a*a*a*a*a*a*a*b"}, object={"name": text})


@pytest.mark.parametrize(
    ("detection", "said"),
    [
        ({"s": {"object.uri|re": ".*"}, "condition": "s"}, "modifier 're' is not evaluated"),
        ({"s": {"object.uri|base64": "x"}, "condition": "s"}, "modifier 'base64'"),
        ({"s": {"more.waiting|cidr": "10.0.0.0/8"}, "condition": "s"}, "modifier 'cidr'"),
        ({"s": {"object.urn": "x"}, "condition": "s"}, "has a field 'object.urn'"),
        ({"s": {"more.nothing": "x"}, "condition": "s"}, "has a field 'more.nothing'"),
        (
            {"s": {"act": "trail.beat", "more.signer": "x"}, "condition": "s"},
            "no event of trail.beat has a field 'more.signer'",
        ),
        ({"s": {"act": "object.opne"}, "condition": "s"}, "no event has the act 'object.opne'"),
        ({"s": {"why": "tampered"}, "condition": "s"}, "no event has the why 'tampered'"),
        ({"s": {"object.rows|gte": "7"}, "condition": "s"}, "found '7'; expected int"),
        ({"s": {"object.uri": 7}, "condition": "s"}, "found 7; expected text"),
        ({"s": {"object.uri": 7.5}, "condition": "s"}, "7.5 is neither text"),
        ({"s": ["word", "other"], "condition": "s"}, "keywords without a field"),
        ({"s": {"act": "key.create"}, "condition": "s | count() > 5"}, "use a correlation"),
        ({"s": {"act": "key.create"}, "condition": "t"}, "'t' is no selection"),
        ({"s": {"act": "key.create"}, "condition": "s and"}, "ends too early"),
        ({"s": {"act": "key.create"}, "condition": "(s"}, "not closed"),
        ({"s": {"act": "key.create"}, "condition": "s s"}, "where it should end"),
        ({"s": {"act": "key.create"}, "condition": "2 of s*"}, "only `1 of` and `all of`"),
        ({"s": {"act": "key.create"}, "condition": "1 of t*"}, "fits no selection"),
        ({"s": {"act": "key.create"}, "condition": "(" * 300 + "s"}, "301 words"),
        ({"s": {"act": "key.create"}, "condition": ""}, "ends too early"),
        ({"s": {"act": "key.create"}, "condition": 5}, "expected text"),
        ({"s": {}, "condition": "s"}, "found none"),
        ({"condition": "s"}, "expected a selection"),
        ({"s": {"act": "key.create"}}, "expected selections and a condition"),
        (
            {"s": {"act": "key.create"}, "timeframe": "5m", "condition": "s"},
            "timeframe is gone from Sigma",
        ),
        ({"s": {"object.uri|all": "x"}, "condition": "s"}, "more than one value"),
        ({"s": {"object.uri|contains|endswith": "x"}, "condition": "s"}, "one way to compare"),
        ({"s": {"object.uri|exists": "yes"}, "condition": "s"}, "expected true or false"),
        ({"s": {"object.uri": ["x"] * 300}, "condition": "s"}, "300 values"),
    ],
    ids=lambda found: None if isinstance(found, dict) else found,
)
def test_what_is_not_evaluated_is_refused_by_its_name(detection, said):
    with pytest.raises(ConfigurationError) as caught:
        rule(detection)

    assert said in str(caught.value)
    assert "a.yml" in str(caught.value)


def test_only_the_activities_that_can_fit_are_asked():
    both = {
        "a": {"act": ["object.open", "key.create"], "result": "ok"},
        "b": {"more.stream": True},
        "condition": "a and not b",
    }

    assert rule(both).acts == {"object.open", "key.create"}
    assert rule({**both, "condition": "b"}).acts == frozenset()
    assert rule({**both, "condition": "a or b"}).acts == frozenset()
    assert rule({**both, "condition": "not a"}).acts == frozenset()
