"""A key in KMS as whoever seals, opens or signs sees it; the key itself never leaves KMS.

Source: docs/sealed-file-format.md, slot type 4.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from airflow_secure_ml.adapters.aws.failures import KMS
from airflow_secure_ml.adapters.aws.kms_client import KmsClient, not_readable, refuse_answer
from airflow_secure_ml.adapters.aws.kms_key import WRAP_SPEC
from airflow_secure_ml.core.ed25519 import Ed25519Verifier, check_made
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import TYPE_AWS_KMS, check_file_key, check_unwrapped
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
)

SYSTEM = "awskms"
SIGN_ALGORITHM = "ED25519_SHA_512"
# KMS takes no more of a message that is not hashed before.
SIGNED_BYTES = 4096


class KmsWrapper:
    """One key that wraps: slot type 4.

    Args:
        client: Where it lies.
        arn: Its name.
        ref: The version as events name it.
    """

    def __init__(self, client: KmsClient, arn: str, ref: KeyRef) -> None:
        self._client, self._arn, self._ref = client, arn, ref

    def __repr__(self) -> str:
        return f"KmsWrapper({self._arn!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # Its client holds credentials.
        raise TypeError("KmsWrapper cannot be pickled; pass the key's name")

    @property
    def slot_type(self) -> int:
        """AWS KMS'."""
        return TYPE_AWS_KMS

    @property
    def slot_id(self) -> str:
        """The key's ARN."""
        return self._arn

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    def ref_of(self, body: bytes) -> KeyRef:
        """The key itself: a slot of another version has another ARN."""
        return self._ref

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap a 32-byte file key for the file `core_id`; errors as `KmsClient.ask`."""
        check_file_key(file_key)
        action = f"wrap a file key with {self._arn}"
        answer = self._client.ask(
            action,
            "Encrypt",
            key=self._arn,
            KeyId=self._arn,
            Plaintext=bytes(file_key),
            EncryptionContext=context_of(core_id),
            EncryptionAlgorithm=WRAP_SPEC,
        )
        if answer.get("KeyId") != self._arn:
            raise refuse_answer(action, str(answer.get("KeyId")))
        return body_of(self._arn, answer.get("CiphertextBlob"), action)

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body; the caller wipes the file key.

        Raises:
            CiphertextError: It was not wrapped by this key for this `core_id`.
            SecureMLError: As `KmsClient.ask`.
        """
        action = f"unwrap a file key with {self._arn}"
        answer = self._client.ask(
            action,
            "Decrypt",
            key=self._arn,
            KeyId=self._arn,
            CiphertextBlob=body,
            EncryptionContext=context_of(core_id),
            EncryptionAlgorithm=WRAP_SPEC,
        )
        if answer.get("KeyId") != self._arn:
            raise refuse_answer(action, str(answer.get("KeyId")))
        found = answer.get("Plaintext")
        if not isinstance(found, bytes):
            raise not_readable(action)
        # Python's bytes cannot be overwritten; what can be is handed on, and wiped later.
        file_key = bytearray(found)
        check_unwrapped(file_key, self._arn)
        return file_key


class KmsSigner:
    """One key that signs.

    Args:
        client: Where it lies.
        arn: Its name.
        verifier: Its public half.
    """

    def __init__(self, client: KmsClient, arn: str, verifier: Ed25519Verifier) -> None:
        self._client, self._arn, self._verifier = client, arn, verifier

    def __repr__(self) -> str:
        return f"KmsSigner({str(self.ref)!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # Its client holds credentials.
        raise TypeError("KmsSigner cannot be pickled; pass the key's name")

    @property
    def ref(self) -> KeyRef:
        """The version that signs."""
        return self._verifier.ref

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`.

        Raises:
            ConfigurationError: More than 4096 bytes, which KMS does not take.
            ServiceRefusedError: KMS says no, or signed something else.
        """
        action = f"sign with {self._arn}"
        if len(message) > SIGNED_BYTES:
            raise ConfigurationError(
                f"key {self._arn}: {len(message)} bytes to sign, and AWS KMS takes {SIGNED_BYTES} "
                "of a message for Ed25519; sign with a key of a local keyring, of Vault or of a "
                "token (key_names)"
            )
        answer = self._client.ask(
            action,
            "Sign",
            key=self._arn,
            KeyId=self._arn,
            Message=message,
            MessageType="RAW",
            SigningAlgorithm=SIGN_ALGORITHM,
        )
        signature = answer.get("Signature")
        if answer.get("KeyId") != self._arn or not isinstance(signature, bytes):
            raise refuse_answer(action, str(answer.get("KeyId")))
        check_made(
            signature,
            message,
            self._verifier,
            service=KMS,
            action=action,
            told="the key that it told",
        )
        return signature


def read_verifier(client: KmsClient, arn: str, ref: KeyRef) -> Ed25519Verifier:
    """The public half of a key that signs; errors as `KmsClient.ask`."""
    action = f"read the public key {arn}"
    answer = client.ask(action, "GetPublicKey", key=arn, KeyId=arn)
    if answer.get("KeyId") != arn:
        raise refuse_answer(action, str(answer.get("KeyId")))
    try:
        key = load_der_public_key(answer["PublicKey"])
    except (KeyError, TypeError, ValueError) as error:
        raise not_readable(action) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"key {arn}: expected Ed25519, found another kind of public key")
    return Ed25519Verifier(key.public_bytes_raw(), ref)


def context_of(core_id: bytes) -> dict[str, str]:
    """What a body is bound to; KMS writes it into its own trail, too."""
    return {"asml-core": core_id.hex()}


def body_of(arn: str, blob: object, action: str) -> bytes:
    """A CiphertextBlob as a slot's body; ServiceUnavailableError if a slot could not hold it."""
    if not isinstance(blob, bytes):
        raise not_readable(action)
    try:
        check_slot(Slot(type=TYPE_AWS_KMS, id=arn, body=blob))
    except FormatError as error:
        raise not_readable(action) from error
    return blob
