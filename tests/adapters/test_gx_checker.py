"""The checker against the real library: attacks first, then the ways it lets data through."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.gx_checker import GxChecker
from airflow_secure_ml.core.expectations import CATALOGUE
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import ConfigurationError, PolicyError

ROOT = Path(__file__).parents[2]
VISITS = SuiteSource.from_file(ROOT / "dags_examples/expectations/visits.json")
BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
CANARY = "CANARY-7f3a91"


@pytest.fixture
def checker():
    return GxChecker()


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "data.bin"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def suite(tmp_path):
    def write(*expectations: dict) -> SuiteSource:
        path = tmp_path / "suite.json"
        path.write_text(json.dumps({"name": "people", "expectations": list(expectations)}))
        return SuiteSource.from_file(path)

    return write


def expect(kind, severity="critical", **kwargs):
    return {"type": kind, "kwargs": kwargs, "severity": severity}


def equals(column, value):
    return {
        "type": "comparison",
        "column": {"name": column},
        "operator": "==",
        "parameter": value,
    }


# Attacks.


@pytest.fixture
def shell(tmp_path):
    """A command that leaves a mark, as an expression that the engine of `query` would run."""
    mark = tmp_path / "pwned"
    return mark, f"@pd.io.common.os.system('touch {mark}') == 0"


def test_the_library_itself_runs_a_suites_text_condition(shell):
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd

    mark, code = shell
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("s").add_dataframe_asset("a")
    batch = asset.add_batch_definition_whole_dataframe("b").get_batch(
        batch_parameters={"dataframe": pd.DataFrame({"age": [1]})}
    )
    hostile = gxe.ExpectColumnValuesToBeBetween(
        column="age", min_value=0, row_condition=code, condition_parser="pandas"
    )

    batch.validate(hostile)

    assert mark.exists(), "the attack of the next tests does nothing: they would prove nothing"


@pytest.mark.parametrize("form", ["text", "pass_through", "column", "operator"])
def test_a_suite_file_cannot_run_a_shell_command(form, shell, checker, suite, table):
    mark, code = shell
    condition = {
        "text": code,
        "pass_through": {"type": "pass_through", "pass_through_filter": code},
        "column": equals(f"age` > 0 or {code} or `age", 1),
        "operator": equals("age", 1) | {"operator": f"> 0 or {code} or 1 =="},
    }[form]
    hostile = suite(expect(BETWEEN, column="age", min_value=0, row_condition=condition))

    with pytest.raises(ConfigurationError, match="row_condition"):
        checker.check(table("age\n1\n"), hostile, find_rows=False)

    assert not mark.exists()


def test_a_callables_text_condition_is_refused_too(shell, checker, table):
    mark, code = shell

    def hostile():
        import great_expectations as gx
        import great_expectations.expectations as gxe

        condition = {"row_condition": code, "condition_parser": "pandas"}
        return gx.ExpectationSuite(
            name="s",
            expectations=[gxe.ExpectColumnValuesToBeBetween(column="a", min_value=0, **condition)],
        )

    with pytest.raises(ConfigurationError, match="a text condition could run code"):
        checker.check(table("a\n1\n"), SuiteSource.from_callable(hostile), find_rows=False)

    assert not mark.exists()


def test_code_in_the_tables_own_names_and_values_is_not_run(shell, checker, suite, table):
    mark, code = shell
    name = f"age` > 0 or {code} or `age"
    selected = suite(
        expect(BETWEEN, column="age", min_value=0, row_condition=equals("group", f"' or {code}"))
    )

    outcome = checker.check(
        table(f'age,group,"{name}"\n1,"\' or {code}",1\n'), selected, find_rows=True
    )

    assert outcome.report.passed
    assert not mark.exists()


def test_a_class_from_elsewhere_is_refused(checker, table):
    def hostile():
        import great_expectations as gx
        import great_expectations.expectations as gxe

        class ExpectMischief(gxe.ExpectColumnValuesToBeBetween):
            pass

        return gx.ExpectationSuite(name="s", expectations=[ExpectMischief(column="a", min_value=0)])

    with pytest.raises(ConfigurationError, match="'expect_mischief' is not one that may be run"):
        checker.check(table("a\n1\n"), SuiteSource.from_callable(hostile), find_rows=False)


# The ways in which the library lets data through.


@pytest.mark.parametrize(
    ("text", "expectation", "message"),
    [
        ("age\n", expect(BETWEEN, column="age", min_value=0), "expected rows, found none"),
        ("age,b\n,1\n,2\n", expect(BETWEEN, column="age", min_value=0), "'age' holds no value"),
        (
            "age,b\n,1\n,2\n",
            expect("expect_column_values_to_be_unique", column="age"),
            "'age' holds no value",
        ),
        (
            "age,b\n1,1\n,2\n",
            expect(BETWEEN, column="age", min_value=0, row_condition=equals("b", 2)),
            "'age' holds no value",
        ),
        (
            "age,b\n1,1\n",
            expect(BETWEEN, column="age", min_value=0, row_condition=equals("b", 2)),
            "row_condition selects no row",
        ),
        (
            "age,b\n1,\n,2\n",
            expect(
                "expect_column_pair_values_to_be_equal",
                column_A="age",
                column_B="b",
                ignore_row_if="either_value_is_missing",
            ),
            "no row has the values it needs",
        ),
        (
            "age\n1\ninf\n",
            expect("expect_column_stdev_to_be_between", column="age", min_value=0),
            "'age' holds an infinity",
        ),
    ],
    ids=[
        "no-rows", "all-null", "all-null-unique", "all-null-selected", "nothing-selected",
        "pairs-all-ignored", "infinity-in-a-deviation",
    ],
)  # fmt: skip
def test_what_says_nothing_does_not_open_the_gate(
    text, expectation, message, checker, suite, table
):
    with pytest.raises(PolicyError, match=message) as caught:
        checker.check(table(text), suite(expectation), find_rows=False)

    assert caught.value.why == "not_checkable"


@pytest.mark.parametrize(
    ("kind", "ends", "value", "rows"),
    [
        (BETWEEN, {"min_value": 0}, "inf", [1]),
        (BETWEEN, {"max_value": 9}, "-inf", [1]),
        ("expect_column_max_to_be_between", {"min_value": 0}, "inf", []),
        ("expect_column_min_to_be_between", {"max_value": 9}, "-inf", []),
        ("expect_column_mean_to_be_between", {"min_value": 0}, "inf", []),
        ("expect_column_median_to_be_between", {"min_value": 0}, "inf", []),
        ("expect_column_sum_to_be_between", {"min_value": 0}, "inf", []),
    ],
    ids=["values-min", "values-max", "max", "min", "mean", "median", "sum"],
)
def test_an_infinity_fails_an_open_range(kind, ends, value, rows, checker, suite, table):
    given = suite(expect(kind, column="age", **ends))

    outcome = checker.check(table(f"age\n1\n{value}\n"), given, find_rows=True)

    assert outcome.report.failed == (f"{kind}(age)",)
    assert list(outcome.failing_rows) == rows


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_an_infinity_fails_at_any_precision(width, checker, suite, tmp_path):
    import pandas as pd

    path = tmp_path / "data"
    pd.DataFrame({"age": pd.Series([1.0, float("inf")], dtype=width)}).to_parquet(path)

    outcome = checker.check(path, suite(expect(BETWEEN, column="age", min_value=0)), find_rows=True)

    assert list(outcome.failing_rows) == [1]


@pytest.mark.parametrize("find_rows", [False, True], ids=["verdict", "rows"])
def test_an_exception_in_the_engine_is_no_verdict(find_rows, checker, suite, table):
    given = suite(expect(BETWEEN, column="age", min_value=0))

    with pytest.raises(PolicyError, match="do the types fit") as caught:
        checker.check(table(f"age\n1\n{CANARY}\n"), given, find_rows=find_rows)

    assert caught.value.why == "not_checkable"


def test_a_condition_that_cannot_be_compared_is_no_verdict(checker, suite, table):
    later = equals("name", 5) | {"operator": ">"}
    given = suite(expect(BETWEEN, column="age", min_value=0, row_condition=later))

    with pytest.raises(PolicyError, match="cannot be compared") as caught:
        checker.check(table(f"age,name\n1,{CANARY}\n"), given, find_rows=False)

    assert caught.value.why == "not_checkable"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("severity", ["critical", "warning"])
@pytest.mark.parametrize("place", ["column", "condition"])
def test_an_unknown_column_is_refused_by_name(place, severity, checker, suite, table):
    kwargs = {"column": "agee"} if place == "column" else {"row_condition": equals("agee", 1)}
    given = suite(expect(BETWEEN, severity, **({"column": "age", "min_value": 0} | kwargs)))

    with pytest.raises(PolicyError, match="no column 'agee'") as caught:
        checker.check(table(f"age,{CANARY}\n1,2\n"), given, find_rows=False)

    assert caught.value.why == "not_checkable"
    assert CANARY not in str(caught.value)


def test_a_warning_that_has_nothing_to_look_at_is_reported_as_failed(checker, suite, table):
    given = suite(
        expect(BETWEEN, "warning", column="age", min_value=0),
        expect(NOT_NULL, column="b"),
    )

    report = checker.check(table("age,b\n,1\n"), given, find_rows=False).report

    assert report.passed
    assert report.warned == (f"{BETWEEN}(age)",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "CSV table: EmptyDataError"),
        (b"a,b\n1,2\n1,2,3\n", "ParserError at line 3"),
        (b"a,b\n1,2,3\n4,5,6\n", "ParserWarning"),
        (b"a,a\n1,2\n", "two columns of one name"),
        (b"a\n\xff\xfe\n", "UnicodeDecodeError"),
        (b'a\n"open\n', "ParserError at row"),
        (b"PAR1 and then nothing", "Parquet table: Arrow"),
    ],
    ids=["empty", "ragged", "surplus", "twins", "not-utf-8", "open-quote", "broken-parquet"],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused(content, message, checker, suite, table):
    given = suite(expect("expect_table_row_count_to_be_between", min_value=0))

    with pytest.raises(PolicyError, match=message) as caught:
        checker.check(table(content), given, find_rows=False)

    assert caught.value.why == "not_checkable"
    assert caught.value.__context__ is None


def test_a_table_that_is_not_there_is_said_to_be_missing(checker, suite, tmp_path):
    given = suite(expect(NOT_NULL, column="age"))

    with pytest.raises(FileNotFoundError):
        checker.check(tmp_path / "absent", given, find_rows=False)


def test_a_directory_is_no_table(checker, suite, tmp_path):
    with pytest.raises(PolicyError, match="found a directory") as caught:
        checker.check(tmp_path, suite(expect(NOT_NULL, column="age")), find_rows=False)

    assert caught.value.why == "not_checkable"


# Suites.


def test_an_unreadable_suite_names_its_path(checker, table, tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ConfigurationError, match=str(path)):
            checker.check(table("a\n1\n"), SuiteSource.from_file(path), find_rows=False)


def test_a_callable_that_returns_something_else_is_refused(checker):
    with pytest.raises(ConfigurationError, match="found NoneType"):
        checker.suite_digest(SuiteSource.from_callable(lambda: None))


def test_arguments_that_the_library_does_not_take_are_named(checker, suite, table):
    given = suite(expect(BETWEEN, column="a", min_value=0, minimum=CANARY))

    with pytest.raises(ConfigurationError, match="arguments not taken: minimum") as caught:
        checker.check(table("a\n1\n"), given, find_rows=False)

    assert CANARY not in str(caught.value)


def test_a_file_and_a_callable_of_one_content_have_one_digest(checker, suite):
    def people():
        import great_expectations as gx
        import great_expectations.expectations as gxe
        from great_expectations.expectations.row_conditions import Column

        return gx.ExpectationSuite(
            name="other",
            expectations=[
                gxe.ExpectColumnValuesToBeBetween(
                    column="age", min_value=0, row_condition=Column("b") == "x"
                )
            ],
        )

    filed = suite(expect(BETWEEN, column="age", min_value=0, row_condition=equals("b", "x")))

    digests = {checker.suite_digest(s) for s in (filed, SuiteSource.from_callable(people))}

    assert len(digests) == 1


# Verdicts of every listed expectation: (type, arguments that fail, failing rows, those that pass).
PEOPLE = (
    "n,m,x,s,d,j,one,gap\n"
    "1,1,0.5,ab,2024-01-01,[1],1,1\n"
    "2,2,1.5,cd,2024-01-02,[1],1,\n"
    "3,3,2.5,ab,2024-01-03,[1],1,1\n"
    "4,4,3.5,efg,2024-01-04,{,1,1\n"
    "5,9,-99,gh,soon,[1],1,1\n"
)
VERDICTS = [
    (NOT_NULL, {"column": "gap"}, [1], {"column": "n"}),
    ("expect_column_values_to_be_null", {"column": "n"}, [0, 1, 2, 3, 4], None),
    ("expect_column_values_to_be_unique", {"column": "s"}, [0, 2], {"column": "n"}),
    (BETWEEN, {"column": "x", "min_value": 0}, [4], {"column": "n", "min_value": 1}),
    ("expect_column_values_to_be_in_set", {"column": "n", "value_set": [1, 2, 3]}, [3, 4],
     {"column": "one", "value_set": [1]}),
    ("expect_column_values_to_not_be_in_set", {"column": "n", "value_set": [2]}, [1],
     {"column": "n", "value_set": [7]}),
    ("expect_column_values_to_be_increasing", {"column": "x"}, [4], {"column": "n"}),
    ("expect_column_values_to_be_decreasing", {"column": "n"}, [1, 2, 3, 4],
     {"column": "one"}),
    ("expect_column_values_to_be_of_type", {"column": "n", "type_": "float64"}, [],
     {"column": "n", "type_": "int64"}),
    ("expect_column_values_to_be_in_type_list", {"column": "n", "type_list": ["float64"]}, [],
     {"column": "n", "type_list": ["int64"]}),
    ("expect_column_values_to_be_dateutil_parseable", {"column": "d"}, [4], None),
    ("expect_column_values_to_be_json_parseable", {"column": "j"}, [3], None),
    ("expect_column_values_to_match_strftime_format",
     {"column": "d", "strftime_format": "%Y-%m-%d"}, [4], None),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^..$"}, [3],
     {"column": "s", "regex": "^[a-h]+$"}),
    ("expect_column_values_to_not_match_regex", {"column": "s", "regex": "^...$"}, [3],
     {"column": "s", "regex": "z"}),
    ("expect_column_values_to_match_regex_list", {"column": "s", "regex_list": ["^..$"]}, [3],
     {"column": "s", "regex_list": ["."]}),
    ("expect_column_values_to_not_match_regex_list", {"column": "s", "regex_list": ["f"]}, [3],
     {"column": "s", "regex_list": ["z"]}),
    ("expect_column_values_to_not_be_outliers",
     {"column": "x", "method": "iqr", "multiplier": 1.5}, [4],
     {"column": "n", "method": "iqr", "multiplier": 1.5}),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "max_value": 2}, [3],
     {"column": "s", "max_value": 3}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 2}, [3], None),
    ("expect_column_value_z_scores_to_be_less_than",
     {"column": "x", "threshold": 1.5, "double_sided": True}, [4],
     {"column": "n", "threshold": 9, "double_sided": True}),
    ("expect_column_pair_values_a_to_be_greater_than_b",
     {"column_A": "x", "column_B": "n"}, [0, 1, 2, 3, 4], {"column_A": "n", "column_B": "x"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "m"}, [4], None),
    ("expect_column_pair_values_to_be_in_set",
     {"column_A": "one", "column_B": "n", "value_pairs_set": [[1, 1], [1, 2]]}, [2, 3, 4], None),
    ("expect_compound_columns_to_be_unique", {"column_list": ["s", "one"]}, [0, 2],
     {"column_list": ["n", "s"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["n", "m"]},
     [0, 1, 2, 3], None),
    ("expect_multicolumn_values_to_be_equal", {"column_list": ["n", "m"]}, [4], None),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["one", "n"], "sum_total": 3},
     [0, 2, 3, 4], None),
    ("expect_column_max_to_be_between", {"column": "n", "max_value": 4}, [],
     {"column": "n", "max_value": 5}),
    ("expect_column_min_to_be_between", {"column": "x", "min_value": 0}, [],
     {"column": "n", "min_value": 1}),
    ("expect_column_mean_to_be_between", {"column": "n", "min_value": 4}, [],
     {"column": "n", "min_value": 3, "max_value": 3}),
    ("expect_column_median_to_be_between", {"column": "n", "min_value": 4}, [],
     {"column": "n", "min_value": 3}),
    ("expect_column_sum_to_be_between", {"column": "n", "min_value": 16}, [],
     {"column": "n", "min_value": 15}),
    ("expect_column_stdev_to_be_between", {"column": "n", "max_value": 1}, [],
     {"column": "n", "max_value": 2}),
    ("expect_column_quantile_values_to_be_between",
     {"column": "n", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[4, None]]}}, [],
     {"column": "n", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[3, None]]}}),
    ("expect_column_kl_divergence_to_be_less_than",
     {"column": "s", "threshold": 0.1,
      "partition_object": {"values": ["ab", "cd", "efg", "gh"], "weights": [0.1, 0.1, 0.1, 0.7]}},
     [],
     {"column": "s", "threshold": 0.1,
      "partition_object": {"values": ["ab", "cd", "efg", "gh"], "weights": [0.4, 0.2, 0.2, 0.2]}}),
    ("expect_column_unique_value_count_to_be_between", {"column": "s", "min_value": 5}, [],
     {"column": "s", "min_value": 4}),
    ("expect_column_proportion_of_unique_values_to_be_between",
     {"column": "s", "min_value": 1}, [], {"column": "n", "min_value": 1}),
    ("expect_column_proportion_of_non_null_values_to_be_between",
     {"column": "n", "max_value": 0.5}, [], {"column": "n", "min_value": 1}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "n", "value_set": [1, 2]}, [],
     {"column": "one", "value_set": [1]}),
    ("expect_column_distinct_values_to_contain_set", {"column": "n", "value_set": [7]}, [],
     {"column": "n", "value_set": [1]}),
    ("expect_column_distinct_values_to_equal_set", {"column": "n", "value_set": [1]}, [],
     {"column": "one", "value_set": [1]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "s", "value_set": ["cd"]}, [],
     {"column": "s", "value_set": ["ab"]}),
    ("expect_column_type_to_be", {"column": "n", "type_": "float64"}, [],
     {"column": "n", "type_": "int64"}),
    ("expect_column_to_exist", {"column": "absent"}, [], {"column": "n"}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["n"]}, [],
     {"column_list": ["n", "m", "x", "s", "d", "j", "one", "gap"]}),
    ("expect_table_columns_to_match_set", {"column_set": ["n", "zz"], "exact_match": False}, [],
     {"column_set": ["n", "m"], "exact_match": False}),
    ("expect_table_column_count_to_equal", {"value": 6}, [], {"value": 8}),
    ("expect_table_column_count_to_be_between", {"min_value": 9}, [], {"min_value": 8}),
    ("expect_table_row_count_to_equal", {"value": 6}, [], {"value": 5}),
    ("expect_table_row_count_to_be_between", {"min_value": 6}, [], {"min_value": 5}),
]  # fmt: skip


def test_every_listed_expectation_is_in_the_table_of_verdicts():
    assert sorted(kind for kind, *_ in VERDICTS) == sorted(CATALOGUE)


@pytest.mark.parametrize(
    ("kind", "fails", "rows", "passes"), VERDICTS, ids=[kind for kind, *_ in VERDICTS]
)
def test_each_expectation_gives_its_verdict_and_points_at_its_rows(
    kind, fails, rows, passes, checker, suite, table
):
    failed = checker.check(table(PEOPLE), suite(expect(kind, **fails)), find_rows=True)

    assert not failed.report.passed
    assert list(failed.failing_rows) == rows
    assert failed.report.results[0].unexpected == (len(rows) or None)
    if passes is not None:
        passed = checker.check(table(PEOPLE), suite(expect(kind, **passes)), find_rows=True)
        assert passed.report.passed
        assert list(passed.failing_rows) == []


def test_rows_are_counted_in_the_table_and_not_in_what_a_condition_selects(checker, suite, table):
    given = suite(expect(BETWEEN, column="n", max_value=3, row_condition=equals("s", "efg")))

    outcome = checker.check(table(PEOPLE), given, find_rows=True)

    assert list(outcome.failing_rows) == [3]
    assert outcome.report.results[0].checked == 1


@pytest.mark.parametrize(
    ("condition", "checked"),
    [
        (equals("n", 2), 1),
        (equals("n", 2) | {"operator": "!="}, 5),
        (equals("n", 2) | {"operator": "<"}, 1),
        (equals("n", 2) | {"operator": "<="}, 2),
        (equals("n", 2) | {"operator": ">"}, 3),
        (equals("n", 2) | {"operator": ">="}, 4),
        (equals("n", [1, 5]) | {"operator": "IN"}, 2),
        (equals("n", [1, 5]) | {"operator": "NOT_IN"}, 4),
        ({"type": "nullity", "column": {"name": "n"}, "is_null": True}, 1),
        ({"type": "nullity", "column": {"name": "n"}, "is_null": False}, 5),
        ({"type": "or", "conditions": [equals("n", 1), equals("n", 5)]}, 2),
        ({"type": "and", "conditions": [equals("n", 1), equals("m", 1)]}, 1),
    ],
    ids=["eq", "ne", "lt", "le", "gt", "ge", "in", "not-in", "null", "not-null", "or", "and"],
)
def test_a_condition_selects_the_rows_that_the_library_would(
    condition, checked, checker, suite, table
):
    import pandas as pd
    from great_expectations.execution_engine import PandasExecutionEngine

    text = "n,m\n1,1\n2,1\n3,1\n4,1\n5,1\n,1\n"
    frame = pd.read_csv(table(text))

    outcome = checker.check(
        table(text), suite(expect(NOT_NULL, column="m", row_condition=condition)), find_rows=False
    )

    assert outcome.report.results[0].checked == checked
    theirs = PandasExecutionEngine()._apply_row_condition_filter(frame, condition, {})
    assert len(theirs) == checked


def test_mostly_and_severity_decide_what_blocks(checker, suite, table):
    given = suite(
        expect(BETWEEN, column="x", min_value=0, mostly=0.8),
        expect(BETWEEN, "warning", column="x", min_value=0),
        expect(BETWEEN, "info", column="n", max_value=1),
    )

    outcome = checker.check(table(PEOPLE), given, find_rows=True)

    assert outcome.report.passed
    assert [r.success for r in outcome.report.results] == [True, False, False]
    assert list(outcome.failing_rows) == []


def test_parquet_and_csv_get_one_verdict_whatever_their_names(checker, suite, table, tmp_path):
    import pandas as pd

    given = suite(expect(BETWEEN, column="x", min_value=0), expect(NOT_NULL, column="m"))
    csv = table(PEOPLE)
    parquet = tmp_path / "data.csv"
    # An index stored in the file is a column like any other.
    pd.read_csv(csv).set_index("m").to_parquet(parquet, engine="pyarrow")

    reports = [checker.check(path, given, find_rows=False).report for path in (csv, parquet)]

    assert reports[0] == reports[1]


# Leaks.


def test_no_value_shows_up_in_reports_logs_or_output(checker, suite, table, caplog, capfd):
    given = suite(
        expect("expect_column_values_to_match_regex", column="name", regex="^x"),
        expect("expect_column_most_common_value_to_be_in_set", column="name", value_set=["x"]),
        expect("expect_column_max_to_be_between", column="pay", max_value=1),
        expect("expect_column_distinct_values_to_be_in_set", column="name", value_set=["x"]),
        expect(NOT_NULL, column="name", row_condition=equals("name", CANARY)),
    )
    data = table(f"name,pay\n{CANARY},31415926\n{CANARY},27182818\n")

    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "great_expectations"):
        outcome = checker.check(data, given, find_rows=True)

    captured = capfd.readouterr()
    said = repr(outcome) + json.dumps(outcome.report.to_dict()) + caplog.text + str(captured)
    assert len(outcome.report.failed) == 4
    assert not any(value in said for value in (CANARY, "31415926", "27182818"))
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    "text",
    [
        f"age\n1\n{CANARY}\n",
        f"age\n{CANARY},1\n",
        f'age\n"{CANARY}\n',
        f"age,{CANARY},{CANARY}\n1,2,3\n",
    ],
    ids=["type", "surplus", "quote", "twins"],
)
def test_no_value_shows_up_in_a_refusal(text, checker, suite, table, caplog, capfd):
    import traceback

    given = suite(expect(BETWEEN, column="age", min_value=0))

    with (
        caplog.at_level(logging.DEBUG),
        caplog.at_level(logging.DEBUG, "great_expectations"),
        pytest.raises(PolicyError) as caught,
    ):
        checker.check(table(text), given, find_rows=True)

    told = "".join(traceback.format_exception(caught.value))
    assert CANARY not in told + caplog.text + str(capfd.readouterr())
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_the_tasks_own_use_of_the_library_is_left_alone(checker, suite, table):
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager

    logger = logging.getLogger("great_expectations")
    mine = gx.get_context(mode="ephemeral")
    before = (logger.level, logger.propagate, list(logger.handlers))

    checker.check(table(PEOPLE), suite(expect(NOT_NULL, column="n")), find_rows=False)

    assert project_manager.get_current_project() is mine
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


# What a process pays and leaves behind.


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=env, capture_output=True, text=True, check=False
    )


def test_nothing_heavy_is_imported_before_a_table_is_checked(tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import airflow_secure_ml.adapters.gx_checker as gx_checker
import airflow_secure_ml.services.validation
from airflow_secure_ml.core.validation import SuiteSource
gx_checker.GxChecker().suite_digest(SuiteSource.from_file(Path({str(VISITS.path)!r})))
print(sorted({{"great_expectations", "pandas", "numpy", "pyarrow", "airflow"}} & set(sys.modules)))
"""
    done = run(code, tmp_path)

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_process_that_checks_is_silent_and_leaves_nothing_behind(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    data, suite = tmp_path / "data", tmp_path / "suite.json"
    data.write_text("age\n-1\n2\n")
    suite.write_text(
        json.dumps({"name": "s", "expectations": [expect(BETWEEN, column="age", min_value=0)]})
    )
    code = f"""
import logging, sys, socket
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
def refuse(*_): raise SystemExit("the library connects")
socket.socket.connect = refuse
sys.path.insert(0, {str(ROOT)!r})
from airflow_secure_ml.adapters.gx_checker import GxChecker
from airflow_secure_ml.core.validation import SuiteSource
source = SuiteSource.from_file(Path({str(suite)!r}))
outcome = GxChecker().check(Path({str(data)!r}), source, find_rows=True)
assert list(outcome.failing_rows) == [0]
"""
    done = run(code, home)

    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "great_expectations" in line]
    assert (done.stdout, told) == ("", [])
    assert list(home.rglob("*")) == []


# The suite of the examples, on the data of the examples.


def visits_csv() -> Path:
    randhie = pytest.importorskip("statsmodels.datasets.randhie", exc_type=ImportError)
    return Path(randhie.__file__).parent / "src" / "randhie.csv"


def test_the_examples_suite_passes_on_the_examples_data(checker):
    report = checker.check(visits_csv(), VISITS, find_rows=False).report

    assert report.passed
    assert (report.rows, report.warned) == (20190, ())
    assert any(result.severity == "warn" for result in report.results)


def test_the_examples_suite_fails_on_negative_ages(checker, table):
    lines = visits_csv().read_text().splitlines(keepends=True)
    age = lines[0].split(",").index("xage")
    for row in (0, 20_000):
        fields = lines[row + 1].split(",")
        fields[age] = "-" + fields[age]
        lines[row + 1] = ",".join(fields)

    outcome = checker.check(table("".join(lines)), VISITS, find_rows=True)

    assert outcome.report.failed == (f"{BETWEEN}(xage)",)
    assert list(outcome.failing_rows) == [0, 20_000]


PROGRAM = """
import sys
from pathlib import Path
from airflow_secure_ml.adapters.gx_checker import GxChecker
from airflow_secure_ml.core.validation import SuiteSource

def build():
    import great_expectations as gx
    import great_expectations.expectations as gxe
    bad = gxe.ExpectColumnValuesToBeBetween(column="age", max_value=50)
    return gx.ExpectationSuite(name="ages", expectations=[bad])

table, file, kind = sys.argv[1:]
suite = SuiteSource.from_callable(build)
if kind == "file":
    suite = SuiteSource.from_file(Path(file))
outcome = GxChecker().check(Path(table), suite, find_rows=False)
print("passed" if outcome.report.passed else "failed")
assert not hasattr(sys.modules["__main__"], "__file__")
"""


@pytest.mark.parametrize("kind", ["file", "callable"])
def test_a_program_without_a_file_is_not_ended_by_the_librarys_own_imports(tmp_path, kind):
    (tmp_path / "table.csv").write_text("age\n54\n")
    expectation = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "age", "max_value": 50},
    }
    (tmp_path / "suite.json").write_text(
        json.dumps({"name": "ages", "expectations": [expectation]})
    )

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "table.csv", tmp_path / "suite.json", kind],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    assert (done.returncode, done.stdout) == (0, "failed\n"), done.stderr
