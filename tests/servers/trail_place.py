"""Databases for audit logs on one PostgreSQL that keeps what it confirms, and their logins."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_secure_ml.adapters.postgres_audit import Login, parse_address
from airflow_secure_ml.adapters.postgres_audit.connecting import connect
from airflow_secure_ml.adapters.postgres_audit.schema import FORMATS, differing
from airflow_secure_ml.migrations.applying import migrate
from dags_examples.demo.postgres_server import RunningPostgres, find_postgres

# Login: the role it is a member of; the owner's is none.
LOGINS = {
    "trail_owner": None,
    "trail_sequencer": "asml_sequencer",
    "trail_reader": "asml_reader",
    "trail_worker": "asml_worker",
}
DATABASE = "trail"
TABLES = ("log", "leaf", "tile", "emitter", "checkpoint", "aside", "inbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPlace:
    """One database.

    Attributes:
        server: Where it is.
        database: Its name.
        passfile: The passwords of all its logins, as libpq reads them.
        passwords: The same, by login.
    """

    server: RunningPostgres
    database: str
    passfile: Path
    passwords: dict[str, str] = field(repr=False)

    def address(self, user: str = "trail_sequencer") -> str:
        """The text of audit_store."""
        return f"postgresql://{user}@{self.server.host}:{self.server.port}/{self.database}"

    def login(self, user: str = "trail_sequencer") -> Login:
        return Login(address=parse_address(self.address(user)), passfile=self.passfile)

    def query(self, sql: str, values: Any = (), *, user: str = "") -> list[tuple[Any, ...]]:
        """One statement by the superuser, or by one of the logins."""
        return self.server.query(
            sql, values, user=user, password=self.passwords.get(user, ""), database=self.database
        )


class TrailServer:
    """A PostgreSQL with a log's roles and logins, and an empty log to copy.

    Args:
        server: One that runs, with fsync.
        folder: Where the pass file goes.
    """

    def __init__(self, server: RunningPostgres, folder: Path) -> None:
        self.server, self.passfile = server, folder / "pgpass"
        self.passwords = {name: secrets.token_hex(12) for name in LOGINS}
        self._numbers = itertools.count(1)
        lines = [f"*:*:*:{name}:{word}\n" for name, word in self.passwords.items()]
        self.passfile.touch(mode=0o600)
        self.passfile.write_text("".join(lines))
        for role in filter(None, LOGINS.values()):
            server.query(f"CREATE ROLE {role} NOLOGIN")
        for name, role in LOGINS.items():
            server.query(f"CREATE ROLE {name} LOGIN PASSWORD '{self.passwords[name]}'")
            if role:
                server.query(f"GRANT {role} TO {name}")
        server.query(f"CREATE DATABASE {DATABASE} OWNER trail_owner")
        migrate(self._place(DATABASE).login("trail_owner"))

    def empty(self) -> TrailPlace:
        """A database with nothing in it."""
        name = f"trail_{next(self._numbers)}"
        self.server.query(f"CREATE DATABASE {name} OWNER trail_owner")
        return self._place(name)

    def fresh(self) -> TrailPlace:
        """The one database whose log is empty again, whatever the last test did to it."""
        place = self._place(DATABASE)
        place.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s "
            "AND pid <> pg_backend_pid()",
            [DATABASE],
        )
        # Making a database takes a hundred times as long.
        connection = connect(place.login("trail_owner"), writes=True)
        is_whole = not differing(connection, FORMATS[-1])
        connection.close()
        if is_whole:
            place.query("".join(f"DELETE FROM asml_trail.{name};" for name in TABLES))
        else:
            place.query("DROP SCHEMA asml_trail CASCADE")
            migrate(place.login("trail_owner"))
        return place

    def drop(self, place: TrailPlace) -> None:
        self.server.query(f"DROP DATABASE {place.database} WITH (FORCE)")

    def _place(self, name: str) -> TrailPlace:
        return TrailPlace(
            server=self.server, database=name, passfile=self.passfile, passwords=self.passwords
        )


@contextmanager
def running(
    folder: Path, options: Mapping[str, str] = MappingProxyType({})
) -> Iterator[TrailServer]:
    """Run such a server for as long as the block lasts; options: more settings of it."""
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    with RunningPostgres(
        binaries=find_postgres(), folder=folder / "server", options={**durable, **options}
    ) as server:
        yield TrailServer(server, folder)
