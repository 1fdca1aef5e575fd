"""Hold an input or an output of a secured run against its suite; each verdict is recorded.

A verdict that a verified statement gives for these very bytes and this very suite is taken as it
is. Reports carry names and counts, never a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from airflow_secure_ml.core.ports import RowSplitter
from airflow_secure_ml.core.validation import SuiteSource, ValidationReport, already_passed
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import object_facts
from airflow_secure_ml.services.secured_inputs import OpenedInput
from airflow_secure_ml.services.validation import (
    Quarantine,
    Validation,
    check_dataset,
    require_passed,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedInput:
    """An input that may go to the body.

    Attributes:
        value: The table: the one that was opened, or its good rows.
        report: The verdict; None: taken from the statement.
        bad_rows: Rows that failed, in scratch; None if there are none.
    """

    value: Path
    report: ValidationReport | None = None
    bad_rows: Path | None = None


def check_input(work: Work, opened: OpenedInput) -> CheckedInput:
    """Hold an opened input against its suite, unless its statement says that it passed.

    Raises:
        SecureMLError: It failed, or cannot be checked; recorded.
    """
    item = opened.item
    assert item.suite is not None
    assert isinstance(opened.value, Path)
    passed = [] if opened.verified is None else opened.verified.suites
    facts = {**object_facts(item), "digest": opened.manifest.digest}
    digest = _suite_digest(work, item.suite, facts)
    if already_passed(digest, [str(suite.digest) for suite in passed]):
        more = {"suite": item.suite.name, "suite_digest": digest, "trusted": True}
        work.journal.did("object.validate", object=facts, more=more)
        work.journal.tell(f"validated {item.name}: {item.suite.name} passed when it was signed")
        return CheckedInput(value=opened.value)
    quarantine = _quarantine(work, opened.value) if item.quarantine is not None else None
    found = check_table(work, item.name, opened.value, item.suite, facts, quarantine)
    return CheckedInput(value=found.data, report=found.report, bad_rows=found.quarantined)


def check_table(
    work: Work,
    name: str,
    data: Path,
    suite: SuiteSource,
    facts: dict[str, object],
    quarantine: Quarantine | None = None,
) -> Validation:
    """Hold a table against a suite, record the verdict, and return if it passed.

    Raises:
        SecureMLError: It failed, or cannot be checked; recorded.
    """
    journal = work.journal
    since = journal.now()
    more: dict[str, object] = {"suite": suite.name}
    try:
        if data.is_dir():
            raise FormatError(
                f"{name}: expectations are about one CSV or Parquet file, found a directory; "
                "drop expect=, or write one file",
                why="not_checkable",
            )
        found = check_dataset(data, suite, checker=work.desk.checker(), quarantine=quarantine)
        more |= _verdict(found.report)
        require_passed(found)
    except SecureMLError as error:
        journal.refused("object.validate", error, object=facts, more=more)
        raise
    rows = found.report.rows
    journal.did("object.validate", since=since, object={**facts, "rows": rows}, more=more)
    journal.tell(
        f"validated {name}: {len(found.report.results)} expectations of {suite.name} "
        f"on {rows:,} rows"
        + (f", {found.quarantined_rows:,} rows set aside" if found.quarantined else "")
    )
    return found


def _suite_digest(work: Work, suite: SuiteSource, facts: dict[str, object]) -> str:
    try:
        return work.desk.checker().suite_digest(suite)
    except SecureMLError as error:
        work.journal.refused("object.validate", error, object=facts, more={"suite": suite.name})
        raise


def _verdict(report: ValidationReport) -> dict[str, object]:
    return {
        "suite_digest": report.suite_digest,
        "checked": len(report.results),
        "failed": len(report.failed),
        "warned": len(report.warned),
        "failed_names": list(report.failed[:10]) or None,
    }


def _quarantine(work: Work, data: Path) -> Quarantine:
    # A folder each: what is sealed from there must lie alone in it.
    good, bad = data.parent / "good" / data.name, data.parent / "bad" / data.name
    good.parent.mkdir(mode=0o700)
    bad.parent.mkdir(mode=0o700)
    return Quarantine(splitter=cast("RowSplitter", work.desk.checker()), good=good, bad=bad)
