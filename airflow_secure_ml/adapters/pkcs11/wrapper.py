"""A key in a token as whoever seals, opens or signs sees it; the key itself never leaves it.

Source: docs/sealed-file-format.md, slot type 6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NoReturn

from airflow_secure_ml.adapters.pkcs11.failures import SERVICE, Kind, failure_of
from airflow_secure_ml.adapters.pkcs11.objects import check_signs, check_wraps, find_object
from airflow_secure_ml.adapters.pkcs11.token import Token
from airflow_secure_ml.core.ed25519 import Ed25519Verifier, check_made
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import (
    KEY_BYTES,
    PKCS11_LABEL,
    TYPE_PKCS11,
    check_file_key,
    check_unwrapped,
)
from airflow_secure_ml.core.sealed_file.slots import IV_BYTES, PKCS11_BODY_BYTES
from airflow_secure_ml.errors import (
    CiphertextError,
    PolicyError,
)
from airflow_secure_ml.extras import import_extra

SYSTEM = "pkcs11"


class TokenWrapper:
    """One version of a wrap key: slot type 6.

    Args:
        token: Where it lies.
        at: Its name there.
        ref: The version as events name it.
        random_bytes: Makes the 12 bytes of a nonce.
    """

    def __init__(
        self,
        token: Token,
        at: str,
        ref: KeyRef,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._token, self._ref, self._random_bytes = token, ref, random_bytes
        self._label = f"{at}/{ref.version}"

    def __repr__(self) -> str:
        return f"TokenWrapper({self.slot_id!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # As of every wrapper: what is pickled goes into an XCom or a queue.
        raise TypeError("TokenWrapper cannot be pickled; pass the key's name")

    @property
    def slot_type(self) -> int:
        """PKCS#11's."""
        return TYPE_PKCS11

    @property
    def slot_id(self) -> str:
        """Token, key and version."""
        return f"{self._token.label}/{self._label}"

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    def ref_of(self, body: bytes) -> KeyRef:
        """The key itself: a slot of another version has another id."""
        return self._ref

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap a 32-byte file key for the file `core_id`; returns 60 bytes.

        Raises:
            PolicyError: This version wraps no more (key_disabled).
            ServiceError: The token refuses, or is not there.
        """
        check_file_key(file_key)
        nonce = self._random_bytes(IV_BYTES)
        sealed = self._token.use(
            f"wrap with {self.slot_id}",
            lambda session: _encrypt(self._key(session, "ENCRYPT"), file_key, nonce, core_id),
        )
        return nonce + sealed

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body; the caller wipes the file key.

        Raises:
            CiphertextError: This key did not wrap this body for `core_id`.
            PolicyError: This version unwraps no more (key_disabled), or is gone.
            ServiceError: The token refuses, or is not there.
        """
        if len(body) != PKCS11_BODY_BYTES:
            raise CiphertextError(
                f"slot {self.slot_id}: a body of {len(body)} bytes, expected {PKCS11_BODY_BYTES}"
            )
        file_key = self._token.use(
            f"unwrap with {self.slot_id}",
            lambda session: self._decrypt(self._key(session, "DECRYPT"), body, core_id),
        )
        check_unwrapped(file_key, self.slot_id)
        return file_key

    def _key(self, session: Any, flag: str) -> Any:
        key = find_object(session, "SECRET_KEY", self._token.label, self._label)
        check_wraps(key, self.slot_id)
        if not key[getattr(import_extra("pkcs11", extra="pkcs11").Attribute, flag)]:
            raise PolicyError(
                f"key {self.slot_id}: expected one that may {flag.lower()}, found it switched off "
                "in the token; whoever manages the key can allow it again",
                why="key_disabled",
            )
        return key

    def _decrypt(self, key: Any, body: bytes, core_id: bytes) -> bytearray:
        pkcs11 = import_extra("pkcs11", extra="pkcs11")
        try:
            nonce, sealed = body[:IV_BYTES], body[IV_BYTES:]
            return bytearray(key.decrypt(sealed, **_mechanism(nonce, core_id)))
        except pkcs11.PKCS11Error as error:
            if failure_of(error).kind is not Kind.ALTERED or not _works(key):
                raise
            raise CiphertextError(
                f"slot {self.slot_id}: not wrapped by this key for this file; the header was "
                "altered or taken from another file"
            ) from error


class TokenSigner:
    """One version of a sign key.

    Args:
        token: Where it lies.
        at: Its name there.
        verifier: Its public half.
    """

    def __init__(self, token: Token, at: str, verifier: Ed25519Verifier) -> None:
        self._token, self._verifier = token, verifier
        self._label = f"{at}/{verifier.ref.version}"

    def __repr__(self) -> str:
        return f"TokenSigner({str(self.ref)!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # As of every signer: what is pickled goes into an XCom or a queue.
        raise TypeError("TokenSigner cannot be pickled; pass the key's name")

    @property
    def ref(self) -> KeyRef:
        """The version that signs."""
        return self._verifier.ref

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`.

        Raises:
            ServiceError: The token refuses, is not there, or signed something else.
        """
        action = f"sign with {self._token.label}/{self._label}"
        signature = self._token.use(action, lambda session: self._sign(session, message))
        check_made(
            signature,
            message,
            self._verifier,
            service=SERVICE,
            action=action,
            told="the public key beside it",
        )
        return signature

    def _sign(self, session: Any, message: bytes) -> bytes:
        pkcs11 = import_extra("pkcs11", extra="pkcs11")
        key = find_object(session, "PRIVATE_KEY", self._token.label, self._label)
        check_signs(key, f"{self._token.label}/{self._label}")
        return bytes(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))


def _encrypt(key: Any, data: bytes | bytearray, nonce: bytes, core_id: bytes) -> bytes:
    return bytes(key.encrypt(bytes(data), **_mechanism(nonce, core_id)))


def _mechanism(nonce: bytes, core_id: bytes) -> dict[str, Any]:
    pkcs11 = import_extra("pkcs11", extra="pkcs11")
    parameters = pkcs11.GCMParams(nonce, PKCS11_LABEL + core_id, 128)
    return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


def _works(key: Any) -> bool:
    """Whether the token decrypts what it encrypted: some say nothing but that they failed.

    A version that only opens cannot be tried so, and is taken to work.
    """
    pkcs11 = import_extra("pkcs11", extra="pkcs11")
    if not key[pkcs11.Attribute.ENCRYPT]:
        return True
    nonce, core_id = secrets.token_bytes(IV_BYTES), secrets.token_bytes(KEY_BYTES)
    try:
        sealed = _encrypt(key, bytes(KEY_BYTES), nonce, core_id)
        return bool(key.decrypt(sealed, **_mechanism(nonce, core_id)) == bytes(KEY_BYTES))
    except pkcs11.PKCS11Error:
        return False
