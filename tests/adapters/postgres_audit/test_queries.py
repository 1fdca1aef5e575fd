"""Which index PostgreSQL takes for what pages ask."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditWriter
from airflow_secure_ml.adapters.postgres_audit.connecting import connect
from airflow_secure_ml.adapters.postgres_audit.queries import where
from airflow_secure_ml.core.audit.query import EventQuery
from tests.contracts.audit_stores import LEAVES, ORIGIN, append

pytestmark = pytest.mark.postgres
DIGEST = "sha256:" + "ab" * 32
QUESTIONS = {
    "leaf_by": {"by": "ada"},
    "leaf_digest": {"digest": DIGEST},
    "leaf_version": {"key": "data", "version": "3"},
    "leaf_of": {"of": f"{'ab' * 16}:3"},
    "leaf_host": {"host": "worker-1"},
    "leaf_lease": {"lease": DIGEST},
    "leaf_dag": {"dag": "churn"},
    "leaf_act": {"acts": ("object.open",)},
}


def test_pages_use_an_index(trail_place):
    with PostgresAuditWriter(trail_place.login(), ORIGIN) as writer:
        append(writer, LEAVES)
    connection = connect(trail_place.login("trail_reader"), writes=False)
    # Six leaves are read faster than any index of theirs.
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    found = {}
    for name, asked in QUESTIONS.items():
        condition, values = where(EventQuery(**asked), lambda by: ["ab" * 32], lambda found: None)
        plan = connection.execute(
            f"EXPLAIN SELECT idx FROM asml_trail.leaf WHERE {condition}", values
        )
        found[name] = "\n".join(line for (line,) in plan)
    connection.close()

    assert [name for name, plan in found.items() if f"using {name} " not in plan] == [], found
