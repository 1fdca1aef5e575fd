"""Sign and verify with ML-DSA-65: the second signature of a key, which a quantum computer does not
forge either.

Never alone: a key that has it signs with Ed25519 too, and both signatures must hold.

Source: FIPS 204 (pure ML-DSA, empty context), RFC 9881 (its public keys in PEM).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import ConfigurationError, SignatureError

PUBLIC_BYTES, SIGNATURE_BYTES = 1952, 3309
# What a key's second signature is called: its owner's name/version, and this.
SUFFIX = "+ml-dsa-65"


def public_of(seed: bytes | bytearray) -> bytes:
    """The 1952 bytes of the public key that belongs to a 32-byte seed."""
    return _load(seed).public_key().public_bytes_raw()


class MlDsaSigner:
    """The second half of a signing key held in memory."""

    __slots__ = ("_key", "_ref")

    def __init__(self, seed: bytes | bytearray, ref: KeyRef) -> None:
        self._key = _load(seed)
        self._ref = ref

    def __repr__(self) -> str:
        return f"MlDsaSigner({str(self._ref)!r}, key=***)"

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("MlDsaSigner holds a key and cannot be pickled")

    @property
    def ref(self) -> KeyRef:
        """The key as events name it: the same for both halves."""
        return self._ref

    def sign(self, message: bytes) -> bytes:
        """Return the 3309-byte signature over `message`."""
        return self._key.sign(message)


class MlDsaVerifier:
    """The public half of a key's second half."""

    __slots__ = ("_key", "_key_id", "_public_key", "_ref")

    def __init__(self, public_key: bytes, ref: KeyRef, key_id: str) -> None:
        self._key = _load_public(public_key)
        self._public_key = bytes(public_key)
        self._key_id = key_id + SUFFIX
        self._ref = ref

    def __repr__(self) -> str:
        return f"MlDsaVerifier({self._key_id!r})"

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    @property
    def key_id(self) -> str:
        """What its signatures call it."""
        return self._key_id

    @property
    def public_key(self) -> bytes:
        """The 1952 bytes of the raw public key."""
        return self._public_key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds; raise SignatureError otherwise."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError(
                f"{self._ref}: its second signature (ML-DSA-65) does not hold for these bytes"
            ) from error


def _load(seed: bytes | bytearray) -> MLDSA65PrivateKey:
    try:
        return MLDSA65PrivateKey.from_seed_bytes(seed)
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error


def _load_public(public: bytes) -> MLDSA65PublicKey:
    try:
        return MLDSA65PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise ConfigurationError(
            f"ML-DSA-65: expected a public key of {PUBLIC_BYTES} bytes, found {len(public)}"
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error


def _unsupported() -> ConfigurationError:
    return ConfigurationError(
        "ML-DSA-65: the installed cryptography library was built without it; install a release of "
        "its own wheels"
    )
