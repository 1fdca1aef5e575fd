"""CredentialSource over Vault: any engine that hands out a secret, with a lease or without.

Renewing is the guardian's part, through `line`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import hvac
import requests

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.failures import Kind, failure_of
from airflow_secure_ml.adapters.vault.line import LineError, VaultLine
from airflow_secure_ml.core.lease import MAX_FIELD_CHARS, MAX_FIELDS, Granted, LeaseLine
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError, ServiceUnavailableError

# Whoever revokes here waits for it, after the guardian has failed.
_REVOKE_S = 3.0
# Seconds of 68 years: no event holds any number.
_LONGEST_S = 2**31 - 1


class VaultCredentials:
    """What one Vault hands out.

    Args:
        client: The client; its token is the leases' parent.
        now_s: Wall clock, seconds since 1970 UTC.
    """

    def __init__(self, client: VaultClient, *, now_s: Callable[[], float] = time.time) -> None:
        self._client, self._now_s = client, now_s
        self._line: LeaseLine | None = None

    def line(self) -> LeaseLine:
        """How the guardian reaches it with the token in use; errors as in `grant`."""
        token = self._client.token()
        server = self._client.server
        given = {
            "url": server.url,
            "ca": _absolute(server.ca) or _default_ca(),
            "client_cert": _absolute(server.client_cert),
            "client_key": _absolute(server.client_key),
            "namespace": server.namespace,
            "timeout_s": server.timeout_s,
        }
        left_s = token.began_s + token.ttl_s - time.monotonic()
        self._line = LeaseLine(
            server=given,
            token=token.value,
            token_ttl_s=max(1, int(left_s)) if token.ttl_s else 0,
            token_ours=token.ours,
        )
        return self._line

    def grant(self, path: str, data: Mapping[str, str]) -> Granted:
        """Take a credential.

        Args:
            path: Such as `database/creds/reader`, checked already.
            data: What the engine needs; {} asks without a body.

        Raises:
            ServiceRefusedError: Vault says no, or answers with what is no credential.
            ServiceUnavailableError: It does not answer, or says no after an answer was lost; what
                it may have granted ends with the token.
        """
        asking = _Asking(path, data)
        try:
            answer = self._client.call(f"lease {path}", asking)
        except ServiceRefusedError as error:
            if not asking.lost:
                raise
            # What was lost may have been a yes.
            reason = f"{error.reason}, after an answer that was lost"
            raise ServiceUnavailableError(
                service="vault", action=f"lease {path}", reason=reason
            ) from error
        lease_id = _lease_id(answer)
        try:
            fields = _fields(path, answer)
        except ServiceRefusedError:
            if lease_id is not None:
                self._give_back(lease_id)
            raise
        return Granted(
            fields=fields,
            lease_id=lease_id,
            ttl_s=self._ttl_s(answer, fields),
            renewable=answer.get("renewable") is True and lease_id is not None,
            may_be_twice=asking.lost,
        )

    def revoke(self, lease_id: Secret) -> None:
        """End a lease now, by one request that takes a few seconds at most.

        Raises:
            ServiceRefusedError: Vault says no.
            ServiceUnavailableError: It does not answer, or its engine does not.
        """
        error = _revoked(self._line or self.line(), lease_id)
        if error is not None and error.token_is_gone:
            # It answers, so a new login will not keep anybody waiting.
            error = _revoked(self.line(), lease_id)
        if error is not None:
            kind = ServiceRefusedError if error.refused else ServiceUnavailableError
            raise kind(service="vault", action="revoke a lease", reason=str(error))

    def _give_back(self, lease_id: Secret) -> None:
        """End a lease of which nothing comes; at the latest it ends with the token."""
        try:
            self.revoke(lease_id)
        except SecureMLError as error:
            raise ServiceUnavailableError(
                service="vault", action="revoke what is no credential", reason=str(error)
            ) from error

    def _ttl_s(self, answer: Mapping[str, Any], fields: Mapping[str, Secret]) -> int | None:
        if answer.get("lease_id"):
            found = answer.get("lease_duration")
            return min(found, _LONGEST_S) if isinstance(found, int) and found > 0 else None
        # A certificate says when it ends, a static role when its password changes.
        for name, until in (("expiration", True), ("ttl", False)):
            text = fields[name].reveal()[:20] if name in fields else ""
            if text.isascii() and text.isdigit():
                left_s = int(text) - int(self._now_s()) if until else int(text)
                return min(max(0, left_s), _LONGEST_S)
        return None


def _revoked(line: LeaseLine, lease_id: Secret) -> LineError | None:
    try:
        VaultLine(line.server, line.token.reveal()).revoke(lease_id.reveal(), _REVOKE_S)
    except LineError as error:
        return error
    except OSError as error:
        # Its certificates cannot be read.
        return LineError(type(error).__name__)
    return None


class _Asking:
    """Asks for a credential, and knows whether an answer was lost that may have been a yes."""

    def __init__(self, path: str, data: Mapping[str, str]) -> None:
        self._path, self._data = f"/v1/{path}", dict(data)
        self.lost = False

    def __call__(self, vault: hvac.Client) -> Any:
        try:
            if self._data:
                return vault.adapter.post(self._path, json=self._data)
            return vault.adapter.get(self._path)
        except (hvac.exceptions.VaultError, requests.exceptions.RequestException) as error:
            self.lost = self.lost or failure_of(error).kind is Kind.LOST
            raise


def _lease_id(answer: Mapping[str, Any]) -> Secret | None:
    found = answer.get("lease_id")
    return Secret(found) if isinstance(found, str) and found else None


def _fields(path: str, answer: Mapping[str, Any]) -> dict[str, Secret]:
    if answer.get("wrap_info"):
        raise _no_credential(path, "a wrapped answer; its policy must not ask for wrapping")
    data = answer.get("data")
    if isinstance(data, Mapping) and set(data) == {"data", "metadata"}:
        # KV version 2 wraps a secret once more.
        data = data["data"]
    if not isinstance(data, Mapping) or not 1 <= len(data) <= MAX_FIELDS:
        raise _no_credential(path, f"an answer without 1 to {MAX_FIELDS} fields")
    fields = {str(name): _text(value) for name, value in data.items() if value is not None}
    if any(len(text) > MAX_FIELD_CHARS for text in fields.values()):
        raise _no_credential(path, f"a field of more than {MAX_FIELD_CHARS} characters")
    if not all(map(_is_text, (*fields, *fields.values()))):
        raise _no_credential(path, "a field that is no text")
    return {name: Secret(text) for name, text in fields.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return json.dumps(value)


def _is_text(text: str) -> bool:
    """Whether it can be written to a file or sent: JSON can also name halves of characters."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _absolute(path: str | None) -> str | None:
    # The guardian is in another folder.
    return None if path is None else os.path.abspath(path)


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
