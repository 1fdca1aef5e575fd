"""What went wrong between us and Vault, told from hvac's and requests' exceptions.

Vault's own words are never passed on, since an engine may put a statement or a login into them: a
reason is one of the words below. No exception of a vendor leaves `adapters.vault`.

Source: FACTS, Vault.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import requests
from hvac import exceptions as hvac_exceptions

from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

SERVICE = "vault"

DENIED = "permission denied"
TOKEN_INVALID = "token not valid"  # noqa: S105 - a reason, no token
NOT_FOUND = "nothing at that path"
NOT_AUTHENTIC = "message authentication failed"
TOO_OLD = "key version no longer allowed"
NO_KEY = "no such key"
UNWRAPPED_BEFORE = "wrapping token used or expired"
NOT_ACCEPTED = "request not accepted"

# Parts of Vault 1.21's and OpenBao 2's own texts, in lower case.
_TEXTS: tuple[tuple[str, str], ...] = (
    ("wrapping token is not valid", UNWRAPPED_BEFORE),
    ("message authentication failed", NOT_AUTHENTIC),
    ("invalid ciphertext", NOT_AUTHENTIC),
    ("disallowed by policy (too old)", TOO_OLD),
    ("is disallowed by policy", TOO_OLD),
    ("encryption key not found", NO_KEY),
    ("signing key not found", NO_KEY),
    ("no existing key named", NO_KEY),
    ("invalid token", TOKEN_INVALID),
    ("bad token", TOKEN_INVALID),
)


class Kind(enum.Enum):
    """What may be done about it."""

    REFUSED = "it said no; asking again does not help"
    BUSY = "it said that it did nothing; asking again may help"
    LOST = "no answer came; whether anything was done is not known"
    UNTRUSTED = "its certificate does not hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request.

    Attributes:
        kind: What may be done about it.
        reason: One of the words of this module, or a status.
        wait_s: Seconds that it asked to wait; None: it said nothing.
    """

    kind: Kind
    reason: str
    wait_s: float | None = None

    def as_error(self, action: str, where: str) -> SecureMLError:
        """The error to raise once nothing more is tried.

        Args:
            action: What it was asked to do, such as `lease database/creds/reader`.
            where: The server's address.
        """
        if self.kind is Kind.UNTRUSTED:
            return ConfigurationError(
                f"vault at {where}: its certificate was not issued by a certificate authority that "
                "this connection trusts, or is not for this name; nothing was sent. Set the "
                "connection's CA file to the one that issued it"
            )
        if self.kind is Kind.REFUSED:
            return ServiceRefusedError(
                f"vault refused to {action}: {self.reason}; {_REMEDIES.get(self.reason, _REMEDY)}",
                service=SERVICE,
                action=action,
                reason=self.reason,
            )
        return ServiceUnavailableError(
            f"vault at {where} did not {action}: {self.reason}; try again when it answers",
            service=SERVICE,
            action=action,
            reason=self.reason,
        )


_REMEDY = "look at the request and at the engine's configuration"
_REMEDIES = {
    DENIED: "the role's policy must allow exactly this path",
    TOKEN_INVALID: "the token was revoked or has expired, and no other could be had",
    NOT_FOUND: "check the path and that its engine is mounted",
    NO_KEY: "check the key's name, or have it created",
    TOO_OLD: "min_decryption_version or min_encryption_version is above this version",
    NOT_AUTHENTIC: "it was altered, or wrapped for something else",
    UNWRAPPED_BEFORE: "somebody may have read the secret id before us: revoke it and look who",
}


def failure_of(error: Exception) -> Failure:
    """Classify an exception of hvac or requests."""
    if isinstance(error, hvac_exceptions.VaultError):
        return _of_answer(error)
    if isinstance(error, requests.exceptions.SSLError):
        return Failure(kind=Kind.UNTRUSTED, reason="certificate not trusted")
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Failure(kind=Kind.BUSY, reason="no connection in time")
    if isinstance(error, requests.exceptions.Timeout):
        return Failure(kind=Kind.LOST, reason="no answer in time")
    if isinstance(error, requests.exceptions.ConnectionError):
        refused = "NewConnectionError" in _names_in(error)
        kind = Kind.BUSY if refused else Kind.LOST
        return Failure(kind=kind, reason="not reachable" if refused else "connection cut")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
        return Failure(kind=Kind.REFUSED, reason=NOT_ACCEPTED)
    return Failure(kind=Kind.LOST, reason="answer not readable")


def failure_of_status(status: int) -> Failure:
    """Classify an answer that hvac takes for a success: a redirect of a standby, say."""
    return Failure(kind=Kind.BUSY, reason=f"status {status}: not the active node")


_BUSY = (
    hvac_exceptions.RateLimitExceeded,
    hvac_exceptions.VaultDown,
    hvac_exceptions.BadGateway,
    hvac_exceptions.VaultNotInitialized,
    hvac_exceptions.PreconditionFailed,
)
_BUSY_REASONS: dict[type, str] = {
    hvac_exceptions.RateLimitExceeded: "status 429: too many requests",
    hvac_exceptions.VaultDown: "status 503: sealed or in maintenance",
    hvac_exceptions.BadGateway: "status 502: no server behind the gateway",
    hvac_exceptions.VaultNotInitialized: "status 501: not initialized",
    hvac_exceptions.PreconditionFailed: "status 412: a replica that is behind",
}


def _of_answer(error: hvac_exceptions.VaultError) -> Failure:
    if isinstance(error, _BUSY):
        return Failure(kind=Kind.BUSY, reason=_BUSY_REASONS[type(error)])
    text = _text_of(error)
    if isinstance(error, hvac_exceptions.InternalServerError):
        known = _known(text)
        if known is not None:
            return Failure(kind=Kind.REFUSED, reason=known)
        # It may have begun: a database engine says so when its database failed in between.
        return Failure(kind=Kind.LOST, reason="status 500: it failed inside")
    if isinstance(error, (hvac_exceptions.Forbidden, hvac_exceptions.Unauthorized)):
        invalid = _known(text) == TOKEN_INVALID
        return Failure(kind=Kind.REFUSED, reason=TOKEN_INVALID if invalid else DENIED)
    if isinstance(error, hvac_exceptions.InvalidPath):
        return Failure(kind=Kind.REFUSED, reason=NOT_FOUND)
    if isinstance(error, hvac_exceptions.UnexpectedError):
        return Failure(kind=Kind.BUSY, reason="an answer of no known status")
    return Failure(kind=Kind.REFUSED, reason=_known(text) or NOT_ACCEPTED)


def _text_of(error: hvac_exceptions.VaultError) -> str:
    return " ".join(map(str, error.errors or [error.args[0] if error.args else ""])).lower()


def _known(text: str) -> str | None:
    return next((reason for part, reason in _TEXTS if part in text), None)


def _names_in(error: BaseException | None) -> set[str]:
    """Class names of an exception, of its causes and of what they carry."""
    names: set[str] = set()
    seen: list[object] = [error]
    while seen:
        one = seen.pop()
        if isinstance(one, BaseException) and type(one).__name__ not in names:
            names.add(type(one).__name__)
            seen += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return names
