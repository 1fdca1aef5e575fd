"""A log in each store as tests see it, six leaves for it, and who has every right over it."""

from __future__ import annotations

import contextlib
import sqlite3

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader, PostgresAuditWriter
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.ports import Batch, NewLeaf
from airflow_secure_ml.core.audit.tree import leaf_hash
from tests.services.audit.conftest import Installation

ORIGIN = "example.org/asml-trail/00010203"
EMITTER = "ab" * 16
COLUMNS = (
    *("emitter", "seq", "time", "act", "result", "dag"),
    *("run", "task", "ti", "uri", "key", "lease"),
)
# Indices over what a leaf's text says: none could be kept while it is no text.
WRITTEN_OUT = ("leaf_digest", "leaf_version", "leaf_of", "leaf_by", "leaf_host")


def leaf(seq, *, time, act="object.open", result="ok", dag="churn", **fields):
    record = {"v": 1, "emitter": EMITTER, "seq": seq, "time": time, "mono": seq, "act": act}
    record |= {"phase": "seen" if result else "intent", **fields}
    if result:
        record["result"] = result
    if dag:
        record["run"] = {"dag": dag, "run": f"{dag}-run", "task": "train", "ti": f"ti-{seq % 2}"}
    data = canonical.encode(record)
    return NewLeaf(data=data, hash=leaf_hash(data), event=record)


LEAVES = [
    leaf(0, time=1000, act="emitter.open", dag=None),
    leaf(1, time=1000, result=None, object={"uri": "file:///a%b"}),
    leaf(2, time=1000, result="refused", why="digest_differs", object={"uri": "file:///a_b"}),
    leaf(3, time=900, act="object.seal", key={"name": "data"}),
    leaf(4, time=3_600_000, act="lease.grant", dag="sales", lease={"id": "sha256:" + "cd" * 32}),
    leaf(5, time=3_600_001, act="objects", dag="sales", more={"because": 'he said "Nö"'}),
]


def append(writer, leaves, **more):
    old = writer.edge()
    writer.append(
        Batch(old_size=old.size, leaves=leaves, edge=old.append(x.hash for x in leaves), **more)
    )


class SqliteStore:
    """A log in a file."""

    leaves = "leaf"
    subjects = None

    def __init__(self, path):
        self.path = path / "trail.db"

    def writer(self, origin):
        return SqliteAuditWriter(self.path, origin, subjects=self.subjects)

    def reader(self, query_s=None):
        return SqliteAuditReader(self.path, query_s=query_s, subjects=self.subjects)

    def edit(self, sql, *values):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(sql, values)
        connection.close()

    def put_bytes(self, index, data, digest=None):
        """Exchange a leaf's bytes, and its hash if one is given, whatever they are."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            self._plain(connection)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            text = "UPDATE leaf SET data = CAST(? AS TEXT) WHERE idx = ?"
            connection.execute(text, (data, index))
            if digest is not None:
                connection.execute("UPDATE leaf SET hash = ? WHERE idx = ?", (digest, index))
            self._declare(connection, self._declared)

    def _plain(self, connection):
        """What is computed from a leaf would refuse what is not JSON."""
        found = "SELECT sql FROM sqlite_schema WHERE name = 'leaf'"
        (self._declared,) = connection.execute(found).fetchone()
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall():
            connection.execute(f"DROP INDEX {name}")
        self._declare(connection, "CREATE TABLE leaf(idx INTEGER PRIMARY KEY, data, hash BLOB)")

    def _declare(self, connection, sql):
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'leaf'", (sql,))


class PostgresStore:
    """A log in a database."""

    leaves = "asml_trail.leaf"
    subjects = None

    def __init__(self, place):
        self.place = place

    def writer(self, origin):
        return PostgresAuditWriter(self.place.login(), origin, subjects=self.subjects)

    def reader(self, query_s=None):
        login = self.place.login("trail_reader")
        return PostgresAuditReader(login, query_s=query_s, subjects=self.subjects)

    def edit(self, sql, *values):
        for word in ("UPDATE", "FROM", "INTO"):
            sql = sql.replace(f"{word} ", f"{word} asml_trail.")
        self.place.query(sql.replace("?", "%s"), values)

    def put_bytes(self, index, data, digest=None):
        """Exchange a leaf's bytes, and its hash if one is given, whatever they are."""
        for name in WRITTEN_OUT:
            self.place.query(f"DROP INDEX IF EXISTS asml_trail.{name}")
        for column in COLUMNS:
            self.place.query(
                f"ALTER TABLE asml_trail.leaf ALTER {column} DROP EXPRESSION IF EXISTS"
            )
        # A text of any bytes: no statement makes one, who owns the server can.
        self.place.query("ALTER TABLE asml_trail.leaf ALTER data TYPE bytea USING textsend(data)")
        self.place.query("UPDATE asml_trail.leaf SET data = %s WHERE idx = %s", (data, index))
        self.place.query(
            "SET allow_system_table_mods = on; UPDATE pg_attribute SET atttypid = 'text'::regtype, "
            "attcollation = 950 WHERE attrelid = 'asml_trail.leaf'::regclass AND attname = 'data'"
        )
        if digest is not None:
            self.place.query("UPDATE asml_trail.leaf SET hash = %s WHERE idx = %s", (digest, index))


class Site(Installation):
    """An installation whose log lies in a store of the test's choice."""

    def __init__(self, path, store):
        super().__init__(path)
        self.store = store

    def start(self, *, log=None, segments=None):
        return super().start(log=log or self.store.writer(self.origin), segments=segments)

    def reader(self):
        return self.store.reader()
