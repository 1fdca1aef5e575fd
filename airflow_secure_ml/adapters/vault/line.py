"""Renew and revoke by standard library alone: the guardian's way to Vault.

One request, one connection, no retry: when to ask again is `keeping`'s business.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_MAX_ANSWER_BYTES = 1 << 20
_PIECE_BYTES = 65536
# What does not even connect is tried again soon, whatever an answer may take.
_CONNECT_S = 3.0
# Parts of Vault's own texts with status 400; others are an engine's, whose system may come back.
_FINAL_TEXTS = (b"lease not found", b"lease is not renewable", b"lease expired")
_TOKEN_TEXTS = (b"invalid token", b"bad token")


class LineError(Exception):
    """Vault was not reached, or said no.

    Attributes:
        refused: Whether it said no, so that asking again is of no use.
        token_is_gone: Whether it does not know the token, or no longer: its leases end with it.
    """

    def __init__(self, reason: str, *, refused: bool = False, token_is_gone: bool = False) -> None:
        super().__init__(reason)
        self.refused, self.token_is_gone = refused, token_is_gone


class VaultLine:
    """Vault, as the holder of one token reaches it; safe from many threads.

    Args:
        server: url, ca, client_cert, client_key, namespace, timeout_s.
        token: The token.
    """

    def __init__(self, server: Mapping[str, Any], token: str) -> None:
        self._url = urlsplit(server["url"])
        self.timeout_s = float(server["timeout_s"])
        self._headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if server.get("namespace"):
            self._headers["X-Vault-Namespace"] = server["namespace"]
        self._tls: ssl.SSLContext | None = None
        if self._url.scheme == "https":
            self._tls = ssl.create_default_context(cafile=server["ca"])
            if server.get("client_cert"):
                self._tls.load_cert_chain(server["client_cert"], server.get("client_key"))

    def renew(self, lease_id: str, increment_s: int, timeout_s: float) -> int:
        """Prolong a lease; returns the seconds it holds from now."""
        body = {"lease_id": lease_id, "increment": increment_s}
        return _seconds(self._put("/v1/sys/leases/renew", body, timeout_s))

    def revoke(self, lease_id: str, timeout_s: float) -> None:
        """End a lease; returns once its engine has done so."""
        self._put("/v1/sys/leases/revoke", {"lease_id": lease_id, "sync": True}, timeout_s)

    def renew_token(self, timeout_s: float) -> int:
        """Prolong the token; returns the seconds it holds from now, 0: it does not end."""
        auth = self._put("/v1/auth/token/renew-self", {}, timeout_s).get("auth")
        return _seconds(auth if isinstance(auth, dict) else {})

    def revoke_token(self, timeout_s: float) -> None:
        """End the token; what was leased with it Vault ends on its own, a moment later."""
        self._put("/v1/auth/token/revoke-self", {}, timeout_s)

    def _put(self, path: str, body: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Ask; `timeout_s` is kept within the server's own."""
        timeout_s = min(timeout_s, self.timeout_s)
        connection = self._connection(min(_CONNECT_S, timeout_s))
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            connection.request("PUT", path, json.dumps(body), self._headers)
            answer = connection.getresponse()
            text = _read(answer, timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LineError(type(error).__name__) from None
        finally:
            connection.close()
        if answer.status == 204:
            return {}
        if answer.status == 200:
            return _object(text)
        raise _error(answer.status, text)

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, self._url.port, timeout=timeout_s)
        return http.client.HTTPSConnection(
            host, self._url.port, timeout=timeout_s, context=self._tls
        )


def _read(answer: http.client.HTTPResponse, timeout_s: float) -> bytes:
    # A socket's own limit begins anew with each piece: an answer that trickles has no end.
    until_s = time.monotonic() + timeout_s
    text = b""
    while piece := answer.read1(_PIECE_BYTES):
        text += piece
        if len(text) > _MAX_ANSWER_BYTES or time.monotonic() > until_s:
            raise TimeoutError
    return text


def _error(status: int, text: bytes) -> LineError:
    # A sealed or busy server may do it later, and so may an engine whose database is away.
    refused = status in (401, 403, 404, 405) or any(one in text for one in _FINAL_TEXTS)
    token_is_gone = status in (401, 403) and any(one in text for one in _TOKEN_TEXTS)
    return LineError(f"status {status}", refused=refused, token_is_gone=token_is_gone)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # A page of whoever stands in between, say: nothing was done.
        raise LineError("answer not readable")
    return found


def _seconds(answer: Mapping[str, Any]) -> int:
    found = answer.get("lease_duration")
    if not isinstance(found, int) or found < 0:
        raise LineError("answer without a term")
    return found
