"""From an Airflow connection to a client of Vault, one for each connection in a process.

Nothing is read or connected in a constructor. The tokens that a process made are revoked when it
ends in an orderly way; otherwise they end at their TTL.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from airflow_secure_ml.adapters.vault.client import Login, VaultClient
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin, TokenLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

_lock = threading.Lock()
_clients: dict[tuple[int, str], VaultClient] = {}


def vault_client(conn_id: str) -> VaultClient:
    """The client of a connection, made on first use and kept for this process.

    Raises:
        ConfigurationError: No such connection, or one that does not lead to Vault.
    """
    key = (os.getpid(), conn_id)
    with _lock:
        found = _clients.get(key)
    if found is None:
        # Outside the lock: the look-up may itself come back here for another connection.
        made = client_of(conn_id, _connection(conn_id))
        with _lock:
            found = _clients.setdefault(key, made)
        if found is made:
            atexit.register(found.close)
    return found


def client_of(conn_id: str, connection: Any) -> VaultClient:
    """A new client for an Airflow connection's fields."""
    extra = connection.extra_dejson
    server = VaultServer(
        url=connection.host,
        ca=extra.get("ca"),
        allow_http=bool(extra.get("allow_http")),
    )
    return VaultClient(server, _login(conn_id, connection, extra))


def _login(conn_id: str, connection: Any, extra: Any) -> Login:
    method = extra.get("auth", "token")
    if method == "token":
        return TokenLogin(token=Secret(connection.password))
    if method == "approle":
        return AppRoleLogin(role_id=connection.login, secret_id=Secret(connection.password))
    raise ConfigurationError(f"connection {conn_id}: auth {method!r}; expected token or approle")


def _connection(conn_id: str) -> Any:
    from airflow.sdk import BaseHook

    return BaseHook.get_connection(conn_id)
