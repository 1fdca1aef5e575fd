"""What each kind of login may do with the log, as grants to three roles.

The roles are made by whoever runs the database; here they only get what they may. Nobody may
change or delete a leaf but the tables' owner, whom no process of Airflow logs in as.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

SEQUENCER, READER, WORKER = "asml_sequencer", "asml_reader", "asml_worker"
_TABLES = ("log", "leaf", "tile", "emitter", "checkpoint", "aside", "version")
_ALL = ", ".join(f"asml_trail.{name}" for name in _TABLES)

GRANTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        SEQUENCER: (
            f"GRANT SELECT ON {_ALL}, asml_trail.inbox TO asml_sequencer",
            "GRANT INSERT ON asml_trail.log, asml_trail.leaf, asml_trail.tile, "
            "asml_trail.emitter, asml_trail.checkpoint, asml_trail.aside TO asml_sequencer",
            "GRANT UPDATE (size, edge) ON asml_trail.log TO asml_sequencer",
            "GRANT UPDATE (next_seq, last, part, at, state, first_ms, last_ms) "
            "ON asml_trail.emitter TO asml_sequencer",
            # A checkpoint is signed: what stands instead of one is noticed.
            "GRANT UPDATE (note, signed_ms) ON asml_trail.checkpoint TO asml_sequencer",
            "GRANT DELETE ON asml_trail.inbox TO asml_sequencer",
        ),
        READER: (f"GRANT SELECT ON {_ALL} TO asml_reader",),
        # Not `received` and not `sender`: those are the server's word.
        WORKER: ("GRANT INSERT (emitter, seq, frames) ON asml_trail.inbox TO asml_worker",),
    }
)


def grant_rights(connection: Connection[Any]) -> tuple[str, ...]:
    """Give each role that is there what it may, and nothing besides; returns those roles.

    Args:
        connection: A session of the tables' owner.
    """
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) ORDER BY rolname", [list(GRANTS)]
    ).fetchall()
    roles = tuple(str(name) for (name,) in found)
    for role in roles:
        connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA asml_trail FROM {role}")
        connection.execute(f"GRANT USAGE ON SCHEMA asml_trail TO {role}")
        for statement in GRANTS[role]:
            connection.execute(statement)
    return roles
