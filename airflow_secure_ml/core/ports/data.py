"""Ports to tables: hold them against expectations, and part their rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_secure_ml.core.validation import CheckOutcome, RowSet, SuiteSource


class DataChecker(Protocol):
    """Something that holds data against expectations."""

    def suite_digest(self, suite: SuiteSource) -> str:
        """What the suite demands, as `sha256:…`; reads a file, calls a callable.

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
        """

    def check(self, data: Path, suite: SuiteSource, *, find_rows: bool) -> CheckOutcome:
        """Check a table on disk (CSV or Parquet, told apart by content).

        Args:
            data: The table's path.
            suite: Where the expectations come from.
            find_rows: Whether the positions of failing rows are wanted (quarantine).

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
            PolicyError: It cannot be checked (`why` not_checkable); a gate must not open then.
        """


class RowSplitter(Protocol):
    """Something that parts a table's rows into two files of the same format."""

    def split(self, data: Path, rows: RowSet, *, good: Path, bad: Path) -> tuple[int, int]:
        """Write the rows in `rows` to `bad` and the others to `good`, both new, in order.

        Returns:
            How many rows went to `good` and to `bad`.

        Raises:
            PolicyError: The table cannot be parted (`why` not_checkable).
            FileExistsError: Something is at `good` or `bad`.
        """
