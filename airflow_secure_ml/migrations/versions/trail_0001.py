"""The audit log's tables, and the inbox of workers that reach no log.

Every column that pages filter by is computed from the event's own text, cut so that it fits an
index: a task may write a name of any length, and that must not stop the log.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from alembic import op

from airflow_secure_ml.errors import ConfigurationError

revision = "trail_0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    "REVOKE ALL ON SCHEMA asml_trail FROM PUBLIC",
    """
    CREATE TABLE asml_trail.log (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        origin text COLLATE "C" NOT NULL,
        format integer NOT NULL,
        size bigint NOT NULL,
        edge bytea NOT NULL
    )
    """,
    """
    CREATE TABLE asml_trail.leaf (
        idx bigint PRIMARY KEY,
        data text COLLATE "C" NOT NULL,
        hash bytea NOT NULL,
        emitter text COLLATE "C"
            GENERATED ALWAYS AS (left(data::jsonb #>> '{emitter}', 300)) STORED,
        seq bigint GENERATED ALWAYS AS ((data::jsonb #>> '{seq}')::bigint) STORED,
        time bigint GENERATED ALWAYS AS ((data::jsonb #>> '{time}')::bigint) STORED,
        act text COLLATE "C" GENERATED ALWAYS AS (left(data::jsonb #>> '{act}', 300)) STORED,
        result text COLLATE "C"
            GENERATED ALWAYS AS (left(data::jsonb #>> '{result}', 300)) STORED,
        dag text COLLATE "C" GENERATED ALWAYS AS (left(data::jsonb #>> '{run,dag}', 300)) STORED,
        run text COLLATE "C" GENERATED ALWAYS AS (left(data::jsonb #>> '{run,run}', 300)) STORED,
        task text COLLATE "C"
            GENERATED ALWAYS AS (left(data::jsonb #>> '{run,task}', 300)) STORED,
        ti text COLLATE "C" GENERATED ALWAYS AS (left(data::jsonb #>> '{run,ti}', 300)) STORED,
        uri text COLLATE "C"
            GENERATED ALWAYS AS (left(data::jsonb #>> '{object,uri}', 300)) STORED,
        key text COLLATE "C" GENERATED ALWAYS AS (left(data::jsonb #>> '{key,name}', 300)) STORED,
        lease text COLLATE "C"
            GENERATED ALWAYS AS (left(data::jsonb #>> '{lease,id}', 300)) STORED
    )
    """,
    "CREATE UNIQUE INDEX leaf_event ON asml_trail.leaf (emitter, seq)",
    "CREATE INDEX leaf_time ON asml_trail.leaf (time, idx)",
    "CREATE INDEX leaf_act ON asml_trail.leaf (act, time, idx)",
    "CREATE INDEX leaf_dag ON asml_trail.leaf (dag, time, idx) WHERE dag IS NOT NULL",
    "CREATE INDEX leaf_run ON asml_trail.leaf (dag, run, time, idx) WHERE run IS NOT NULL",
    "CREATE INDEX leaf_ti ON asml_trail.leaf (ti, time, idx) WHERE ti IS NOT NULL",
    "CREATE INDEX leaf_uri ON asml_trail.leaf (uri, time, idx) WHERE uri IS NOT NULL",
    "CREATE INDEX leaf_key ON asml_trail.leaf (key, time, idx) WHERE key IS NOT NULL",
    "CREATE INDEX leaf_lease ON asml_trail.leaf (lease) WHERE lease IS NOT NULL",
    "CREATE INDEX leaf_hash ON asml_trail.leaf (hash)",
    """
    CREATE TABLE asml_trail.tile (
        level integer, n bigint, hashes bytea NOT NULL, PRIMARY KEY (level, n)
    )
    """,
    """
    CREATE TABLE asml_trail.emitter (
        id text COLLATE "C" PRIMARY KEY,
        next_seq bigint NOT NULL,
        last bytea,
        part bigint NOT NULL,
        at bigint NOT NULL,
        state text COLLATE "C" NOT NULL,
        first_ms bigint NOT NULL,
        last_ms bigint NOT NULL
    )
    """,
    """
    CREATE TABLE asml_trail.checkpoint (
        size bigint PRIMARY KEY, note text COLLATE "C" NOT NULL, signed_ms bigint NOT NULL
    )
    """,
    """
    CREATE TABLE asml_trail.aside (
        h text COLLATE "C" PRIMARY KEY, subject text COLLATE "C", salt bytea,
        value text COLLATE "C"
    )
    """,
    # Who sent it and when is said by the server: a worker may write the other three alone.
    """
    CREATE TABLE asml_trail.inbox (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        emitter text COLLATE "C" NOT NULL CHECK (emitter ~ '^[0-9a-f]{32}$'),
        seq bigint NOT NULL CHECK (seq >= 0),
        frames bytea NOT NULL CHECK (octet_length(frames) BETWEEN 1 AND 1048576),
        received timestamptz NOT NULL DEFAULT clock_timestamp(),
        sender name NOT NULL DEFAULT session_user
    )
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: what was recorded is not dropped.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        "audit log: its tables are not dropped by a downgrade; keep them, an older release passes "
        "over what it does not know"
    )
