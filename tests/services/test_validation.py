"""The use case: what blocks, what is set aside, what goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.gx_checker import GxChecker
from airflow_secure_ml.core.validation import (
    CheckOutcome,
    ExpectationResult,
    RowSet,
    SuiteSource,
    ValidationReport,
)
from airflow_secure_ml.errors import PolicyError, ValidationFailedError
from airflow_secure_ml.services.validation import (
    Quarantine,
    check_dataset,
    validate_dataset,
)

SUITE = SuiteSource.from_callable(lambda: None)
DIGEST = "sha256:" + "ab" * 32


def report(*verdicts: bool, rows: int = 4, digest: str = DIGEST) -> ValidationReport:
    return ValidationReport(
        suite="people",
        suite_digest=digest,
        rows=rows,
        results=tuple(
            ExpectationResult(
                type=f"expect_{number}", column="age", severity="block", success=success
            )
            for number, success in enumerate(verdicts)
        ),
    )


@dataclass
class Scripted:
    """A DataChecker that gives prepared outcomes in turn, and says what it was asked."""

    outcomes: list[CheckOutcome]
    asked: list[tuple[Path, bool]] = field(default_factory=list)

    def suite_digest(self, suite: SuiteSource) -> str:
        return DIGEST

    def check(self, data: Path, suite: SuiteSource, *, find_rows: bool) -> CheckOutcome:
        self.asked.append((data, find_rows))
        return self.outcomes.pop(0)


def outcome(verdict: ValidationReport, *failing: int) -> CheckOutcome:
    return CheckOutcome(report=verdict, failing_rows=RowSet.of(failing))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"age\n1\n2\n3\n4\n")
    return path


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(splitter=GxChecker(), good=tmp_path / "good", bad=tmp_path / "bad")


def test_data_that_passes_goes_on_as_it_is(data, quarantine):
    checker = Scripted([outcome(report(True))])

    found = validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)

    assert (found.data, found.quarantined, found.quarantined_rows) == (data, None, 0)
    assert not quarantine.good.exists()


def test_data_that_fails_is_refused_without_a_quarantine(data):
    checker = Scripted([outcome(report(True, False), 1)])

    with pytest.raises(ValidationFailedError, match="1 of 2 expectations failed on 4 rows") as e:
        validate_dataset(data, SUITE, checker=checker)

    assert e.value.failed == ("expect_1(age)",)
    assert e.value.why == "expectation_failed"
    assert checker.asked == [(data, False)]


def test_at_most_ten_failures_are_named(data):
    checker = Scripted([outcome(report(*[False] * 12))])

    with pytest.raises(ValidationFailedError, match=r"expect_9\(age\) and 2 more$") as caught:
        validate_dataset(data, SUITE, checker=checker)

    assert len(caught.value.failed) == 10


def test_failing_rows_are_set_aside_and_the_rest_is_checked_again(data, quarantine):
    checker = Scripted([outcome(report(False), 1, 3), outcome(report(True, rows=2))])

    found = validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)

    assert checker.asked == [(data, True), (quarantine.good, False)]
    assert (found.data, found.quarantined) == (quarantine.good, quarantine.bad)
    assert (found.quarantined_rows, found.report.rows, found.whole.rows) == (2, 2, 4)
    assert quarantine.good.read_bytes() == b"age\n1\n3\n"
    assert quarantine.bad.read_bytes() == b"age\n2\n4\n"


def test_rows_that_go_on_must_pass_too(data, quarantine):
    checker = Scripted([outcome(report(False), 1), outcome(report(False, rows=3))])

    with pytest.raises(ValidationFailedError, match="after 1 rows were set aside"):
        validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)


def test_a_table_where_every_row_fails_is_refused_whole(data, quarantine):
    checker = Scripted([outcome(report(False), 0, 1, 2, 3)])

    with pytest.raises(ValidationFailedError):
        validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)

    assert not quarantine.good.exists()


def test_a_failure_that_points_at_no_row_is_refused_whole(data, quarantine):
    checker = Scripted([outcome(report(False))])

    with pytest.raises(ValidationFailedError):
        validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)

    assert not quarantine.good.exists()


def test_a_suite_that_changes_in_between_is_refused(data, quarantine):
    other = report(True, rows=3, digest="sha256:" + "cd" * 32)
    checker = Scripted([outcome(report(False), 1), outcome(other)])

    with pytest.raises(PolicyError, match="changed in between") as caught:
        validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)

    assert caught.value.why == "not_checkable"


def test_a_file_whose_records_are_counted_otherwise_is_refused(data, quarantine):
    checker = Scripted([outcome(report(False, rows=5), 1)])

    with pytest.raises(PolicyError, match="expected 4 rows to go on and 1 not, found 3 and 1"):
        validate_dataset(data, SUITE, checker=checker, quarantine=quarantine)


def test_the_verdict_can_be_had_before_it_is_enforced(data):
    found = check_dataset(data, SUITE, checker=Scripted([outcome(report(False))]))

    assert found.report.failed == ("expect_0(age)",)


# With the real checker.


@pytest.fixture
def suite(tmp_path):
    def write(*expectations: tuple[str, dict]) -> SuiteSource:
        path = tmp_path / "suite.json"
        listed = [{"type": kind, "kwargs": kwargs} for kind, kwargs in expectations]
        path.write_text(json.dumps({"name": "people", "expectations": listed}))
        return SuiteSource.from_file(path)

    return write


AGE = ("expect_column_values_to_be_between", {"column": "age", "min_value": 0})
LOWEST = ("expect_column_min_to_be_between", {"column": "age", "min_value": 0})
NAMED = ("expect_column_values_to_not_be_null", {"column": "name"})
FOUR = ("expect_table_row_count_to_be_between", {"min_value": 4})
ODD = b'name,age\r\n"a ""x""\nb",1\r\n\r\n,2\nc,-3\n  \nd,4'


def test_records_are_parted_byte_for_byte(tmp_path, suite, quarantine):
    data = tmp_path / "data"
    data.write_bytes(b"\xef\xbb\xbf" + ODD)

    found = validate_dataset(
        data, suite(AGE, LOWEST, NAMED), checker=GxChecker(), quarantine=quarantine
    )

    assert found.quarantined_rows == 2
    assert found.whole.failed == (
        "expect_column_values_to_be_between(age)",
        "expect_column_min_to_be_between(age)",
        "expect_column_values_to_not_be_null(name)",
    )
    head = b"\xef\xbb\xbfname,age\r\n"
    assert quarantine.good.read_bytes() == head + b'"a ""x""\nb",1\r\n\r\n  \nd,4'
    assert quarantine.bad.read_bytes() == head + b",2\nc,-3\n"
    assert quarantine.bad.stat().st_mode & 0o777 == 0o600


def test_an_expectation_about_the_table_must_hold_for_what_goes_on(tmp_path, suite, quarantine):
    data = tmp_path / "data"
    data.write_bytes(ODD)

    with pytest.raises(ValidationFailedError) as caught:
        validate_dataset(data, suite(AGE, FOUR), checker=GxChecker(), quarantine=quarantine)

    assert caught.value.failed == ("expect_table_row_count_to_be_between()",)


def test_parquet_is_parted_with_its_schema(tmp_path, suite, quarantine):
    import pandas as pd
    import pyarrow.parquet as pq

    data = tmp_path / "data"
    ages = [-1 if row % 1000 == 7 else row for row in range(150_000)]
    pd.DataFrame({"name": "x", "age": ages}).astype({"name": "category"}).to_parquet(data)

    found = validate_dataset(data, suite(AGE), checker=GxChecker(), quarantine=quarantine)

    good, bad = pq.read_table(quarantine.good), pq.read_table(quarantine.bad)
    assert (found.report.rows, found.quarantined_rows) == (149_850, 150)
    assert good.schema.equals(pq.read_schema(data), check_metadata=True)
    assert good["age"].to_pylist() == [age for age in ages if age >= 0]
    assert set(bad["age"].to_pylist()) == {-1}


def test_nothing_is_written_over(data, quarantine):
    quarantine.bad.write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        quarantine.splitter.split(data, RowSet.of([1]), good=quarantine.good, bad=quarantine.bad)

    assert quarantine.bad.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "content",
    [b"age\n1\n" + b"x" * 200_000 + b"\n", b"PAR1 and then nothing"],
    ids=["field-too-long", "broken-parquet"],
)
def test_a_table_that_cannot_be_parted_is_refused_without_quoting_it(content, tmp_path, quarantine):
    data = tmp_path / "data"
    data.write_bytes(content)

    with pytest.raises(PolicyError, match="cannot be parted") as caught:
        quarantine.splitter.split(data, RowSet.of([0]), good=quarantine.good, bad=quarantine.bad)

    assert caught.value.why == "not_checkable"
    assert caught.value.__context__ is None
