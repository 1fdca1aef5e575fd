"""The port to whoever leases credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_secure_ml.core.lease import Granted, LeaseLine
    from airflow_secure_ml.core.secret import Secret


class CredentialSource(Protocol):
    """A place that hands out credentials for a while."""

    def line(self) -> LeaseLine:
        """How the guardian reaches it; it is handed over before a credential is taken."""

    def grant(self, path: str, data: Mapping[str, str]) -> Granted:
        """Take a credential.

        Args:
            path: Where it is made, such as `database/creds/reader`.
            data: What the engine needs with the request; {}: nothing.

        Raises:
            ServiceRefusedError: It says no.
            ServiceUnavailableError: It does not answer.
        """

    def revoke(self, lease_id: Secret) -> None:
        """End a lease now; errors as in `grant`."""
