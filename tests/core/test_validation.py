"""Verdicts as values, and suites: what could run code, or can never fail, is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.row_condition import Comparison, Junction, Nullity
from airflow_secure_ml.core.suite import MAX_SUITE_BYTES, parse_suite, parse_suite_text
from airflow_secure_ml.core.validation import (
    ExpectationResult,
    RowSet,
    SuiteSource,
    ValidationReport,
    already_passed,
    is_parquet,
)
from airflow_secure_ml.errors import ConfigurationError, FormatError

DIGEST = "sha256:" + "ab" * 32


def one(kind="expect_column_values_to_be_between", *, drop=(), **kwargs):
    """A suite with one expectation; keyword arguments become its kwargs."""
    arguments = {"column": "age", "min_value": 0} | kwargs
    arguments = {key: value for key, value in arguments.items() if key not in drop}
    return {"name": "people", "expectations": [{"type": kind, "kwargs": arguments}]}


def with_condition(condition):
    return one(row_condition=condition)


SHELL = "@pd.io.common.os.system('touch /tmp/pwned') == 0"
COLUMN_SHELL = f"age` == 0 or {SHELL} or `age"


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (with_condition(SHELL), "a text condition could run code"),
        (with_condition("age > 0"), "a text condition could run code"),
        (
            with_condition({"type": "pass_through", "pass_through_filter": SHELL}),
            "a text condition could run code",
        ),
        (
            with_condition({"type": "and", "conditions": [SHELL]}),
            "a text condition could run code",
        ),
        (
            with_condition(
                {
                    "type": "comparison",
                    "column": {"name": COLUMN_SHELL},
                    "operator": "==",
                    "parameter": 0,
                }
            ),
            "without a back-quote",
        ),
        (
            with_condition(
                {
                    "type": "comparison",
                    "column": {"name": "age"},
                    "operator": f"== 0 or {SHELL} or 0 ==",
                    "parameter": 0,
                }
            ),
            "operator: expected one of",
        ),
        (
            with_condition(
                {
                    "type": "comparison",
                    "column": {"name": "age"},
                    "operator": "==",
                    "parameter": {"$PARAMETER": "x"},
                }
            ),
            r"\$PARAMETER",
        ),
        (one(column=COLUMN_SHELL), "without a back-quote"),
        (
            one("unexpected_rows_expectation", unexpected_rows_query="SELECT 1"),
            "is not one that may be run",
        ),
        (
            one("expect_query_results_to_match_comparison", base_query="SELECT 1"),
            "is not one that may be run",
        ),
        (one("expect_table_row_count_to_equal_other_table"), "is not one that may be run"),
        (
            one(
                "expect_column_values_to_match_json_schema",
                json_schema={"$ref": "http://127.0.0.1/x"},
            ),
            "is not one that may be run",
        ),
        (one("os.system"), "is not one that may be run"),
        (one(min_value={"$PARAMETER": "urn:x"}), r"\$PARAMETER"),
        (one() | {"suite_parameters": {"a": 1}}, "suite parameters"),
        (one(result_format="COMPLETE"), "not the suite's to say"),
        (one(catch_exceptions=False), "not the suite's to say"),
        (
            one("expect_column_values_to_be_of_type", type_="__import__('os')", drop=["min_value"]),
            "expected a type's name",
        ),
    ],
    ids=[
        "text-condition-with-a-shell-command",
        "text-condition",
        "pass-through",
        "text-inside-and",
        "back-quote-in-a-condition",
        "operator",
        "parameter-in-a-condition",
        "back-quote-in-a-column",
        "sql-rows",
        "sql-query",
        "other-table",
        "json-schema",
        "any-class",
        "parameter",
        "suite-parameters",
        "result-format",
        "catch-exceptions",
        "type-name",
    ],
)
def test_a_suite_that_could_run_code_is_refused(suite, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_suite(suite, "suite people.json")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ({"name": "people", "expectations": []}, "expected a list of 1 to"),
        (one(drop=["min_value"]), "expected min_value or max_value"),
        (one(min_value=None), "expected min_value or max_value"),
        (one(mostly=0), "mostly"),
        (one("expect_column_values_to_not_be_in_set", value_set=[]), "value_set"),
        (one("expect_column_values_to_be_in_set"), "value_set"),
        (one("expect_table_columns_to_match_set", column_set=None), "column_set"),
        (
            one(
                "expect_column_quantile_values_to_be_between",
                quantile_ranges={"quantiles": [0.5], "value_ranges": [[None, None]]},
            ),
            "at least one end",
        ),
    ],
    ids=[
        "empty", "no-ends", "null-ends", "mostly-0", "empty-set", "no-set", "no-columns", "quantile"
    ],
)  # fmt: skip
def test_a_suite_that_can_never_fail_is_refused(suite, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_suite(suite, "suite people.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "found Expecting value in line 1"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "expected a suite in JSON"),
        (b'{"name": "a", "name": "b"}', "one key twice"),
        (b'{"name": "a", "expectations": [NaN]}', "NaN or Infinity"),
        (b"[]", "expected an object"),
        (b'{"name": "", "expectations": []}', "name: expected"),
        (b'{"nome": "a"}', "unknown field 'nome'"),
        (b'{"name": "a", "expectations": [1]}', "expectation 1: expected an object"),
        (b'{"name": "a", "expectations": [{"expectation_type": "x"}]}', "before Great"),
        (b'{"name": "a", "expectations": [{"type": "x", "kwargs": {}, "z": 1}]}', "field 'z'"),
        (b" " * (MAX_SUITE_BYTES + 1), "too long"),
    ],
    ids=[
        "empty", "not-utf-8", "deep", "key-twice", "nan", "a-list", "no-name", "unknown-field",
        "not-an-object", "old-form", "unknown-field-below", "too-long",
    ],
)  # fmt: skip
def test_an_unreadable_suite_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_suite_text(text, "suite people.json")


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "expectations", "type", "kwargs"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_suite_or_a_configuration_error(text):
    try:
        suite = parse_suite_text(text, "suite any")
    except ConfigurationError:
        return
    assert suite.expectations


@pytest.mark.parametrize(
    ("given_severity", "meant"),
    [
        ({}, "block"),
        ({"severity": "critical"}, "block"),
        ({"severity": "warning"}, "warn"),
        ({"severity": "info"}, "warn"),
        ({"meta": {"severity": "warn"}}, "warn"),
        ({"meta": {"severity": "block"}}, "block"),
        ({"severity": "warning", "meta": {"severity": "warn"}}, "warn"),
    ],
    ids=["none", "critical", "warning", "info", "meta-warn", "meta-block", "both"],
)
def test_severity_blocks_unless_it_says_warn(given_severity, meant):
    suite = one()
    suite["expectations"][0] |= given_severity

    parsed = parse_suite(suite, "suite people.json")

    assert parsed.expectations[0].severity == meant


@pytest.mark.parametrize(
    "given_severity",
    [
        {"severity": "warm"},
        {"severity": None},
        {"severity": "critical", "meta": {"severity": "warn"}},
    ],
    ids=["unknown", "null", "contradiction"],
)
def test_a_severity_that_is_not_clear_is_refused(given_severity):
    suite = one()
    suite["expectations"][0] |= given_severity

    with pytest.raises(ConfigurationError, match="severity"):
        parse_suite(suite, "suite people.json")


def test_a_structured_condition_is_read():
    condition = {
        "type": "and",
        "conditions": [
            {"type": "comparison", "column": {"name": "a"}, "operator": "IN", "parameter": [1, 2]},
            {"type": "nullity", "column": {"name": "b c"}, "is_null": False},
        ],
    }

    parsed = parse_suite(with_condition(condition), "suite people.json")

    assert parsed.expectations[0].condition == Junction(
        every=True,
        parts=(
            Comparison(column="a", operator="IN", values=(1, 2)),
            Nullity(column="b c", is_null=False),
        ),
    )
    assert "row_condition" not in parsed.expectations[0].arguments


# sha256sum of ["asml/suite/1",[["expect_column_values_to_be_between",
# {"column":"age","min_value":0},"block"]]] in one line.
def test_the_digest_of_a_suite_is_frozen():
    digest = parse_suite(one(), "suite people.json").digest

    assert digest == "sha256:fb340eefefe03161f9bd834ee5b76c8447bc739b867d218db17aabb657c0d317"


def test_the_digest_does_not_change_with_names_notes_and_ids():
    plain = one()
    noted = one(min_value=0.0) | {"name": "other", "id": "1", "meta": {"v": 1}, "notes": "n"}
    noted["expectations"][0] |= {"id": "2", "notes": "n", "severity": "critical"}

    digests = {parse_suite(suite, "suite").digest for suite in (plain, noted)}

    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [
        one(min_value=1),
        one(mostly=0.5),
        one(column="years"),
        one("expect_column_max_to_be_between"),
        one() | {"expectations": [one()["expectations"][0] | {"severity": "warning"}]},
        one() | {"expectations": one()["expectations"] * 2},
        with_condition({"type": "nullity", "column": {"name": "a"}, "is_null": False}),
    ],
    ids=["bound", "mostly", "column", "type", "severity", "number", "condition"],
)
def test_the_digest_changes_with_whatever_decides_a_verdict(other):
    assert parse_suite(one(), "suite").digest != parse_suite(other, "suite").digest


REPORT = ValidationReport(
    suite="people",
    suite_digest=DIGEST,
    rows=8,
    results=(
        ExpectationResult(
            type="expect_column_values_to_be_between",
            column="age",
            severity="block",
            success=False,
            checked=8,
            missing=4,
            unexpected=1,
        ),
        ExpectationResult(
            type="expect_column_mean_to_be_between", column="age", severity="warn", success=False
        ),
        ExpectationResult(
            type="expect_table_row_count_to_equal", column="", severity="block", success=True
        ),
    ),
)
REPORT_JSON = {
    "suite": "people",
    "suite_digest": DIGEST,
    "passed": False,
    "rows": 8,
    "results": [
        {
            "type": "expect_column_values_to_be_between",
            "column": "age",
            "severity": "block",
            "success": False,
            "checked": 8,
            "missing": 4,
            "unexpected": 1,
        },
        {
            "type": "expect_column_mean_to_be_between",
            "column": "age",
            "severity": "warn",
            "success": False,
        },
        {
            "type": "expect_table_row_count_to_equal",
            "column": "",
            "severity": "block",
            "success": True,
        },
    ],
}


def test_a_report_says_what_failed_and_what_only_warns():
    assert not REPORT.passed
    assert REPORT.failed == ("expect_column_values_to_be_between(age)",)
    assert REPORT.warned == ("expect_column_mean_to_be_between(age)",)
    assert REPORT.results[0].unexpected_percent == 25.0
    assert REPORT.results[1].unexpected_percent is None


def test_a_report_survives_json():
    assert REPORT.to_dict() == REPORT_JSON
    assert ValidationReport.from_dict(json.loads(json.dumps(REPORT_JSON))) == REPORT


def test_a_report_without_results_has_not_passed():
    assert not ValidationReport(suite="s", suite_digest=DIGEST, rows=1).passed


@pytest.mark.parametrize(
    "change",
    [
        {"passed": True},
        {"passed": 0},
        {"rows": -1},
        {"rows": 1.0},
        {"rows": True},
        {"suite_digest": "sha256:00"},
        {"results": {}},
        {"results": [{}]},
        {"results": [REPORT_JSON["results"][1] | {"severity": "info"}]},
        {"results": [REPORT_JSON["results"][1] | {"observed_value": 3}]},
        {"results": [REPORT_JSON["results"][1] | {"checked": "many"}]},
        {"sample": [1]},
    ],
    ids=[
        "passed-contradicts", "passed-number", "negative", "float", "truth", "digest", "object",
        "empty-result", "severity", "unknown-in-a-result", "count", "unknown-field",
    ],
)  # fmt: skip
def test_an_altered_report_is_refused(change):
    with pytest.raises(FormatError):
        ValidationReport.from_dict(REPORT_JSON | change)


@given(st.sets(st.integers(min_value=0, max_value=300)))
def test_a_row_set_holds_exactly_its_positions(positions):
    rows = RowSet.of(positions)

    assert list(rows) == sorted(positions)
    assert len(rows) == len(positions)
    assert all((position in rows) == (position in positions) for position in range(-1, 310))


def test_a_row_set_takes_one_bit_a_row():
    assert RowSet.of([7, 8, 0]).bits == b"\x81\x01"
    with pytest.raises(ValueError, match="expected 0 or more"):
        RowSet.of([-1])


@pytest.mark.parametrize(
    ("digest", "passed", "known"),
    [
        (DIGEST, [DIGEST], True),
        (DIGEST, [], False),
        (DIGEST, ["sha256:" + "ac" * 32], False),
        (DIGEST, [DIGEST[:-1]], False),
        ("", [""], False),
        ("*", ["*"], False),
    ],
    ids=["same", "none", "other", "cut", "empty", "not-a-digest"],
)
def test_only_this_very_suite_counts_as_passed(digest, passed, known):
    assert already_passed(digest, passed) is known


def test_a_source_is_a_file_or_a_callable(tmp_path):
    def people():
        raise AssertionError("not called before it is needed")

    assert SuiteSource.from_file(tmp_path / "people.json").name == "people.json"
    assert SuiteSource.from_callable(people).name.endswith("people")
    with pytest.raises(ConfigurationError, match="found both or neither"):
        SuiteSource(name="neither")


def test_parquet_is_told_by_its_first_bytes():
    assert is_parquet(b"PAR1\x15\x04")
    assert not is_parquet(b"PAR")
    assert not is_parquet(b"name,age\n")
