"""Open sessions with PostgreSQL in which nothing of the login's own settings decides.

The password stays in libpq's pass file: it is never read here.

Source: libpq, "Parameter Key Words"; PostgreSQL, "Client Connection Defaults".
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit import schema
from airflow_secure_ml.adapters.postgres_audit.address import StoreAddress
from airflow_secure_ml.adapters.postgres_audit.failures import as_login_failure, psycopg, translated
from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import Connection

MAX_IDLE = 4
OLDEST = 130000
# A server that is gone is noticed within a minute, and lets go of a dead client's lock as soon.
_WATCH = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# search_path: no object of ours is found by it, and none that somebody put before a built-in one.
# row_security: a policy that hides rows is then an error.
_SESSION = (
    "SET search_path = pg_catalog, pg_temp; SET row_security = off; SET jit = off; "
    "SET statement_timeout = 0; SET lock_timeout = 10000; "
    "SET idle_in_transaction_session_timeout = 0; "
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How a log in PostgreSQL is reached.

    Attributes:
        address: Where it is.
        passfile: libpq's pass file; None: the login needs no password.
    """

    address: StoreAddress
    passfile: Path | None = None


def connect(login: Login, *, writes: bool) -> Connection[Any]:
    """Open a session with a database that holds a log's tables; arguments as in `open_session`.

    Raises:
        ConfigurationError: There are no such tables; or as in `open_session`, as all the others.
    """
    connection = open_session(login, writes=writes)
    try:
        with translated("connect"):
            row = connection.execute("SELECT to_regnamespace(%s)", [schema.NAME]).fetchone()
        if row is None or row[0] is None:
            raise ConfigurationError(
                f"audit_store: {login.address}: it holds no log's tables; make them by `airflow db "
                "migrate` or `secure-ml audit migrate`"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def open_session(login: Login, *, writes: bool) -> Connection[Any]:
    """Open a session in which every statement is a transaction of its own.

    Args:
        login: Where, and as whom.
        writes: Whether it may change anything.

    Raises:
        ConfigurationError: No such database, a pass file that others can read, or a server that
            cannot hold a log.
        ServiceUnavailableError: It does not answer.
        ServiceRefusedError: It does not let this login in.
        MissingExtraError: psycopg is not installed.
    """
    if login.passfile is not None:
        _check_private(login.passfile)
    library = psycopg()
    try:
        connection: Connection[Any] = library.connect(
            autocommit=True, prepare_threshold=5 if writes else None, **_parameters(login, writes)
        )
    except library.Error as error:
        raise as_login_failure(error) from error
    try:
        with translated("connect"):
            mode = "off" if writes else "on"
            connection.execute(f"{_SESSION}SET default_transaction_read_only = {mode}")
            _check_server(connection, login)
    except BaseException:
        connection.close()
        raise
    return connection


class IdleSessions:
    """Sessions for reading that are used again; safe from many threads, and after a fork.

    Args:
        login: Where, and as whom.
        query_s: How long one statement may take, seconds; None: as long as it takes.
    """

    def __init__(self, login: Login, query_s: float | None) -> None:
        self._login, self._query_s = login, query_s
        self._lock = threading.Lock()
        self._idle: list[tuple[int, Connection[Any]]] = []

    @contextmanager
    def lent(self) -> Iterator[Connection[Any]]:
        """A session; errors as in `connect`."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append((os.getpid(), connection))
                return
        connection.close()

    def _take(self) -> Connection[Any]:
        while True:
            with self._lock:
                if not self._idle:
                    break
                pid, connection = self._idle.pop()
            # Of a parent process: the same socket in two processes would mix their answers.
            if pid == os.getpid() and _answers(connection):
                return connection
        connection = connect(self._login, writes=False)
        if self._query_s is not None:
            with translated("connect"):
                limit_ms = max(1, int(self._query_s * 1000))
                connection.execute(f"SET statement_timeout = {limit_ms}")
        return connection


def _answers(connection: Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg().Error:
        connection.close()
        return False
    return True


def _parameters(login: Login, writes: bool) -> dict[str, Any]:
    address = login.address
    found: dict[str, Any] = {
        "host": ",".join(name for name, _ in address.hosts),
        "port": ",".join(str(port) for _, port in address.hosts),
        "dbname": address.database,
        "sslmode": address.tls,
        "application_name": "airflow_secure_ml",
        "client_encoding": "UTF8",
        "target_session_attrs": "read-write" if writes else "any",
        **_WATCH,
        **address.files,
    }
    if address.user:
        found["user"] = address.user
    if login.passfile is not None:
        found["passfile"] = str(login.passfile)
    return found


def _check_private(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"audit_store_passfile: {path}: {error.strerror}; expected a pass file of libpq's"
        ) from error
    # libpq would pass over it with a warning that nobody reads.
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise ConfigurationError(
            f"audit_store_passfile: {path}: mode {status.st_mode & 0o777:04o}; expected a file "
            "that its owner alone can read, mode 0600"
        )


def _check_server(connection: Connection[Any], login: Login) -> None:
    if connection.info.server_version < OLDEST:
        raise ConfigurationError(
            f"audit_store: {login.address}: PostgreSQL {connection.info.server_version // 10000}; "
            f"expected {OLDEST // 10000} or later"
        )
    row = connection.execute("SELECT current_setting('server_encoding')").fetchone()
    if row is None or row[0] != "UTF8":
        raise ConfigurationError(
            f"audit_store: {login.address}: its encoding is not UTF8, in which an event's bytes "
            "stay what they are; make the database with ENCODING 'UTF8'"
        )
