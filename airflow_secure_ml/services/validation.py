"""Validate a data set: check it, part failing rows from the rest, let only what passes go on.

The one use case behind `expect=`, `quarantine=` and the operator, so their verdicts are the same.
Sealing the parted rows and recording the verdict are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_secure_ml.core.ports import DataChecker, RowSplitter
from airflow_secure_ml.core.validation import SuiteSource, ValidationReport
from airflow_secure_ml.errors import MAX_NAMES, PolicyError, ValidationFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Where failing rows go.

    Attributes:
        splitter: Parts the table.
        good: A path in scratch, not there yet, for the rows that go on.
        bad: As `good`, for the rows that don't.
    """

    splitter: RowSplitter
    good: Path
    bad: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What came of a validation.

    Attributes:
        report: The verdict on the rows in `data`.
        data: The table that may go on if `report.passed`: the one given, or `Quarantine.good`.
        quarantined: Where failing rows lie; None if none were parted.
        quarantined_rows: How many they are.
        whole: The verdict on the whole table if rows were parted; None otherwise.
    """

    report: ValidationReport
    data: Path
    quarantined: Path | None = None
    quarantined_rows: int = 0
    whole: ValidationReport | None = None


def validate_dataset(
    data: Path, suite: SuiteSource, *, checker: DataChecker, quarantine: Quarantine | None = None
) -> Validation:
    """Check a table; return only if what goes on meets every blocking expectation.

    Args:
        data: A CSV or Parquet file.
        suite: What is expected.
        checker: Holds the table against it.
        quarantine: Where failing rows go; None: any failure closes the gate.

    Raises:
        ValidationFailedError: It failed; `failed` names at most ten expectations.
        PolicyError: It cannot be checked, or parted (`why` not_checkable).
        ConfigurationError: The suite is unreadable, or asks for what is not allowed.
    """
    found = check_dataset(data, suite, checker=checker, quarantine=quarantine)
    require_passed(found)
    return found


def check_dataset(
    data: Path, suite: SuiteSource, *, checker: DataChecker, quarantine: Quarantine | None = None
) -> Validation:
    """Check a table and return the verdict either way: for callers that record it first.

    With a quarantine, rows that a failed row by row expectation points at are parted once and the
    rest is checked again, whole: an expectation about the table (a mean, a row count) points at no
    row, so it must hold for the rows that go on. If every row fails, none is parted.

    Raises:
        PolicyError: It cannot be checked, or parted (`why` not_checkable).
        ConfigurationError: The suite is unreadable, or asks for what is not allowed.
    """
    outcome = checker.check(data, suite, find_rows=quarantine is not None)
    report, failing = outcome.report, outcome.failing_rows
    if report.passed or quarantine is None or not failing or len(failing) >= report.rows:
        return Validation(report=report, data=data)
    parted = quarantine.splitter.split(data, failing, good=quarantine.good, bad=quarantine.bad)
    due = (report.rows - len(failing), len(failing))
    if parted != due:
        raise PolicyError(
            f"cannot be parted: expected {due[0]} rows to go on and {due[1]} not, "
            f"found {parted[0]} and {parted[1]}: the file can be read in two ways",
            why="not_checkable",
        )
    again = checker.check(quarantine.good, suite, find_rows=False).report
    if again.rows != due[0] or again.suite_digest != report.suite_digest:
        raise PolicyError(
            "cannot be checked: the suite, or the rows that go on, changed in between",
            why="not_checkable",
        )
    return Validation(
        report=again,
        data=quarantine.good,
        quarantined=quarantine.bad,
        quarantined_rows=due[1],
        whole=report,
    )


def require_passed(found: Validation) -> None:
    """Return if the verdict lets the data go on.

    Raises:
        ValidationFailedError: It does not; `failed` names at most ten expectations.
    """
    report = found.report
    if report.passed:
        return
    listed = ", ".join(report.failed[:MAX_NAMES])
    more = len(report.failed) - MAX_NAMES
    parted = f" after {found.quarantined_rows} rows were set aside" if found.quarantined else ""
    raise ValidationFailedError(
        f"suite {report.suite}: {len(report.failed)} of {len(report.results)} expectations failed "
        f"on {report.rows} rows{parted}: {listed}{f' and {more} more' if more > 0 else ''}",
        failed=report.failed,
    )
