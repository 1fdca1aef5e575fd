"""What keys of columns cost: written and read beside the same table sealed whole, and plain.

Parquet Modular Encryption as Arrow itself does it is the peer. A column of 26 is read from a file
that is sealed whole, to see how much of it is fetched.
"""

from __future__ import annotations

import base64
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import kek
from benchmarks.measuring import column, in_turns, median_ratio, say, spent

if TYPE_CHECKING:
    import pyarrow as pa

URI = "file:///lake/people.parquet"
CONTEXT = {"object": URI}
NAMES = [f"c{number:02}" for number in range(26)]
# Two columns of personal data have a key of their own.
KEYED = {"c01": "pii", "c02": "pii"}
# Of random numbers, which no encoding makes small.
ONE = "c11"
DOINGS = {"write": "written", "read": "read"}


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Wall and CPU seconds by doing and way, round by round; the share that a column fetches."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="secure-ml-bench-") as name:
        return _measure(Path(name), quick=quick)


def _measure(place: Path, *, quick: bool) -> dict[str, Any]:
    rows_, rounds = (40_000, 2) if quick else (1_000_000, 5)
    say(f"parquet: making {rows_} rows")
    bench, arrow = _Bench(_table(rows_), place), _Arrow(place)
    works: dict[str, dict[str, Callable[[], object]]] = {
        "write": {
            "plain": bench.write,
            "whole": bench.seal_whole,
            "columns": bench.seal_columns,
            "arrow": lambda: arrow.write(bench.table),
        },
        "read": {
            "plain": bench.read,
            "whole": bench.open_whole,
            "columns": bench.open_columns,
            "arrow": arrow.read,
        },
    }
    found = {
        doing: in_turns(
            {name: lambda work=work: spent(work) for name, work in ways.items()},
            rounds,
            f"parquet: {doing}",
        )
        for doing, ways in works.items()
    }
    return {
        "rows": rows_,
        "columns": len(NAMES),
        "keyed": len(KEYED),
        "file_bytes": bench.plain.stat().st_size,
        "rounds": found,
        "fetched": bench.fetched(),
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    from benchmarks.tables import size_in_words

    table = f"Parquet, {size_in_words(found['file_bytes'])}, {found['columns']} columns"
    lines = []
    for doing, label in DOINGS.items():
        rounds = found["rounds"][doing]
        over = _percent(rounds, "columns", "whole")
        taken = statistics.median(column(rounds["columns"], "cpu_s"))
        lines.append(
            (
                f"{table}: {label} with keys for {found['keyed']} of them, over sealed whole",
                f"{over:+.0f} % of CPU ({taken:.2f} s)",
                f"over plain: {_percent(rounds, 'columns', 'plain'):+.0f} %; "
                f"Arrow's own encryption, over plain: {_percent(rounds, 'arrow', 'plain'):+.0f} %",
                f"≤ 10 %: {'met' if over <= 10 else '**missed**'}",
            )
        )
    share = 100 * found["fetched"]
    lines.append(
        (
            f"one column of {found['columns']}, from a file that is sealed whole",
            f"{share:.1f} % fetched",
            "the rest stays where it is",
            f"≤ 8 %: {'met' if share <= 8 else '**missed**'}",
        )
    )
    return lines


def _percent(rounds: Mapping[str, Any], name: str, reference: str) -> float:
    ratio = median_ratio(column(rounds[name], "cpu_s"), column(rounds[reference], "cpu_s"))
    return 100 * (ratio - 1)


def _table(count: int) -> pa.Table:
    """Numbers, texts, dates and categories, by turns, as tables are; the same each time."""
    import numpy as np
    import pyarrow as pa

    noise = np.random.default_rng(5)
    makers: list[Callable[[], Any]] = [
        lambda: noise.integers(0, 1 << 40, count),
        lambda: noise.normal(size=count),
        lambda: noise.integers(0, 1 << 30, count).astype(str),
        lambda: noise.choice(["red", "green", "blue", "none"], count),
        lambda: noise.integers(0, 20_000, count).astype("datetime64[D]"),
    ]
    return pa.table(
        {name: pa.array(makers[number % len(makers)]()) for number, name in enumerate(NAMES)}
    )


class _Bench:
    """Our two ways and the plain one, in files in memory, where secured tasks have theirs."""

    def __init__(self, table: pa.Table, folder: Path) -> None:
        from airflow_secure_ml.adapters.local_objects import LocalObjects

        self.table, self.store = table, LocalObjects()
        self.plain, self._copy, self._opened = (
            folder / name for name in ("plain", "copy", "opened")
        )
        self._sealed, self._columns = folder / "sealed", folder / "columns"

    def _open(self, path: Path) -> Any:
        return self.store.open(self.store.canonical(str(path)))

    @contextmanager
    def _create(self, path: Path) -> Iterator[Any]:
        with self.store.create(self.store.canonical(str(path))) as writer:
            yield writer
            writer.commit(replace=True)

    def write(self) -> None:
        import pyarrow.parquet as pq

        pq.write_table(self.table, self.plain)

    def seal_whole(self) -> None:
        from airflow_secure_ml.services.sealing import seal_object

        self.write()
        with self._open(self.plain) as source, self._create(self._sealed) as writer:
            seal_object(source, writer, keys=[kek()], context=CONTEXT)

    def seal_columns(self) -> None:
        from airflow_secure_ml.services.parquet_sealing import ColumnKeys, NamedKey, seal_parquet

        self.write()
        named = {at: NamedKey(name=name, wrapper=kek()) for at, name in KEYED.items()}
        footer = NamedKey(name="data", wrapper=kek())
        with (
            ColumnKeys(URI, footer, named) as keys,
            self._open(self.plain) as source,
            self._create(self._columns) as writer,
        ):
            seal_parquet(source, writer, keys=keys)

    def read(self, path: Path | None = None) -> None:
        import pyarrow.parquet as pq

        assert pq.read_table(path or self.plain).num_rows == len(self.table)

    def open_whole(self) -> None:
        from airflow_secure_ml.services.sealing import open_object

        with self._open(self._sealed) as source, self._create(self._opened) as writer:
            open_object(source, writer, keys=[kek()], expect=CONTEXT)
        self.read(self._opened)

    def open_columns(self) -> None:
        """Copied and digested first, as a secured task does it."""
        from airflow_secure_ml.adapters.parquet import arrow_fields
        from airflow_secure_ml.services.parquet_keys import ReaderKeys
        from airflow_secure_ml.services.parquet_opening import choose, open_columns, read_columns
        from airflow_secure_ml.services.plain import copy_plain

        with self._open(self._columns) as source, self._create(self._copy) as writer:
            copy_plain(source, writer, "", algorithm="sha256")
        with (
            ReaderKeys(URI, [kek()]) as keys,
            self._open(self._copy) as source,
            self._create(self._opened) as writer,
        ):
            columns = read_columns(source, keys)
            keep = choose(columns, ())
            open_columns(source, writer, columns, keys, keep=keep, arrow_fields=arrow_fields)
        self.read(self._opened)

    def fetched(self) -> float:
        """The share of a sealed file's bytes that reading one column of it fetches."""
        import pyarrow.parquet as pq

        from airflow_secure_ml.services.sealed_reader import SealedReader

        with self._open(self._sealed) as opened:
            pinned = _Counting(opened)
            with SealedReader(pinned, keys=[kek()], expect=CONTEXT) as file:
                pq.ParquetFile(file).read(columns=[ONE])
            return float(pinned.fetched / pinned.size_bytes)


class _Counting:
    """A pinned object that counts what is fetched of it."""

    def __init__(self, pinned: Any) -> None:
        self._pinned, self.fetched = pinned, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pinned, name)

    def read_at(self, offset: int, length: int) -> bytes:
        data: bytes = self._pinned.read_at(offset, length)
        self.fetched += len(data)
        return data

    def readinto_at(self, offset: int, buffer: memoryview) -> int:
        count: int = self._pinned.readinto_at(offset, buffer)
        self.fetched += count
        return count


class _Arrow:
    """Parquet Modular Encryption by Arrow itself, its keys held here; into a file of `folder`."""

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet.encryption as pe

        class Here(pe.KmsClient):  # type: ignore[misc] # an untyped package
            def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
                return base64.b64encode(key_bytes)

            def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
                return base64.b64decode(wrapped_key)

        self._path, self._kms = folder / "arrow.parquet", pe.KmsConnectionConfig()
        self._factory = pe.CryptoFactory(lambda config: Here())
        self._pe = pe

    def write(self, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        how = self._pe.EncryptionConfiguration(
            footer_key="data",
            column_keys={"pii": list(KEYED), "data": [n for n in NAMES if n not in KEYED]},
            encryption_algorithm="AES_GCM_V1",
            data_key_length_bits=256,
        )
        properties = self._factory.file_encryption_properties(self._kms, how)
        with pq.ParquetWriter(self._path, table.schema, encryption_properties=properties) as out:
            out.write_table(table)

    def read(self) -> None:
        import pyarrow.parquet as pq

        properties = self._factory.file_decryption_properties(self._kms)
        file = pq.ParquetFile(self._path, decryption_properties=properties)
        assert file.read().num_columns == len(NAMES)
