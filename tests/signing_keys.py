"""Keys that sign and verify in this process, from seeds."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import SignatureError


class Key:
    """A signing key and its public half in one."""

    def __init__(self, name: str, version: str, seed: int) -> None:
        self.ref = KeyRef(system="local", name=name, version=version)
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)

    @property
    def key_id(self) -> str:
        return str(self.ref)

    @property
    def public_key(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def verify(self, signature: bytes, message: bytes) -> None:
        try:
            self._private.public_key().verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError("no") from error


PIPELINE = Key("pipeline", "3", 1)
RELEASE = Key("release", "1", 2)
MALLORY = Key("pipeline", "3", 66)  # another key that says it is ours
