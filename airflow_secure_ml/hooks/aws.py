"""From an Airflow connection to an AWS session, one for each connection in a process.

Nothing is read or connected before the first call. A forked child goes on with the identity, and
makes its own clients.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.adapters.aws.session import AwsIdentity, AwsSession
from airflow_secure_ml.hooks.aws_connection import AwsConnection
from airflow_secure_ml.hooks.connection_warnings import ConnectionWarning, warn
from airflow_secure_ml.hooks.connections import ConnectionFields, find_connection

_lock = threading.Lock()
_sessions: dict[str, ConnectedAws] = {}


def _free_lock() -> None:
    """In a forked child: another thread of the parent may have held it, and is not here."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_free_lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedAws:
    """What a connection leads to.

    Attributes:
        session: Its clients.
        asked: What its objects in S3 are to have besides.
    """

    session: AwsSession
    asked: Asked


def connected_aws(conn_id: str | None) -> ConnectedAws:
    """What a connection leads to, made on first use and kept for this process.

    Args:
        conn_id: Of type `aws`; empty or None: no connection, boto3 finds credentials and region.

    Raises:
        ConfigurationError: No such connection, or one that does not lead to AWS.
        ServiceError: Airflow or a secrets back end did not give the connection.
    """
    key = conn_id or ""
    with _lock:
        found = _sessions.get(key)
    if found is None:
        # Outside the lock: the look-up may itself come back here for another connection.
        made = connected_of(find_connection(key)) if key else _without_connection()
        with _lock:
            found = _sessions.setdefault(key, made)
    return found


def aws_session(conn_id: str | None) -> AwsSession:
    """The session of a connection; as `connected_aws`."""
    return connected_aws(conn_id).session


def connected_of(fields: ConnectionFields) -> ConnectedAws:
    """What a connection leads to, made anew; warns about plain http.

    Raises:
        ConfigurationError: It does not lead to AWS.
    """
    connection = AwsConnection(fields)
    identity = connection.identity()
    if identity.allow_http:
        warn(
            ConnectionWarning(
                about="AWS or S3 may be spoken to over plain http",
                subject=fields.conn_id,
                because="allow_http is set: whoever is on the way reads and alters what is sent",
            )
        )
    return ConnectedAws(session=AwsSession(identity), asked=connection.asked())


def _without_connection() -> ConnectedAws:
    return ConnectedAws(session=AwsSession(AwsIdentity(name="this process")), asked=Asked())
