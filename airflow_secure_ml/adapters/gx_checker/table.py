"""Read a table on disk into a frame whose row positions are its records' positions.

The format is told by content: scratch names say nothing and a name could lie. Whatever a reader
would silently mend (a surplus field, one name for two columns) is refused: the task's own reader
may mend it differently. Messages hold positions, never what the table holds.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from airflow_secure_ml.core.validation import is_parquet
from airflow_secure_ml.errors import PolicyError

_PLACE = re.compile(r"\b(?:line|row) \d+\b")


def not_checkable(problem: str) -> PolicyError:
    """The refusal of a table about which nothing can be said."""
    return PolicyError(f"cannot be checked: {problem}", why="not_checkable")


def read_frame(data: Path) -> Any:
    """Read CSV (UTF-8, comma, header) or Parquet.

    Returns:
        A pandas DataFrame, index 0 … rows-1, at least one row.

    Raises:
        PolicyError: It is neither (a directory, say), has no row, or could be read in two ways
            (not_checkable).
        FileNotFoundError: Nothing is there.
    """
    import pyarrow as pa

    if data.is_dir():
        raise not_checkable("expected one CSV or Parquet file, found a directory")
    with data.open("rb") as file:
        parquet = is_parquet(file.read(4))
        file.seek(0)
        try:
            frame = _read_parquet(file) if parquet else _read_csv(file)
        except (ValueError, TypeError, OverflowError, OSError, Warning, pa.ArrowException) as error:
            problem = _problem(error)
        else:
            problem = ""
    # Raised here and not above, so that the reader's words, which quote the data, are not chained.
    if problem:
        raise not_checkable(f"not a well-formed {'Parquet' if parquet else 'CSV'} table: {problem}")
    if len(frame) == 0:
        raise not_checkable("expected rows, found none")
    return frame


def _read_csv(file: BinaryIO) -> Any:
    import pandas as pd

    with warnings.catch_warnings():
        # A row that is longer than the header would lose its end with a warning only.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, index_col=False)
        _refuse_twins([name for name in header.iloc[0] if isinstance(name, str)])
        file.seek(0)
        # Without index_col=False, rows one longer than the header would shift by a column.
        return pd.read_csv(file, index_col=False, compression=None, low_memory=False)


def _read_parquet(file: BinaryIO) -> Any:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    _refuse_twins(table.column_names)
    # Metadata in the file may call a column an index, which would hide it.
    return table.replace_schema_metadata(None).to_pandas()


def _refuse_twins(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError("two columns of one name")


def _problem(error: Exception) -> str:
    if str(error) == "two columns of one name":
        return str(error)
    place = _PLACE.search(str(error))
    return type(error).__name__ + (f" at {place.group()}" if place else "")
