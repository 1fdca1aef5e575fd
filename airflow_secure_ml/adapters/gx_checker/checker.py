"""Hold a table against a suite, closing the ways in which the library lets data through.

No rows, a column without any value, a condition that selects nothing and an exception inside the
library are refusals here; an infinity fails an open range (an empty suite: `core.suite`). Of the
results only truths and counts are copied, since everything else in them may hold data.

Source: FACTS, "Great Expectations 1.24.1".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.gx_checker.condition import select
from airflow_secure_ml.adapters.gx_checker.engine import Raw, evaluate, silence
from airflow_secure_ml.adapters.gx_checker.source import load_suite
from airflow_secure_ml.adapters.gx_checker.splitter import TableSplitter
from airflow_secure_ml.adapters.gx_checker.table import not_checkable, read_frame
from airflow_secure_ml.core.row_condition import Condition, columns_of
from airflow_secure_ml.core.suite import Expectation, Suite
from airflow_secure_ml.core.validation import (
    CheckOutcome,
    ExpectationResult,
    RowSet,
    SuiteSource,
    ValidationReport,
)


class GxChecker(TableSplitter):
    """The DataChecker over Great Expectations, and the RowSplitter of the tables it reads."""

    def suite_digest(self, suite: SuiteSource) -> str:
        """What the suite demands, as `sha256:…`.

        A file's is found without Great Expectations; a callable has to be called, and it will
        import the library to make its suite.

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
        """
        return load_suite(suite).digest

    def check(self, data: Path, suite: SuiteSource, *, find_rows: bool) -> CheckOutcome:
        """Check a table on disk (CSV or Parquet, told apart by content).

        Whatever keeps a blocking expectation from being checked is a refusal; one that only warns
        and has nothing to look at is reported as failed.

        Args:
            data: The table's path.
            suite: Where the expectations come from.
            find_rows: Whether the positions of failing rows are wanted (quarantine).

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
            PolicyError: It cannot be checked (`why` not_checkable).
            FileNotFoundError: No table is there.
        """
        loaded = load_suite(suite)
        with silence():
            frame = read_frame(data)
            _require_columns(loaded, frame)
            judged = dict(_judge(loaded, frame, find_rows))
        report = ValidationReport(
            suite=loaded.name,
            suite_digest=loaded.digest,
            rows=len(frame),
            results=tuple(judged[number].result for number in range(len(loaded.expectations))),
        )
        if not find_rows:
            return CheckOutcome(report=report)
        failing = (position for one in judged.values() for position in one.rows)
        return CheckOutcome(report=report, failing_rows=RowSet.of(failing))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    result: ExpectationResult
    rows: tuple[int, ...] = ()


def _judge(suite: Suite, frame: Any, find_rows: bool) -> Iterator[tuple[int, _Judged]]:
    groups: dict[Condition | None, dict[int, Expectation]] = {}
    for number, expectation in enumerate(suite.expectations):
        groups.setdefault(expectation.condition, {})[number] = expectation
    for condition, group in groups.items():
        domain = frame if condition is None else _selected(frame, condition, group)
        sound: dict[int, Expectation] = {}
        for number, expectation in group.items():
            if obstacle := _obstacle(expectation, domain):
                yield number, _unchecked(expectation, obstacle)
            else:
                sound[number] = expectation
        if sound:
            for number, raw in evaluate(sound, domain, find_rows=find_rows).items():
                yield number, _verdict(sound[number], raw)


def _require_columns(suite: Suite, frame: Any) -> None:
    there = set(frame.columns)
    for expectation in suite.expectations:
        named = () if expectation.shape.absent else expectation.columns
        if expectation.condition is not None:
            named += columns_of(expectation.condition)
        for column in named:
            if column not in there:
                # The name is the suite's; a table without a header would show data as its own.
                raise not_checkable(
                    f"{_label(expectation)}: the table has no column {column!r}; "
                    "correct the suite, or the table"
                )


def _selected(frame: Any, condition: Condition, group: Mapping[int, Expectation]) -> Any:
    try:
        return frame[select(frame, condition)]
    except (TypeError, ValueError):
        label = _label(next(iter(group.values())))
    # Not chained: the library's words quote values.
    raise not_checkable(f"{label}: a column cannot be compared with row_condition's value")


def _obstacle(expectation: Expectation, domain: Any) -> str:
    if len(domain) == 0:
        return "row_condition selects no row"
    shape = expectation.shape
    if shape.nulls:
        return ""
    for column in expectation.columns:
        if not domain[column].notna().any():
            return f"column {column!r} holds no value"
        if shape.infinite == "refused" and _has_infinity(domain[column]):
            return f"column {column!r} holds an infinity"
    return ""


def _has_infinity(column: Any) -> bool:
    import numpy as np

    if column.dtype.kind != "f":
        return False
    return bool(np.isinf(column.to_numpy(dtype="float64", na_value=np.nan)).any())


def _verdict(expectation: Expectation, raw: Raw) -> _Judged:
    if raw.raised:
        # Its message is not repeated: it may quote values.
        raise not_checkable(f"{_label(expectation)}: the engine failed; do the types fit?")
    judged_rows = None if raw.checked is None else raw.checked - (raw.missing or 0)
    if judged_rows == 0 and not expectation.shape.nulls:
        return _unchecked(expectation, "no row has the values it needs")
    result = ExpectationResult(
        type=expectation.type,
        column=", ".join(expectation.columns),
        severity=expectation.severity,
        success=raw.success,
        checked=raw.checked,
        missing=raw.missing,
        unexpected=raw.unexpected,
    )
    blocked = not raw.success and expectation.severity == "block"
    return _Judged(result=result, rows=raw.rows if blocked else ())


def _unchecked(expectation: Expectation, obstacle: str) -> _Judged:
    if expectation.severity == "block":
        raise not_checkable(f"{_label(expectation)}: {obstacle}")
    return _Judged(
        result=ExpectationResult(
            type=expectation.type,
            column=", ".join(expectation.columns),
            severity=expectation.severity,
            success=False,
        )
    )


def _label(expectation: Expectation) -> str:
    return f"{expectation.type}({', '.join(expectation.columns)})"
