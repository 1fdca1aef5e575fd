"""CredentialSource over Vault: any engine that hands out a secret, with a lease or without.

Renewing is the guardian's part, through `line`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.core.lease import MAX_FIELD_CHARS, MAX_FIELDS, Granted, LeaseLine
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ServiceRefusedError


class VaultCredentials:
    """What one Vault hands out.

    Args:
        client: The client; its token is the leases' parent.
        now_s: Wall clock, seconds since 1970 UTC.
    """

    def __init__(self, client: VaultClient, *, now_s: Callable[[], float] = time.time) -> None:
        self._client, self._now_s = client, now_s

    def line(self) -> LeaseLine:
        """How the guardian reaches it with the token in use; errors as in `grant`."""
        token = self._client.token()
        server = self._client.server
        given = {
            "url": server.url,
            "ca": server.ca or _default_ca(),
            "client_cert": server.client_cert,
            "client_key": server.client_key,
            "namespace": server.namespace,
            "timeout_s": server.timeout_s,
        }
        left_s = token.began_s + token.ttl_s - time.monotonic()
        return LeaseLine(
            server=given,
            token=token.value,
            token_ttl_s=max(1, int(left_s)) if token.ttl_s else 0,
            token_ours=token.ours,
        )

    def grant(self, path: str, data: Mapping[str, str]) -> Granted:
        """Take a credential.

        Args:
            path: Such as `database/creds/reader`, checked already.
            data: What the engine needs; {} asks without a body.

        Raises:
            ServiceRefusedError: Vault says no, or answers with what is no credential.
            ServiceUnavailableError: It does not answer; what it may have granted ends with the
                token.
        """
        action = f"lease {path}"
        if data:
            answer = self._client.call(
                action, lambda vault: vault.adapter.post(f"/v1/{path}", json=dict(data))
            )
        else:
            answer = self._client.call(action, lambda vault: vault.adapter.get(f"/v1/{path}"))
        fields = _fields(path, answer)
        lease_id = answer.get("lease_id") or None
        return Granted(
            fields=fields,
            lease_id=None if lease_id is None else Secret(lease_id),
            ttl_s=self._ttl_s(answer, fields),
            renewable=bool(answer.get("renewable")) and lease_id is not None,
        )

    def revoke(self, lease_id: Secret) -> None:
        """End a lease now; errors as in `grant`."""
        body = {"lease_id": lease_id.reveal(), "sync": True}
        self._client.call(
            "revoke a lease", lambda vault: vault.adapter.put("/v1/sys/leases/revoke", json=body)
        )

    def _ttl_s(self, answer: Mapping[str, Any], fields: Mapping[str, Secret]) -> int | None:
        if answer.get("lease_id"):
            return int(answer.get("lease_duration") or 0) or None
        # A certificate says when it ends, a static role when its password changes.
        for name, until in (("expiration", True), ("ttl", False)):
            text = fields[name].reveal() if name in fields else ""
            if text.isascii() and text.isdigit():
                return max(0, int(text) - int(self._now_s()) if until else int(text))
        return None


def _fields(path: str, answer: Mapping[str, Any]) -> dict[str, Secret]:
    data = answer.get("data")
    if isinstance(data, Mapping) and set(data) == {"data", "metadata"}:
        # KV version 2 wraps a secret once more.
        data = data["data"]
    if not isinstance(data, Mapping) or not 1 <= len(data) <= MAX_FIELDS:
        raise _no_credential(path, f"an answer without 1 to {MAX_FIELDS} fields")
    fields = {str(name): _text(value) for name, value in data.items() if value is not None}
    if any(len(text) > MAX_FIELD_CHARS for text in fields.values()):
        raise _no_credential(path, f"a field of more than {MAX_FIELD_CHARS} characters")
    return {name: Secret(text) for name, text in fields.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return json.dumps(value)


def _no_credential(path: str, found: str) -> ServiceRefusedError:
    return ServiceRefusedError(
        f"vault: {path} was asked for a credential and gave {found}; check the path",
        service="vault",
        action=f"lease {path}",
        reason=found,
        why="lease_refused",
    )


def _default_ca() -> str:
    import certifi

    return certifi.where()
