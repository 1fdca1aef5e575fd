"""What `airflow db migrate` calls, so that the log's tables are made with Airflow's own.

They lie in the database that audit_store names, not in Airflow's: nothing is made there, and where
the log lies in a file there is nothing to do. What empties Airflow's database leaves the log alone.

Source: Airflow, `airflow.utils.db_manager`, and `db-managers` of a provider.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.utils.db_manager import BaseDBManager
from sqlalchemy import MetaData

from airflow_secure_ml.audit_ports import SQLITE
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.migrations import applying

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.postgres_audit import Login

log = logging.getLogger(__name__)


class TrailDBManager(BaseDBManager):
    """The audit log's tables, in a database of their own."""

    # Empty: no table of Airflow's database is this one's.
    metadata = MetaData()
    migration_dir = str(applying.DIRECTORY)
    alembic_file = str(applying.DIRECTORY / "alembic.ini")
    version_table_name = "alembic_version_asml_trail"
    supports_table_dropping = False

    def initdb(self, use_migration_files: bool = False) -> None:
        """Make the steps that are missing."""
        self.upgradedb(use_migration_files=use_migration_files)

    def create_db_from_orm(self) -> None:
        """Make the steps that are missing: the tables stand in them alone."""
        self.upgradedb()

    def upgradedb(
        self,
        to_revision: str | None = None,
        from_revision: str | None = None,
        show_sql_only: bool = False,
        use_migration_files: bool = False,
    ) -> None:
        """Make the steps that are missing; always all of them.

        Raises:
            SecureMLError: As in `applying.migrate`.
        """
        login = _login()
        if login is None or show_sql_only:
            return
        made = applying.migrate(login)
        log.info("audit log: %s, %d steps made", login.address, len(made))

    def downgrade(
        self,
        to_revision: str,
        from_revision: str | None = None,
        show_sql_only: bool = False,
    ) -> None:
        """Refuse: what was recorded is not dropped.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "audit log: its tables are not dropped by a downgrade; keep them, an older release "
            "passes over what it does not know"
        )

    def resetdb(self, skip_init: bool = False, use_migration_files: bool = False) -> None:
        """Leave the log as it is, then make the steps that are missing."""
        log.warning("audit log: not reset; a log is never dropped")
        if not skip_init:
            self.upgradedb()

    def drop_tables(self, connection: Any) -> None:
        """Leave the log as it is."""

    def get_current_revision(self) -> str | None:
        """The newest step that was made; None: none, or the log lies in a file."""
        login = _login()
        return None if login is None else applying.current_revision(login)

    def check_migration(self) -> bool:
        """Whether every step was made."""
        return _login() is None or self.get_current_revision() == applying.HEAD


def _login() -> Login | None:
    place = deployment().audit_place
    return None if place.store == SQLITE else place.login()
