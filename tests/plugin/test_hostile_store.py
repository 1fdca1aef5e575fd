"""Somebody with every right over the store: what they put into it, a page says in its own words."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.plugin import access
from airflow_secure_ml.plugin.access import Right, Scope, scope_of
from airflow_secure_ml.plugin.app import create_app

TABLES = ("log", "leaf", "tile", "emitter", "checkpoint", "aside")
# By parameter; every other required one is this text.
ASKED = {"key": "data", "system": "local", "kind": "dag", "direction": "both"}
ATTACKS = {
    "a size in words": "UPDATE log SET size = 'many'",
    "a size below 0": "UPDATE log SET size = -1",
    "a size beyond all": "UPDATE log SET size = 9223372036854775807",
    "no size": "UPDATE log SET size = NULL",
    "a name of bytes": "UPDATE log SET origin = x'ff00'",
    "no name": "UPDATE log SET origin = NULL",
    "an edge in words": "UPDATE log SET edge = 'edge'",
    "no row": "DELETE FROM log",
    "leaves that are a number": "UPDATE leaf SET data = '5' WHERE idx % 3 = 0",
    "leaves that are empty objects": "UPDATE leaf SET data = '{}'",
    "leaves whose time is a text": "UPDATE leaf SET data = json_set(data, '$.time', 'now')",
    "leaves whose seq is a list": "UPDATE leaf SET data = json_set(data, '$.seq', json('[1]'))",
    "a hash that is a number": "UPDATE leaf SET hash = 5",
    "tiles that are words": "UPDATE tile SET hashes = 'hashes'",
    "a note that is a number": "UPDATE checkpoint SET note = 5",
    "a note of bytes": "UPDATE checkpoint SET note = x'ff00'",
    "a note in words": "UPDATE checkpoint SET note = 'signed'",
    "emitters of another kind": "UPDATE emitter SET state = 5, next_seq = 'x', last_ms = x'00'",
    "values that are numbers": "UPDATE aside SET salt = 5, value = 6, subject = 7",
}


@pytest.fixture(scope="module")
def client():
    app = create_app()
    scope = Scope(user="ada", dags=None, rights=frozenset(Right))
    app.dependency_overrides[scope_of] = lambda: scope
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


def pages(app):
    """Addresses of the pages that show something of the log, by what each needs."""
    for route in app.routes:
        is_page = isinstance(route, APIRoute) and "GET" in route.methods and not route.dependencies
        if is_page and route.path not in {"/", "/static/{name}"}:
            needed = [each.alias for each in route.dependant.query_params]
            required = {
                each.alias for each in route.dependant.query_params if each.field_info.is_required()
            }
            yield route.path, {name: ASKED.get(name, "") for name in needed if name in required}


def alter(path, statement):
    """Make the store hold what its tables do not allow."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        indices = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        for (name,) in connection.execute(indices).fetchall():
            connection.execute(f'DROP INDEX "{name}"')
        connection.execute("PRAGMA writable_schema = ON")
        loosened = "replace(replace(sql, ' STRICT', ''), ' NOT NULL', '')"
        connection.execute(f"UPDATE sqlite_schema SET sql = {loosened} WHERE type = 'table'")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("statement", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_value_of_a_store_keeps_a_page_from_saying_what_is_wrong(
    client, trail, monkeypatch, statement
):
    monkeypatch.setattr(access.conf, "get_mandatory_value", lambda *names: "secret")
    client.app.state.trail = trail
    event = trail.store.leaf(40)
    name = f"{event.event['emitter']}:{event.event['seq']}"
    alter(trail.settings.audit_dir / LOG_FILE, statement)

    for path, needed in pages(client.app):
        asked = {key: value or name for key, value in needed.items()}
        answer = client.get(path, params=asked)

        about = f"{path} {asked}: {answer.status_code} {answer.text[:500]}"
        assert answer.text != "Internal Server Error", about
        assert "default-src 'none'" in answer.headers["content-security-policy"], about
        if answer.status_code >= 500 and "html" in answer.headers["content-type"]:
            assert "could not be" in answer.text, about
