"""What the Test button of a connection to Vault does and says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.failures import DENIED
from airflow_secure_ml.adapters.vault.wrapped_secret_id import WrappedSecretIdLogin
from airflow_secure_ml.errors import ServiceRefusedError
from airflow_secure_ml.hooks.connections import ConnectionFields
from airflow_secure_ml.hooks.vault_connection import VaultConnection


def try_connection(fields: ConnectionFields) -> str:
    """Log in, ask who that is, revoke the token.

    Returns:
        Who it is, in plain words.

    Raises:
        SecureMLError: What is wrong and what to do.
    """
    connection = VaultConnection(fields)
    server, login = connection.server(), connection.login()
    client = VaultClient(server, login)
    place = server.url if server.is_encrypted else f"{server.url}, NOT ENCRYPTED"
    try:
        if isinstance(login, WrappedSecretIdLogin):
            held_s = client.before_login(login.check)
            return (
                f"Reached {place}. The wrapping token is good: it was made for a secret id at "
                f"{login.mount}, for {held_s} s. It was not used, since it can be used once only."
            )
        return f"Logged in at {place} by {connection.method}. {_who(client)}"
    finally:
        client.close()


def _who(client: VaultClient) -> str:
    try:
        answer = client.call("look itself up", lambda vault: vault.auth.token.lookup_self())
    except ServiceRefusedError as error:
        if error.reason != DENIED:
            raise
        return "The token is good; its policies do not let it look itself up."
    found = answer.get("data")
    found = found if isinstance(found, Mapping) else {}
    policies = found.get("policies")
    names = ", ".join(map(str, policies)) if isinstance(policies, list) else "unknown"
    return f"It is {found.get('display_name') or 'nameless'}; policies: {names}; {_term(found)}."


def _term(found: Mapping[str, Any]) -> str:
    ttl_s = found.get("ttl")
    if not isinstance(ttl_s, int) or not ttl_s:
        return "the token does not end"
    ending = "can be renewed" if found.get("renewable") else "cannot be renewed"
    return f"the token holds {ttl_s} s and {ending}"
