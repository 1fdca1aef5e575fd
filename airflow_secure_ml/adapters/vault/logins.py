"""The ways to get a Vault token: one value each, its secrets masked.

What hvac offers is used. Files are read at each login, since an agent may have renewed them.
"""

from __future__ import annotations

from dataclasses import dataclass

import hvac

from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogin:
    """A token that was given; never revoked here.

    Attributes:
        token: The token.
    """

    token: Secret

    @property
    def repeatable(self) -> bool:
        """Yes."""
        return True

    def log_in(self, vault: hvac.Client) -> Token:
        """The token, without asking: what it may do shows when it is used."""
        return Token(value=self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRoleLogin:
    """AppRole with a plain secret id.

    Attributes:
        role_id: The role's id.
        secret_id: Its secret id; None where the role demands none.
        mount: Where the method is mounted.
    """

    role_id: str
    secret_id: Secret | None = None
    mount: str = "approle"

    @property
    def repeatable(self) -> bool:
        """Yes: a second login is a second token."""
        return True

    def log_in(self, vault: hvac.Client) -> Token:
        """Log in."""
        secret = None if self.secret_id is None else self.secret_id.reveal()
        answer = vault.auth.approle.login(
            self.role_id, secret_id=secret, use_token=False, mount_point=self.mount
        )
        return Token.of_login(answer)
