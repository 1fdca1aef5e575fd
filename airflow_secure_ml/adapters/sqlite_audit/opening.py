"""Open a log's file for reading alone, with an end to what may be asked of it.

Source: SQLite, "Query Progress Callbacks".
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.adapters.sqlite_audit import schema
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

BUSY_S = 10.0
# SQLite's steps between two looks at the clock.
STEPS = 1000


@contextmanager
def open_log(path: Path, *, query_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Open a log's file as SQLite, for reading alone.

    Args:
        path: The file.
        query_s: How long what is asked may take, seconds; None: as long as it takes.

    Raises:
        ConfigurationError: There is no such file.
        AuditLogError: It is not a database, or a damaged one.
        ServiceUnavailableError: It cannot be read now.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"audit log {path}: no such file; the sequencer makes it when the first event comes"
        )
    address = f"{path.resolve().as_uri()}?mode=ro"
    with schema.translated(f"audit log {path}", "read"):
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
        limit(connection, None if query_s is None else time.monotonic() + query_s)
        try:
            yield connection
        except sqlite3.OperationalError as error:
            if query_s is None or error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise ServiceUnavailableError(
                service="audit log",
                action="read",
                reason=f"it took longer than {query_s:.0f} s; ask for less, such as a DAG or a day",
                why="audit_unavailable",
            ) from error
        finally:
            connection.close()


def limit(connection: sqlite3.Connection, due_s: float | None) -> None:
    """Break off what is not done by then, `time.monotonic()`; None: let it take its time."""
    if due_s is None:
        connection.set_progress_handler(None, 0)
    else:
        connection.set_progress_handler(lambda: time.monotonic() >= due_s, STEPS)
