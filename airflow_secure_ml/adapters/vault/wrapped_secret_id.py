"""AppRole with a secret id that travels wrapped: whoever unwraps it first is the only one.

The wrapping token is looked at before it is used: one that was made for something else, or that
somebody has used, is refused with a reason that its caller raises an alarm for.

Source: Vault, Response wrapping, "Response wrapping token validation".
"""

from __future__ import annotations

import re

import hvac

from airflow_secure_ml.adapters.vault.client import Ask
from airflow_secure_ml.adapters.vault.failures import (
    UNWRAPPED_AND_LOST,
    UNWRAPPED_BEFORE,
    WRAPPED_ELSEWHERE,
    refusal,
)
from airflow_secure_ml.adapters.vault.logins import approle_token
from airflow_secure_ml.adapters.vault.secret_file import SecretFile, one_word
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError

_UNWRAP = "unwrap the secret id"
_NAME = r"[^/]+"


class WrappedSecretIdLogin:
    """AppRole with a response-wrapped secret id.

    The secret id stays in this process's memory, since a wrapping token is good for one use.

    Args:
        role_id: The role's id.
        wrapping: The wrapping token, or the file where it is put.
        mount: Where the method is mounted.
        role: The role's name, of which alone a secret id is taken; None: any role's there.
    """

    def __init__(
        self,
        *,
        role_id: str,
        wrapping: Secret | SecretFile,
        mount: str = "approle",
        role: str | None = None,
    ) -> None:
        self.role_id, self.wrapping, self.mount, self.role = role_id, wrapping, mount, role
        name = _NAME if role is None else re.escape(role)
        self._made_at = re.compile(rf"auth/{re.escape(mount)}/role/{name}/secret-id")
        self._secret_id: Secret | None = None
        # The wrapping token that we tried to use; a new one in the file is another.
        self._tried: Secret | None = None

    def log_in(self, ask: Ask) -> Token:
        """Unwrap unless that was done, and log in.

        Raises:
            ServiceRefusedError: Also when somebody unwrapped before, or put something else there.
        """
        return approle_token(ask, self.role_id, self._unwrapped(ask), self.mount)

    def check(self, ask: Ask) -> int:
        """Look at the wrapping token without using it.

        Returns:
            Seconds that it held when it was made.

        Raises:
            ServiceRefusedError: Used, expired, or made for something else.
        """
        return self._look_up(ask, one_word("wrapping token", self.wrapping))

    def _look_up(self, ask: Ask, wrapping: Secret) -> int:
        def request(vault: hvac.Client) -> object:
            # hvac has no call for it. Vault takes it without a client token.
            return vault.adapter.post("/v1/sys/wrapping/lookup", json={"token": wrapping.reveal()})

        found = ask("look at the wrapping token", request).get("data") or {}
        if not self._made_at.fullmatch(str(found.get("creation_path", ""))):
            raise refusal(_UNWRAP, WRAPPED_ELSEWHERE)
        seconds = found.get("creation_ttl")
        return seconds if isinstance(seconds, int) else 0

    def _unwrapped(self, ask: Ask) -> Secret:
        try:
            wrapping = one_word("wrapping token", self.wrapping)
        except ConfigurationError:
            # Whoever brought it may have removed it since.
            if self._secret_id is not None:
                return self._secret_id
            raise
        if self._secret_id is None or wrapping != self._tried:
            self._secret_id = self._unwrap(ask, wrapping)
        return self._secret_id

    def _unwrap(self, ask: Ask, wrapping: Secret) -> Secret:
        try:
            self._look_up(ask, wrapping)
        except ServiceRefusedError as error:
            if error.reason == UNWRAPPED_BEFORE and wrapping == self._tried:
                # By us: an alarm would accuse nobody.
                raise refusal(_UNWRAP, UNWRAPPED_AND_LOST) from error
            raise
        # Before it is asked: an answer may be lost, or its waiter be interrupted.
        self._tried, self._secret_id = wrapping, None
        answer = ask(_UNWRAP, lambda vault: vault.sys.unwrap(), token=wrapping, repeatable=False)
        found = (answer.get("data") or {}).get("secret_id")
        if not isinstance(found, str) or not found:
            raise refusal(_UNWRAP, WRAPPED_ELSEWHERE)
        return Secret(found)
