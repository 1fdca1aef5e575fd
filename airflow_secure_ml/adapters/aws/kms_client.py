"""Ask AWS KMS one thing, again where it did nothing, and say what a no means for a key.

Source: AWS KMS API Reference.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_secure_ml.adapters.aws.failures import KMS, VENDOR_ERRORS, Failure, Kind, failure_of
from airflow_secure_ml.adapters.aws.session import AwsSession
from airflow_secure_ml.errors import (
    CiphertextError,
    PolicyError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

NOT_FOUND = "NotFoundException"
_NOT_AUTHENTIC = ("InvalidCiphertextException", "IncorrectKeyException")
_TAKES_GRANTS = ("Decrypt", "Encrypt", "ReEncrypt", "DescribeKey", "Sign", "GetPublicKey")
FIRST_WAIT_S, MAX_WAIT_S = 0.2, 5.0


class KmsClient:
    """KMS of one account in one region.

    Args:
        session: Leads there; nothing is connected before it is asked.
        region: None: the session's own.
        grant_token: Sent along where KMS takes one; None: none.
        deadline_s: Seconds that all tries of one request may take together.
        clock: Seconds; any zero, never back.
        pause: Waits some seconds.
        jitter: A number between two others, at random: workers that failed together do not come
            back together.
    """

    def __init__(
        self,
        session: Callable[[], AwsSession],
        *,
        region: str | None = None,
        grant_token: str | None = None,
        deadline_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._find, self._region = session, region
        self._grants = {} if grant_token is None else {"GrantTokens": [grant_token]}
        self._deadline_s, self._clock, self._pause, self._jitter = deadline_s, clock, pause, jitter
        self._session: AwsSession | None = None

    def ask(
        self, action: str, operation: str, *, key: str, repeatable: bool = True, **arguments: Any
    ) -> dict[str, Any]:
        """Ask, and return the answer's fields.

        Args:
            action: What is asked, for messages: `wrap a file key with alias/data`.
            operation: KMS' name for it, such as `Encrypt`.
            key: Alias, id or ARN, for messages.
            repeatable: Whether it may be asked again where no answer came.
            arguments: KMS' own.

        Raises:
            PolicyError: No such key, or it is disabled, to be deleted, or for something else.
            CiphertextError: What was to be decrypted is not authentic.
            ServiceRefusedError: Another no, such as a missing right.
            ServiceUnavailableError: No answer in time, or too many requests.
        """
        if operation in _TAKES_GRANTS:
            arguments |= self._grants
        ends, wait_s = self._clock() + self._deadline_s, FIRST_WAIT_S
        while True:
            try:
                return self._answer(operation, arguments)
            except VENDOR_ERRORS as error:
                failure = failure_of(error)
                again = failure.kind is Kind.BUSY or (failure.kind is Kind.LOST and repeatable)
                wait = self._jitter(0.0, wait_s)
                if not again or self._clock() + wait >= ends:
                    # Its name alone: a vendor's text may quote a token.
                    cause = RuntimeError(type(error).__name__)
                    raise self._meant(failure, action, key) from cause
            self._pause(wait)
            wait_s = min(2 * wait_s, MAX_WAIT_S)

    def _answer(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        client = self._connected().client("kms")
        # KMS' names are botocore's, but for the case.
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
        answer: dict[str, Any] = getattr(client, name)(**arguments)
        return answer

    def _connected(self) -> AwsSession:
        if self._session is None:
            found = self._find()
            if self._region is not None and self._region != found.identity.region:
                found = AwsSession(replace(found.identity, region=self._region))
            self._session = found
        return self._session

    def _meant(self, failure: Failure, action: str, key: str) -> SecureMLError:
        reason = failure.reason
        if reason in _NOT_AUTHENTIC:
            return CiphertextError(
                f"slot {key}: not wrapped by this key for this file; the header was altered or "
                "taken from another file"
            )
        if reason == NOT_FOUND:
            return PolicyError(
                f"key {key}: expected a key or alias of AWS KMS, found none; check name, region "
                "and account",
                why="key_missing",
            )
        if reason == "DisabledException":
            return disabled(key)
        if reason == "KMSInvalidStateException":
            return self._by_state(key)
        if reason == "InvalidKeyUsageException":
            return not_allowed(key)
        return failure.as_error(service=KMS, action=action)

    def _by_state(self, key: str) -> PolicyError:
        """Why a key does nothing; without the right to look, that it is disabled."""
        try:
            answer = self._answer("DescribeKey", {"KeyId": key} | self._grants)
            state = answer["KeyMetadata"]["KeyState"]
        except (*VENDOR_ERRORS, KeyError):
            state = None
        return to_be_deleted(key) if state == "PendingDeletion" else disabled(key)


def disabled(key: str) -> PolicyError:
    """The error for a key that does nothing for now."""
    return PolicyError(
        f"key {key}: expected one that may be used, found it disabled in AWS KMS; whoever manages "
        f"the key can enable it again: `aws kms enable-key --key-id {key}`",
        why="key_disabled",
    )


def to_be_deleted(key: str) -> PolicyError:
    """The error for a key that is about to be gone."""
    return PolicyError(
        f"key {key}: expected one that may be used, found that AWS KMS deletes it soon; what only "
        "it opens is lost then, unless whoever manages the key cancels it in time: "
        f"`aws kms cancel-key-deletion --key-id {key}`",
        why="key_destroyed",
    )


def not_allowed(key: str) -> PolicyError:
    """The error for a key that was made for something else."""
    return PolicyError(
        f"key {key}: expected another purpose: SYMMETRIC_DEFAULT with ENCRYPT_DECRYPT wraps, "
        "ECC_NIST_EDWARDS25519 with SIGN_VERIFY signs; name another key",
        why="key_not_allowed",
    )


def refuse_answer(action: str, found: str) -> ServiceRefusedError:
    """The error for an answer that is another key's."""
    return ServiceRefusedError(
        f"{KMS} did not {action}: another key answered, {found[:120]!r}; nothing of it was used. "
        "Look who moved an alias, or what answers there",
        service=KMS,
        action=action,
        reason="another key answered",
    )


def not_readable(action: str) -> ServiceUnavailableError:
    """The error for an answer that is not what AWS' reference says."""
    return ServiceUnavailableError(
        f"{KMS} did not {action}: its answer cannot be read; look whether something else answers "
        "for it",
        service=KMS,
        action=action,
        reason="answer not readable",
    )
