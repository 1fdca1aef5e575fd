"""Hidden values in the open on a real PostgreSQL: who may erase them, and that they are gone."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader
from airflow_secure_ml.adapters.postgres_audit.erasing import PostgresEraser
from airflow_secure_ml.core.redaction import hidden_hash
from airflow_secure_ml.errors import ServiceRefusedError
from tests.contracts.audit_stores import LEAVES, ORIGIN, PostgresStore, append

pytestmark = pytest.mark.postgres
SALT = bytes(range(16))


@pytest.fixture
def told(trail_place):
    """A log beside which the names of two people lie in the open."""
    with PostgresStore(trail_place).writer(ORIGIN) as writer:
        append(writer, LEAVES)
    for name in ("maria.keller", "jonas.brandt"):
        trail_place.query(
            "INSERT INTO asml_trail.aside(h, salt, value) VALUES (%s, %s, %s)",
            (hidden_hash(name, SALT), SALT, name),
        )
    return trail_place


def names(place):
    reader = PostgresAuditReader(place.login("trail_reader"))
    return [reader.reveal(hidden_hash(name, SALT)) for name in ("maria.keller", "jonas.brandt")]


def test_the_owner_erases_one_person_and_nobody_else(told):
    eraser = PostgresEraser(told.login("trail_owner"))

    assert eraser.erase_asides(None, "maria.keller") == 1
    assert names(told) == [None, "jonas.brandt"]
    assert eraser.erase_asides(None, "maria.keller") == 0


@pytest.mark.parametrize("user", ["trail_sequencer", "trail_reader"])
def test_who_may_not_remove_rows_is_told_so_and_removes_none(told, user):
    with pytest.raises(ServiceRefusedError):
        PostgresEraser(told.login(user)).erase_asides(None, "maria.keller")

    assert names(told) == ["maria.keller", "jonas.brandt"]
