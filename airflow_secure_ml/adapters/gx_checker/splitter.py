"""Part a table's rows into two files: CSV record by record and byte for byte, Parquet by batches.

Which rows go where was decided by a checker; what is a record is told as pandas tells it, so that
positions mean the same (a blank line is none).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_secure_ml.core.validation import RowSet, is_parquet
from airflow_secure_ml.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BOM = "\xef\xbb\xbf"


class TableSplitter:
    """The RowSplitter for files."""

    def split(self, data: Path, rows: RowSet, *, good: Path, bad: Path) -> tuple[int, int]:
        """Write the rows in `rows` to `bad` and the others to `good`, both new, in order.

        A CSV's header goes to both; records are copied as they are. Parquet keeps its schema.

        Returns:
            How many rows went to `good` and to `bad`.

        Raises:
            PolicyError: The table cannot be parted (`why` not_checkable).
            FileExistsError: Something is at `good` or `bad`.
        """
        with data.open("rb") as source, _new(good) as kept, _new(bad) as parted:
            parquet = is_parquet(source.read(4))
            source.seek(0)
            split = _split_parquet if parquet else _split_csv
            return split(source, rows, kept, parted)


def _new(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _split_csv(source: BinaryIO, rows: RowSet, good: BinaryIO, bad: BinaryIO) -> tuple[int, int]:
    # Latin-1 maps each byte to one character and back, so nothing is altered by decoding.
    text = io.TextIOWrapper(source, encoding="latin-1", newline="")
    counts, position, header_seen = [0, 0], 0, False
    try:
        for record in _records(text):
            raw = record.encode("latin-1")
            if not record.strip(" \t\r\n"):
                good.write(raw)
            elif not header_seen:
                header_seen = True
                good.write(raw)
                bad.write(raw)
            else:
                failing = position in rows
                (bad if failing else good).write(raw)
                counts[failing] += 1
                position += 1
    except csv.Error:
        problem = f"cannot be parted: record {position + 1} is not well-formed CSV"
    else:
        return counts[0], counts[1]
    finally:
        text.detach()
    # Not chained: a reader's words may quote the record.
    raise PolicyError(problem, why="not_checkable")


def _records(lines: Iterable[str]) -> Iterator[str]:
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for number, line in enumerate(lines):
            taken.append(line)
            # Before a quoted name, a byte order mark would hide the quote.
            yield line.removeprefix(_BOM) if number == 0 else line

    for _ in csv.reader(feed()):
        yield "".join(taken)
        taken.clear()


def _split_parquet(
    source: BinaryIO, rows: RowSet, good: BinaryIO, bad: BinaryIO
) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts, start, problem = [0, 0], 0, ""
    try:
        table = pq.ParquetFile(source)
        schema: Any = table.schema_arrow
        with pq.ParquetWriter(good, schema) as kept, pq.ParquetWriter(bad, schema) as parted:
            for batch in table.iter_batches():
                failing = [start + offset in rows for offset in range(batch.num_rows)]
                start += batch.num_rows
                for side, writer in enumerate((kept, parted)):
                    mask = pa.array([fails == bool(side) for fails in failing], pa.bool_())
                    chosen = batch.filter(mask)
                    counts[side] += chosen.num_rows
                    if chosen.num_rows:
                        writer.write_batch(chosen)
    except (pa.ArrowException, ValueError) as error:
        problem = f"cannot be parted: not a well-formed Parquet table: {type(error).__name__}"
    if problem:
        raise PolicyError(problem, why="not_checkable")
    return counts[0], counts[1]
