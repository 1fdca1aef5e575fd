"""Verdicts on data sets as values: names, counts and row positions, never a data value.

Which library computed a verdict does not show here; `core.suite` reads what is expected. Numbers
are integers only, so a report's JSON fits canonical events and signed statements alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, cast

from airflow_secure_ml.errors import ConfigurationError, FormatError

Severity = Literal["block", "warn"]
MAX_NAME_CHARS = 256
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSource:
    """Where a suite comes from; made by `from_file` or `from_callable`.

    Attributes:
        name: What messages call it.
        path: A JSON file; None for a callable.
        build: Returns an ExpectationSuite, and is called in the worker only; None for a file.
    """

    name: str
    path: Path | None = None
    build: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.build is None):
            raise ConfigurationError(
                f"suite {self.name}: expected a file or a callable, found both or neither"
            )

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """A suite in the JSON file at `path`, relative to the working directory."""
        return cls(name=path.name, path=path)

    @classmethod
    def from_callable(cls, build: Callable[[], object]) -> Self:
        """A suite that `build` returns each time it is called."""
        return cls(name=getattr(build, "__qualname__", type(build).__qualname__), build=build)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """Positions of rows, from 0, as one bit a row.

    Attributes:
        bits: Bit `p % 8` of byte `p // 8` is set if row `p` belongs.
    """

    bits: bytes = b""

    @classmethod
    def of(cls, positions: Iterable[int]) -> Self:
        """The set of these positions; ValueError for a negative one."""
        bits = bytearray()
        for position in positions:
            if position < 0:
                raise ValueError(f"row position {position}: expected 0 or more")
            byte, bit = divmod(position, 8)
            if byte >= len(bits):
                bits.extend(bytes(max(byte + 1 - len(bits), len(bits))))
            bits[byte] |= 1 << bit
        return cls(bits=bytes(bits).rstrip(b"\0"))

    def __contains__(self, position: int) -> bool:
        byte, bit = divmod(position, 8)
        return 0 <= byte < len(self.bits) and bool(self.bits[byte] >> bit & 1)

    def __len__(self) -> int:
        return int.from_bytes(self.bits, "little").bit_count()

    def __iter__(self) -> Iterator[int]:
        return (
            byte * 8 + bit
            for byte, value in enumerate(self.bits)
            if value
            for bit in range(8)
            if value >> bit & 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationResult:
    """What became of one expectation.

    Attributes:
        type: The expectation's name, such as `expect_column_values_to_be_between`.
        column: The column or columns it names (joined by `, `); empty for the table.
        severity: `block` closes the gate, `warn` is only reported.
        success: Whether the data met it; false too where a `warn` had nothing to look at.
        checked: Rows it was held against; None where it is not about rows.
        missing: Of these, rows without a value, which are not judged; None as above.
        unexpected: Of these, rows that fail it; None as above.
    """

    type: str
    column: str
    severity: Severity
    success: bool
    checked: int | None = None
    missing: int | None = None
    unexpected: int | None = None

    @property
    def label(self) -> str:
        """Its name as messages give it: `expect_column_values_to_be_between(xage)`."""
        return f"{self.type}({self.column})"

    @property
    def unexpected_percent(self) -> float | None:
        """Failing rows among those with a value, 0 to 100; None where it is not about rows."""
        if self.checked is None or self.unexpected is None:
            return None
        judged = self.checked - (self.missing or 0)
        return 100.0 * self.unexpected / judged if judged else 0.0

    def to_dict(self) -> dict[str, str | bool | int]:
        """Strings, truths and integers; what is None is absent."""
        named: dict[str, str | bool | int | None] = {
            "type": self.type,
            "column": self.column,
            "severity": self.severity,
            "success": self.success,
            "checked": self.checked,
            "missing": self.missing,
            "unexpected": self.unexpected,
        }
        return {key: value for key, value in named.items() if value is not None}

    @classmethod
    def from_dict(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote; FormatError for anything else."""
        counts = {
            key: _integer(found, key)
            for key in ("checked", "missing", "unexpected")
            if key in found
        }
        severity = _text(found, "severity")
        if severity not in ("block", "warn"):
            raise FormatError("validation report: severity: expected block or warn")
        _only(found, {"type", "column", "severity", "success", *counts})
        return cls(
            type=_text(found, "type"),
            column=_text(found, "column"),
            severity=cast("Severity", severity),
            success=_truth(found, "success"),
            **counts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """The verdict on one table.

    Attributes:
        suite: The suite's name.
        suite_digest: `sha256:` and 64 hex digits over what the suite demands (`Suite.digest`).
        rows: Rows of the table.
        results: One for each expectation, in the suite's order.
    """

    suite: str
    suite_digest: str
    rows: int
    results: tuple[ExpectationResult, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing that blocks failed."""
        return bool(self.results) and not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Labels of failed expectations that block, in the suite's order."""
        return tuple(r.label for r in self.results if not r.success and r.severity == "block")

    @property
    def warned(self) -> tuple[str, ...]:
        """Labels of failed expectations that only warn."""
        return tuple(r.label for r in self.results if not r.success and r.severity == "warn")

    def to_dict(self) -> dict[str, object]:
        """A JSON object without floats and nulls."""
        return {
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "passed": self.passed,
            "rows": self.rows,
            "results": [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            FormatError: A field is missing, unknown or of another type, or `passed` contradicts
                the results.
        """
        _only(found, {"suite", "suite_digest", "passed", "rows", "results"})
        listed = found["results"]
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise FormatError("validation report: results: expected a list of objects")
        report = cls(
            suite=_text(found, "suite"),
            suite_digest=_text(found, "suite_digest"),
            rows=_integer(found, "rows"),
            results=tuple(ExpectationResult.from_dict(item) for item in listed),
        )
        if not _DIGEST.fullmatch(report.suite_digest):
            raise FormatError("validation report: suite_digest: expected sha256: and 64 hex digits")
        if _truth(found, "passed") != report.passed:
            raise FormatError("validation report: passed contradicts the results")
        return report


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What a checker found.

    Attributes:
        report: The verdict.
        failing_rows: Rows that a failed, blocking, row by row expectation points at; empty if
            there are none; None if they were not asked for.
    """

    report: ValidationReport
    failing_rows: RowSet | None = None


def already_passed(suite_digest: str, passed_suites: Iterable[str]) -> bool:
    """Whether a verdict may be taken from a verified statement about the very bytes at hand.

    Args:
        suite_digest: What the suite demands today, from `DataChecker.suite_digest`.
        passed_suites: The digests that the verified statement lists.
    """
    return bool(_DIGEST.fullmatch(suite_digest)) and suite_digest in set(passed_suites)


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins with these bytes (at least 4) is Parquet; if not, it is CSV."""
    return head[:4] == _PARQUET_MAGIC


def _only(found: Mapping[str, object], keys: set[str]) -> None:
    if set(found) != keys:
        raise FormatError(
            f"validation report: expected the fields {', '.join(sorted(keys))}, "
            f"found {len(found)} fields"
        )


def _text(found: Mapping[str, object], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise FormatError(f"validation report: {key}: expected text")
    return value


def _integer(found: Mapping[str, object], key: str) -> int:
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FormatError(f"validation report: {key}: expected an integer of at least 0")
    return value


def _truth(found: Mapping[str, object], key: str) -> bool:
    value = found.get(key)
    if not isinstance(value, bool):
        raise FormatError(f"validation report: {key}: expected true or false")
    return value
