"""A connection whose login was leased; it does not show it where frames and objects are printed."""

from __future__ import annotations

from airflow.sdk import Connection


class LeasedConnection(Connection):
    """As Airflow's own, whose repr holds the password."""

    def __repr__(self) -> str:
        return f"LeasedConnection({self.conn_id!r}, host={self.host!r}, login=***)"
