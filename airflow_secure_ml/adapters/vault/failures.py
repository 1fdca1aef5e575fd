"""What went wrong between us and Vault, told from hvac's and requests' exceptions.

Vault's own words are never passed on, since an engine may put a statement or a login into them: a
reason is one of the words below. No exception of a vendor leaves `adapters.vault`.

Source: FACTS, Vault.
"""

from __future__ import annotations

import enum
import ssl
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
LOG_IN = "log in"

DENIED = "permission denied"
TOKEN_INVALID = "token not valid"  # noqa: S105 - a reason, no token
LOGIN_REFUSED = "login not accepted"
SECOND_FACTOR = "login asks for a second factor"
NOT_FOUND = "nothing at that path"
NOT_AUTHENTIC = "message authentication failed"
TOO_OLD = "key version no longer allowed"
NO_KEY = "no such key"
UNWRAPPED_BEFORE = "wrapping token used or expired"
WRAPPED_ELSEWHERE = "wrapping token made for something else"
UNWRAPPED_AND_LOST = "unwrapped, but the answer was lost"
NOT_ACCEPTED = "request not accepted"
NOT_PLAIN = "path not in its plain form"
ELSEWHERE = "it points to another address"

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
# What a server says with status 500 although it has done nothing.
_WITHOUT_LEADER = ("active cluster node not found", "vault is sealed", "not the leader")


class Kind(enum.Enum):
    """What may be done about it."""

    REFUSED = "it said no; asking again does not help"
    BUSY = "it said that it did nothing; asking again may help"
    LOST = "no answer came; whether anything was done is not known"
    UNTRUSTED = "no trust between the two ends; nothing was done"


NO_TRUST = "certificate not trusted"
NO_TLS = "no TLS at that address"
NOT_TRUSTED_BY_IT = "our certificate not accepted"


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
            return ConfigurationError(f"vault at {where}: {_DISTRUST[self.reason]}")
        reason = self.reason
        if self.kind is not Kind.REFUSED:
            return ServiceUnavailableError(
                f"vault at {where} did not {action}: {reason}; try again when it answers",
                service=SERVICE,
                action=action,
                reason=reason,
            )
        if action.startswith(LOG_IN) and reason in (NOT_ACCEPTED, DENIED):
            reason = LOGIN_REFUSED
        return refusal(action, reason)


def refusal(action: str, reason: str) -> ServiceRefusedError:
    """The error for a no.

    Args:
        action: What was asked.
        reason: One of the words of this module.
    """
    remedy = _REMEDIES.get(reason, "look at the request and at the engine's configuration")
    return ServiceRefusedError(
        f"vault refused to {action}: {reason}; {remedy}",
        service=SERVICE,
        action=action,
        reason=reason,
    )


_DISTRUST = {
    NO_TRUST: (
        "its certificate was not issued by a certificate authority that this connection trusts, "
        "or is not for this name; nothing was sent. Set the connection's CA file to the one that "
        "issued it"
    ),
    NO_TLS: "no TLS is spoken there; nothing was sent. Check the connection's host and port",
    NOT_TRUSTED_BY_IT: (
        "it does not accept the client certificate, or wants one; nothing was done. Check the "
        "connection's client_cert and client_key"
    ),
}
_REMEDIES = {
    DENIED: "the role's policy must allow exactly this path",
    TOKEN_INVALID: "the token was revoked or has expired, and no other could be had",
    LOGIN_REFUSED: (
        "what the connection logs in with is wrong, expired, used up or bound to another address, "
        "or nothing is mounted at auth_mount_point"
    ),
    SECOND_FACTOR: "a program has none: exempt its login from MFA",
    NOT_FOUND: "check the path and that its engine is mounted",
    NO_KEY: "check the key's name, or have it created",
    TOO_OLD: "min_decryption_version or min_encryption_version is above this version",
    NOT_AUTHENTIC: "it was altered, or wrapped for something else",
    UNWRAPPED_BEFORE: (
        "somebody may have read the secret id before us: revoke it, look who, and issue another"
    ),
    WRAPPED_ELSEWHERE: "somebody may have replaced it: look who, and issue another secret id",
    UNWRAPPED_AND_LOST: "it can be unwrapped once only: revoke it and issue another secret id",
    NOT_PLAIN: "write it without empty or dotted parts",
    ELSEWHERE: "set the connection's address to the one that answers itself",
}


def failure_of(error: Exception) -> Failure:
    """Classify an exception of hvac or requests."""
    if isinstance(error, hvac_exceptions.VaultError):
        return _of_answer(error)
    if isinstance(error, requests.exceptions.SSLError):
        return _of_tls(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Failure(kind=Kind.BUSY, reason="no connection in time")
    if isinstance(error, requests.exceptions.Timeout):
        return Failure(kind=Kind.LOST, reason="no answer in time")
    if isinstance(error, requests.exceptions.ConnectionError):
        refused = "NewConnectionError" in {type(one).__name__ for one in _parts_of(error)}
        kind = Kind.BUSY if refused else Kind.LOST
        return Failure(kind=kind, reason="not reachable" if refused else "connection cut")
    if isinstance(error, _NEVER_SENT):
        return Failure(kind=Kind.REFUSED, reason=NOT_ACCEPTED)
    return Failure(kind=Kind.LOST, reason="answer not readable")


_NEVER_SENT = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
)
# Where hvac's class alone is known.
_STATUSES: dict[type, int] = {
    hvac_exceptions.InvalidRequest: 400,
    hvac_exceptions.ParamValidationError: 400,
    hvac_exceptions.Unauthorized: 401,
    hvac_exceptions.Forbidden: 403,
    hvac_exceptions.InvalidPath: 404,
    hvac_exceptions.UnsupportedOperation: 405,
    hvac_exceptions.PreconditionFailed: 412,
    hvac_exceptions.RateLimitExceeded: 429,
    hvac_exceptions.InternalServerError: 500,
    hvac_exceptions.VaultNotInitialized: 501,
    hvac_exceptions.BadGateway: 502,
    hvac_exceptions.VaultDown: 503,
}
# Vault says with these that it did nothing. Not 502 and 504: a gateway cannot know.
_BUSY = {
    307: "status 307: not the active node",
    308: "status 308: not the active node",
    412: "status 412: a replica that is behind",
    429: "status 429: too many requests",
    472: "status 472: a replica for recovery",
    473: "status 473: a standby",
    501: "status 501: not initialized",
    503: "status 503: sealed or in maintenance",
}


def _of_answer(error: hvac_exceptions.VaultError) -> Failure:
    status = getattr(error, "status", None) or _STATUSES.get(type(error), 0)
    text = _text_of(error)
    if getattr(error, "leads_back", False):
        return Failure(kind=Kind.REFUSED, reason=NOT_PLAIN)
    if status in _BUSY:
        return Failure(kind=Kind.BUSY, reason=_BUSY[status], wait_s=getattr(error, "wait_s", None))
    if status == 403 or status == 401:
        invalid = _known(text) == TOKEN_INVALID
        return Failure(kind=Kind.REFUSED, reason=TOKEN_INVALID if invalid else DENIED)
    if status == 404:
        return Failure(kind=Kind.REFUSED, reason=NOT_FOUND)
    if 300 <= status < 400:
        return Failure(kind=Kind.REFUSED, reason=ELSEWHERE)
    if 400 <= status < 500:
        return Failure(kind=Kind.REFUSED, reason=_known(text) or NOT_ACCEPTED)
    if status == 500:
        return _of_inner(text)
    # It may have begun: a gateway says so when the server behind it stopped answering.
    reason = f"status {status}: whether it was done is not known" if status else "no known answer"
    return Failure(kind=Kind.LOST, reason=reason)


def _of_inner(text: str) -> Failure:
    if any(part in text for part in _WITHOUT_LEADER):
        return Failure(kind=Kind.BUSY, reason="status 500: no active node")
    known = _known(text)
    if known is not None:
        return Failure(kind=Kind.REFUSED, reason=known)
    # It may have begun: a database engine says so when its database failed in between.
    return Failure(kind=Kind.LOST, reason="status 500: it failed inside")


def _of_tls(error: requests.exceptions.SSLError) -> Failure:
    parts = _parts_of(error)
    names = {type(one).__name__ for one in parts}
    if names & {"SSLCertVerificationError", "CertificateError"}:
        return Failure(kind=Kind.UNTRUSTED, reason=NO_TRUST)
    reasons = [str(getattr(one, "reason", "")) for one in parts if isinstance(one, ssl.SSLError)]
    if any("WRONG_VERSION_NUMBER" in one or "HTTP_REQUEST" in one for one in reasons):
        return Failure(kind=Kind.UNTRUSTED, reason=NO_TLS)
    if any("ALERT" in one for one in reasons):
        return Failure(kind=Kind.UNTRUSTED, reason=NOT_TRUSTED_BY_IT)
    # Cut in the handshake, or in the middle of an answer: the two look alike.
    return Failure(kind=Kind.LOST, reason="connection cut")


def _text_of(error: hvac_exceptions.VaultError) -> str:
    return " ".join(map(str, error.errors or [error.args[0] if error.args else ""])).lower()


def _known(text: str) -> str | None:
    return next((reason for part, reason in _TEXTS if part in text), None)


def _parts_of(error: BaseException) -> list[BaseException]:
    """An exception, its causes and what they carry."""
    found: dict[int, BaseException] = {}
    left: list[object] = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseException) and id(one) not in found:
            found[id(one)] = one
            left += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return list(found.values())
