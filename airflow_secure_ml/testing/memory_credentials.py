"""A CredentialSource in memory: hands out what a test put there, and knows what came back."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_secure_ml.core.lease import Granted, LeaseLine
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ServiceRefusedError


class MemoryCredentials:
    """Credentials by path.

    Attributes:
        asked: Path and data of each request, in order.
        held: Lease ids that were not revoked yet.
    """

    def __init__(self) -> None:
        self._fields: dict[str, tuple[Mapping[str, str], int | None]] = {}
        self._count = 0
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.held: list[str] = []

    def put(self, path: str, fields: Mapping[str, str], ttl_s: int | None) -> None:
        """Hand out `fields` at `path` from now on; without `ttl_s` nothing is leased."""
        self._fields[path] = (dict(fields), ttl_s)

    def line(self) -> LeaseLine:
        """A line that leads nowhere: nobody outlives a test."""
        return LeaseLine(server={}, token=Secret("memory"))

    def grant(self, path: str, data: Mapping[str, str]) -> Granted:
        """Take a credential; ServiceRefusedError where no test put one."""
        self.asked.append((path, dict(data)))
        if path not in self._fields:
            raise ServiceRefusedError(
                f"memory refused to lease {path}: nothing was put there; call secure_ml.lease()",
                service="memory",
                action=f"lease {path}",
                reason="permission denied",
            )
        fields, ttl_s = self._fields[path]
        secrets = {name: Secret(text) for name, text in fields.items()}
        if ttl_s is None:
            return Granted(fields=secrets)
        self._count += 1
        self.held.append(f"{path}/{self._count}")
        return Granted(fields=secrets, lease_id=Secret(self.held[-1]), ttl_s=ttl_s, renewable=True)

    def revoke(self, lease_id: Secret) -> None:
        """End a lease."""
        if lease_id.reveal() in self.held:
            self.held.remove(lease_id.reveal())
