"""Renew and revoke by standard library alone: the guardian's way to Vault.

One request, one connection, no retry: when to ask again is the guardian's business.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_MAX_ANSWER_BYTES = 1 << 20


class LineError(Exception):
    """Vault was not reached, or said no.

    Attributes:
        final: Whether asking again is of no use.
    """

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class VaultLine:
    """Vault, as the holder of one token reaches it.

    Args:
        server: url, ca, client_cert, client_key, namespace, timeout_s.
        token: The token.
    """

    def __init__(self, server: Mapping[str, Any], token: str) -> None:
        self._url = urlsplit(server["url"])
        self._timeout_s = float(server["timeout_s"])
        self._headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if server.get("namespace"):
            self._headers["X-Vault-Namespace"] = server["namespace"]
        self._tls: ssl.SSLContext | None = None
        if self._url.scheme == "https":
            self._tls = ssl.create_default_context(cafile=server["ca"])
            if server.get("client_cert"):
                self._tls.load_cert_chain(server["client_cert"], server.get("client_key"))

    def renew(self, lease_id: str, increment_s: int) -> int:
        """Prolong a lease; returns the seconds it holds from now."""
        body = {"lease_id": lease_id, "increment": increment_s}
        _, answer = self._put("/v1/sys/leases/renew", body)
        return int(answer.get("lease_duration") or 0)

    def revoke(self, lease_id: str) -> None:
        """End a lease; returns once its engine has done so."""
        self._put("/v1/sys/leases/revoke", {"lease_id": lease_id, "sync": True})

    def renew_token(self) -> int:
        """Prolong the token; returns the seconds it holds from now."""
        _, answer = self._put("/v1/auth/token/renew-self", {})
        return int((answer.get("auth") or {}).get("lease_duration") or 0)

    def revoke_token(self) -> None:
        """End the token, and every lease that was taken with it."""
        self._put("/v1/auth/token/revoke-self", {})

    def _put(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        connection = self._connection()
        try:
            connection.request("PUT", path, json.dumps(body), self._headers)
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            untrusted = isinstance(error, ssl.SSLCertVerificationError)
            raise LineError(type(error).__name__, final=untrusted) from None
        finally:
            connection.close()
        if answer.status in (200, 204):
            return answer.status, json.loads(text) if text else {}
        # A sealed or busy server, and an engine whose database is away, may do it later.
        final = 400 <= answer.status < 500 and answer.status not in (412, 429, 472, 473)
        raise LineError(f"status {answer.status}", final=final)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, self._url.port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(
            host, self._url.port, timeout=self._timeout_s, context=self._tls
        )
