"""Bring the log's tables in PostgreSQL to this release's, with Airflow or without.

One transaction: the tables are all of one release or of the other. Who owns them runs this; a
login that may only add or read finds them up to date, or is told to have it done.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit.connecting import Login, open_session
from airflow_secure_ml.adapters.postgres_audit.failures import as_ours, psycopg, translated
from airflow_secure_ml.adapters.postgres_audit.rights import grant_rights
from airflow_secure_ml.adapters.postgres_audit.schema import NAME, VERSION_TABLE
from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import Connection

DIRECTORY = Path(__file__).parent
REVISIONS = ("trail_0001", "trail_0002")
HEAD = REVISIONS[-1]
# "asmlmigr", as a number: two that migrate at once go one after the other.
_LOCK = int.from_bytes(b"asmlmigr", "big")


def current_revision(login: Login) -> str | None:
    """The newest step that was made; None: none yet. Errors as in `open_session`."""
    connection = open_session(login, writes=False)
    try:
        with translated("read"):
            return _revision(connection)
    finally:
        connection.close()


def migrate(login: Login) -> tuple[str, ...]:
    """Make the steps that are missing, then give each role that is there what it may.

    Args:
        login: The tables' owner; any other login where nothing is to be done.

    Returns:
        The steps that were made.

    Raises:
        ConfigurationError: The tables are of a later release; or as in `open_session`.
        ServiceRefusedError: This login may not make tables.
        ServiceUnavailableError: The server does not answer.
    """
    connection = open_session(login, writes=True)
    try:
        with translated("migrate"):
            found = _revision(connection)
            if found == HEAD and not _owns(connection):
                return ()
        connection.autocommit = False
        return _migrated(connection)
    finally:
        connection.close()


def _migrated(connection: Connection[Any]) -> tuple[str, ...]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    try:
        with engine.begin() as alchemy, translated("migrate"):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            # Looked at again: another one may have made them while this one waited.
            done = _revision(connection)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {NAME}")
            _upgrade(alchemy)
            grant_rights(connection)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg().Error):
            raise as_ours(error.orig, "migrate") from error
        raise
    return REVISIONS if done is None else REVISIONS[REVISIONS.index(done) + 1 :]


def _upgrade(alchemy: object) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.attributes.update(connection=alchemy, schema=NAME, version_table=VERSION_TABLE)
    command.upgrade(config, HEAD)


def _revision(connection: Connection[Any]) -> str | None:
    row = connection.execute("SELECT to_regclass(%s)", [f"{NAME}.{VERSION_TABLE}"]).fetchone()
    if row is None or row[0] is None:
        return None
    rows = connection.execute("SELECT version_num FROM asml_trail.version").fetchall()
    if not rows:
        return None
    found = str(rows[0][0])
    if found not in REVISIONS:
        raise ConfigurationError(
            f"audit_store: its tables are of step {found[:40]!r}, this release knows up to {HEAD}; "
            "upgrade airflow-secure-ml"
        )
    return found


def _owns(connection: Connection[Any]) -> bool:
    row = connection.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s", [NAME]
    ).fetchone()
    return row is not None and bool(row[0])
