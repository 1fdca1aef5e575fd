"""Indices for what pages ask: who, a host, an object's bytes, a key's version, what was refused.

Each is over the event's own text, cut so that it fits: no column is added, so no leaf is written
anew. It takes a minute a million leaves, in which none is added.

Source: AUDIT_TRAIL, Sequencer; PAGES, Events.
"""

from __future__ import annotations

from alembic import op

from airflow_secure_ml.errors import ConfigurationError

revision = "trail_0002"
down_revision = "trail_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "DROP INDEX asml_trail.leaf_time",
    "CREATE INDEX leaf_time ON asml_trail.leaf (time, idx) INCLUDE (result, act, dag)",
    "DROP INDEX asml_trail.leaf_dag",
    """
    CREATE INDEX leaf_dag ON asml_trail.leaf (dag, time, idx) INCLUDE (result, act)
        WHERE dag IS NOT NULL
    """,
    """
    CREATE INDEX leaf_refused ON asml_trail.leaf (time, idx) INCLUDE (act, dag)
        WHERE result = 'refused'
    """,
    """
    CREATE INDEX leaf_digest ON asml_trail.leaf
        ((left(data::jsonb #>> '{object,digest}', 300) COLLATE "C"), time, idx)
        WHERE left(data::jsonb #>> '{object,digest}', 300) IS NOT NULL
    """,
    """
    CREATE INDEX leaf_version ON asml_trail.leaf
        (key, (left(data::jsonb #>> '{key,version}', 300) COLLATE "C"), time, idx)
        WHERE key IS NOT NULL
    """,
    """
    CREATE INDEX leaf_of ON asml_trail.leaf
        ((left(data::jsonb #>> '{of}', 300) COLLATE "C"))
        WHERE left(data::jsonb #>> '{of}', 300) IS NOT NULL
    """,
    """
    CREATE INDEX leaf_by ON asml_trail.leaf
        ((left(data::jsonb #>> '{by,h}', 300) COLLATE "C"), time, idx)
        WHERE left(data::jsonb #>> '{by,h}', 300) IS NOT NULL
    """,
    """
    CREATE INDEX leaf_host ON asml_trail.leaf
        ((left(data::jsonb #>> '{more,host}', 300) COLLATE "C"), emitter)
        WHERE act = 'emitter.open'
    """,
    "CREATE INDEX aside_subject ON asml_trail.aside (subject)",
    "UPDATE asml_trail.log SET format = 2",
)


def upgrade() -> None:
    """Make the indices."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: what was recorded is not dropped.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        "audit log: its tables are not changed back by a downgrade; install this release again"
    )
