"""Remove what lies in the open in table aside; what is sealed is erased with its key.

Source: AUDIT_TRAIL, Event (hidden values).
"""

from __future__ import annotations

from airflow_secure_ml.adapters.postgres_audit.connecting import Login, connect
from airflow_secure_ml.adapters.postgres_audit.failures import translated


class PostgresEraser:
    """An AsideEraser over one database.

    Args:
        login: How it is reached; only its owner may remove rows.
    """

    def __init__(self, login: Login) -> None:
        self._login = login

    def erase_asides(self, subject: str | None, value: str) -> int:
        """Remove the rows that hold the value in the open; how many.

        A subject's sealed rows stay, as ciphertext that no key opens: the sequencer's role may
        remove none.

        Raises:
            ServiceRefusedError: There are such rows, and this login may not remove them.
            ServiceUnavailableError: The database does not answer.
        """
        where = "FROM asml_trail.aside WHERE subject IS NULL AND value = %s"
        connection = connect(self._login, writes=True)
        try:
            with translated("erase"):
                row = connection.execute(f"SELECT count(*) {where}", [value]).fetchone()
                count = 0 if row is None else int(row[0])
                if count:
                    connection.execute(f"DELETE {where}", [value])
                    connection.commit()
                return count
        finally:
            connection.close()
