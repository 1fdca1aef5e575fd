"""A Vault token, how long it holds, and whether it is ours to revoke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_secure_ml.adapters.vault.failures import (
    LOG_IN,
    LOGIN_REFUSED,
    SECOND_FACTOR,
    refusal,
)
from airflow_secure_ml.core.secret import Secret

# A token is renewed or replaced before it ends: a tenth of its term, at most so many seconds.
_EARLY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token.

    Attributes:
        value: The token itself.
        ttl_s: Seconds it holds from `began_s`; 0: it does not end, or nobody told.
        renewable: Whether Vault may prolong it.
        ours: Whether a login here made it, so that it is revoked when its user ends.
        began_s: The client's clock when it was asked for.
    """

    value: Secret
    ttl_s: int = 0
    renewable: bool = False
    ours: bool = False
    began_s: float = 0.0

    @classmethod
    def of_login(cls, answer: Mapping[str, Any]) -> Self:
        """The token in the answer to a login; batch tokens cannot be revoked and are not ours.

        Raises:
            ServiceRefusedError: There is none in it.
        """
        auth = answer.get("auth")
        auth = auth if isinstance(auth, Mapping) else {}
        if auth.get("mfa_requirement"):
            raise refusal(LOG_IN, SECOND_FACTOR)
        value = auth.get("client_token")
        if not isinstance(value, str) or not value:
            raise refusal(LOG_IN, LOGIN_REFUSED)
        return cls(
            value=Secret(value),
            ttl_s=_seconds(auth),
            renewable=bool(auth.get("renewable")),
            ours=auth.get("token_type") != "batch",
        )

    def since(self, began_s: float) -> Self:
        """The same, its term beginning then."""
        return replace(self, began_s=began_s)

    def renewed(self, answer: Mapping[str, Any]) -> Self:
        """The same with the term that an answer to `renew-self` gives."""
        auth = answer.get("auth")
        auth = auth if isinstance(auth, Mapping) else {}
        return replace(self, ttl_s=_seconds(auth), renewable=bool(auth.get("renewable")))

    def is_due(self, now_s: float) -> bool:
        """Whether it ends soon."""
        early = min(_EARLY_S, self.ttl_s / 10)
        return bool(self.ttl_s) and now_s >= self.began_s + self.ttl_s - early

    def has_ended(self, now_s: float) -> bool:
        """Whether it has ended."""
        return bool(self.ttl_s) and now_s >= self.began_s + self.ttl_s


def _seconds(auth: Mapping[str, Any]) -> int:
    found = auth.get("lease_duration")
    return max(0, found) if isinstance(found, int) else 0
