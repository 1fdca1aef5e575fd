"""Which keys the columns of an output get, and which of its files are data.

Encrypting is `parquet_sealing`'s part, staging and publishing that of `secured_outputs`.

Source: API; docs/parquet.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.key_choice import sealing_keys
from airflow_secure_ml.services.parquet_sealing import ColumnKeys, NamedKey
from airflow_secure_ml.services.run_plan import Output


def column_keys(work: Work, item: Output, footer: str) -> ColumnKeys:
    """The keys of an output with `columns=`; nothing is wrapped yet.

    Args:
        work: The run.
        item: What was declared.
        footer: Name of the key of the footer and of the columns that are not named.

    Raises:
        PolicyError: A rule forbids a key, or it is missing, disabled or destroyed; or the address
            says values of a column.
        ConfigurationError: A name stands for several keys.
    """
    check_folders(item, item.uri)
    rules = work.desk.rules
    for column, name in item.columns.items():
        denial = None if rules is None else rules.column_denial(item.uri, name)
        if denial is not None:
            raise PolicyError(f"{item.name}: column {column!r}: {denial}", why="key_not_allowed")
    columns = {column: _named(work, item, name) for column, name in item.columns.items()}
    return ColumnKeys(item.uri, _named(work, item, footer), columns)


def data_files(
    work: Work, item: Output, files: Iterator[tuple[str, Path]]
) -> Iterator[tuple[str, Path]]:
    """The files of a directory that are data.

    By Hadoop's custom names with `_` or `.` in front are not: checksums and summaries, which say in
    the open what the columns hold.
    """
    for path, place in files:
        check_folders(item, path)
        if any(part.startswith(("_", ".")) for part in path.split("/")):
            work.journal.tell(f"{item.name}: {path} is no data and is not published")
        else:
            yield path, place


def check_folders(item: Output, path: str) -> None:
    """Refuse Hive's folders, named by values, of a column that has a key.

    Raises:
        PolicyError: `ssn=123` in a path, for one (output_unexpected).
    """
    keyed = {column.casefold() for column in item.columns}
    for part in path.split("/"):
        name, equals, _ = part.partition("=")
        if equals and unquote(name).casefold() in keyed:
            raise PolicyError(
                f"{item.name}: names of folders say in the open what column {unquote(name)!r} "
                "holds, which has a key of its own; partition by another column",
                why="output_unexpected",
            )


def tell_columns(
    work: Work, facts: dict[str, object], refs: Sequence[KeyRef], since: float
) -> None:
    """Record under which keys columns were encrypted, besides the file's own."""
    for ref in refs:
        work.journal.did("object.seal", since=since, object=facts, key=key_facts(ref))


def _named(work: Work, item: Output, name: str) -> NamedKey:
    wrappers = sealing_keys(work.desk.keys, [name])
    if len(wrappers) != 1:
        raise ConfigurationError(
            f"{item.name}: {name} stands for {len(wrappers)} keys, and a Parquet column has one; "
            "name one key"
        )
    return NamedKey(name=name, wrapper=wrappers[0])
