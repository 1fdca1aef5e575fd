"""The hook of the connection type `vault_secure_ml`, for the Test button and for tasks.

What its form holds is declared in `get_provider_info`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_secure_ml.errors import SecureMLError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.vault.client import VaultClient


class VaultHook(BaseHook):
    """HashiCorp Vault or OpenBao.

    Nothing is read or connected before a method is called.

    Args:
        vault_conn_id: The connection, of type `vault_secure_ml`, or of the official hashicorp
            provider's.
    """

    conn_type = "vault_secure_ml"
    conn_name_attr = "vault_conn_id"
    default_conn_name = "vault_default"
    hook_name = "Vault (secure ML)"

    def __init__(self, vault_conn_id: str = default_conn_name, **given: Any) -> None:
        super().__init__(**given)
        self.vault_conn_id = vault_conn_id

    def get_conn(self) -> VaultClient:
        """The client of the connection, shared in this process.

        Raises:
            ConfigurationError: No such connection, or one that does not lead to Vault.
            ServiceError: Airflow or a secrets back end did not give the connection.
        """
        from airflow_secure_ml.hooks.vault import vault_client

        return vault_client(self.vault_conn_id)

    def test_connection(self) -> tuple[bool, str]:
        """Log in, ask Vault who that is, and revoke the token again.

        A wrapping token is only looked at, since using it would use it up.

        Returns:
            Whether it works, and who that is or what is wrong; never a secret.
        """
        from airflow_secure_ml.hooks.connections import find_connection
        from airflow_secure_ml.hooks.vault_trial import try_connection

        try:
            return True, try_connection(find_connection(self.vault_conn_id))
        except SecureMLError as error:
            return False, str(error)
