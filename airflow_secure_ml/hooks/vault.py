"""From an Airflow connection to a client of Vault, one for each connection in a process.

Nothing is read before the first call. The tokens that a process made are revoked when it ends in
an orderly way; otherwise they end at their TTL. Airflow's hook class is in `vault_hook`, since the
console script comes here without Airflow.
"""

from __future__ import annotations

import atexit
import os
import threading

from airflow_secure_ml.adapters.vault.client import Ask, Login, VaultClient
from airflow_secure_ml.adapters.vault.failures import UNWRAPPED_BEFORE, WRAPPED_ELSEWHERE
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.errors import ServiceRefusedError
from airflow_secure_ml.hooks.connection_warnings import ConnectionWarning, warn
from airflow_secure_ml.hooks.connections import ConnectionFields, find_connection
from airflow_secure_ml.hooks.vault_connection import VaultConnection

_lock = threading.Lock()
_clients: dict[str, VaultClient] = {}
_closed_at_exit: set[tuple[int, str]] = set()


def _free_lock() -> None:
    """In a forked child: another thread of the parent may have held it, and is not here."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_free_lock)


def vault_client(conn_id: str) -> VaultClient:
    """The client of a connection, made on first use and kept for this process.

    A forked child goes on with it, and logs in for itself: a secret id that could be unwrapped
    once only is known to the client alone.

    Raises:
        ConfigurationError: No such connection, or one that does not lead to Vault.
        ServiceError: Airflow or a secrets back end did not give the connection.
    """
    with _lock:
        found = _clients.get(conn_id)
    if found is None:
        # Outside the lock: the look-up may itself come back here for another connection.
        made = client_of(find_connection(conn_id))
        with _lock:
            found = _clients.setdefault(conn_id, made)
    with _lock:
        # Airflow forks its tasks, and drops the exit handlers that they inherit.
        key = (os.getpid(), conn_id)
        if key not in _closed_at_exit:
            _closed_at_exit.add(key)
            atexit.register(found.close)
    return found


def client_of(fields: ConnectionFields) -> VaultClient:
    """A new client for a connection, which warns about plain http and about wrapping tokens.

    Raises:
        ConfigurationError: It does not lead to Vault.
    """
    connection = VaultConnection(fields)
    server = connection.server()
    if not server.is_encrypted:
        warn(
            ConnectionWarning(
                about="Vault is spoken to over plain http",
                subject=fields.conn_id,
                because="allow_http is set: whoever is on the way reads tokens and secrets",
            )
        )
    return VaultClient(server, _WatchedLogin(connection.login(), fields.conn_id))


class _WatchedLogin:
    """A login that raises an alarm where somebody may have read or replaced the secret id."""

    def __init__(self, login: Login, conn_id: str) -> None:
        self._login, self._conn_id = login, conn_id

    def log_in(self, ask: Ask) -> Token:
        """As the login itself."""
        try:
            return self._login.log_in(ask)
        except ServiceRefusedError as error:
            if error.reason in (UNWRAPPED_BEFORE, WRAPPED_ELSEWHERE):
                warn(
                    ConnectionWarning(
                        about="a wrapped secret id is not as it was sent",
                        subject=self._conn_id,
                        because=f"{error.reason}: somebody may have read or replaced it",
                    )
                )
            raise
