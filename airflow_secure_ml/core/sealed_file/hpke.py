"""Seal file keys to the public keys of people and other organisations, and open what they get.

Anybody who knows a public key can seal to it: such a slot says nothing about who wrote a file, so
its reader demands a signature (`KeySystem.unwrappers` leaves these keys out). Where public keys
come from is a key system's business.

Source: SEALED_FILE_FORMAT, slot type 2; RFC 9180; draft-ietf-hpke-pq (MLKEM768-X25519).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE, check_file_key, wipe
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

X25519, HYBRID = "x25519", "mlkem768-x25519"
ALGORITHMS = (X25519, HYBRID)
SEED_BYTES = 32
INFO_LABEL = b"asml/v1/hpke"
SCHEME = "hpke:"

_TEXT_LABEL = b"asml/v1/recipient"
_CHECK_BYTES = 4
_MLKEM_PUBLIC_BYTES, _MLKEM_SEED_BYTES = 1184, 64
PUBLIC_BYTES = {X25519: 32, HYBRID: _MLKEM_PUBLIC_BYTES + 32}
# u16 kem, kdf, aead.
_SUITE_IDS = {X25519: bytes.fromhex("002000010002"), HYBRID: bytes.fromhex("647a00010002")}
_BODY_BYTES = {X25519: 86, HYBRID: 1174}
_SUITES = {
    X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    HYBRID: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}
_FIELD_PRIME = 2**255 - 19
_TEXT = re.compile(r"hpke:([a-z0-9-]{1,32}):([A-Za-z0-9_-]{1,2048})", re.ASCII)

_PublicKey = X25519PublicKey | hpke.MLKEM768X25519PublicKey
_PrivateKey = X25519PrivateKey | hpke.MLKEM768X25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A public key that file keys can be sealed to; checked when it is made.

    Attributes:
        algorithm: `x25519` or `mlkem768-x25519`.
        public: 32 bytes; hybrid: ML-KEM-768's 1184 bytes, then X25519's 32.

    Raises:
        ConfigurationError: Another algorithm or length, or bytes that are no safe public key.
    """

    algorithm: str
    public: bytes

    def __post_init__(self) -> None:
        if len(self.public) != PUBLIC_BYTES.get(self.algorithm):
            raise ConfigurationError(
                f"recipient: expected {' or '.join(ALGORITHMS)} and its public key, found "
                f"{self.algorithm[:32]!r} and {len(self.public)} bytes"
            )
        _check_x25519(self.public[-32:])
        _load_public(self)

    def __repr__(self) -> str:
        return f"Recipient({self.algorithm}, {self.id})"

    @property
    def id(self) -> str:
        """The slot's id: 64 hex digits."""
        return hashlib.sha256(self.public).hexdigest()


def recipient_of(algorithm: str, seed: bytes | bytearray) -> Recipient:
    """The public half of a private key of 32 bytes."""
    if algorithm == X25519:
        key = X25519PrivateKey.from_private_bytes(seed)
        return Recipient(algorithm=algorithm, public=key.public_key().public_bytes_raw())
    mlkem, x25519 = _hybrid_halves(algorithm, seed)
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return Recipient(algorithm=algorithm, public=public)


def recipient_text(recipient: Recipient) -> str:
    """A public key as one line that others name: `hpke:<algorithm>:<base64url>`."""
    data = recipient.public + _check_of(recipient.algorithm, recipient.public)
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    return f"{SCHEME}{recipient.algorithm}:{text}"


def parse_recipient(text: str) -> Recipient:
    """Read what `recipient_text` made.

    Raises:
        ConfigurationError: Anything else; a character changed by accident is found.
    """
    match = _TEXT.fullmatch(text)
    data = _decoded(match[2]) if match else b""
    public, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    # Most 32 bytes are a public key: without the check a typo seals to nobody, silently.
    if match is None or not hmac.compare_digest(check, _check_of(match[1], public)):
        raise ConfigurationError(
            "recipient: expected one line hpke:<algorithm>:<text>, whole and unchanged, as "
            "`secure-ml keys export-public NAME` prints it; found another text, or a damaged one"
        )
    return Recipient(algorithm=match[1], public=public)


class HpkeWrapper:
    """Seals file keys to one public key; opens nothing.

    Args:
        recipient: Whose public key it is.
        ref: The key as events name it.
    """

    def __init__(self, recipient: Recipient, ref: KeyRef) -> None:
        self._recipient = recipient
        self._ref = ref

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._recipient!r})"

    @property
    def recipient(self) -> Recipient:
        """The public key."""
        return self._recipient

    @property
    def slot_type(self) -> int:
        """The slot's type number."""
        return TYPE_HPKE

    @property
    def slot_id(self) -> str:
        """SHA-256 of the public key, in hex."""
        return self._recipient.id

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    def ref_of(self, body: bytes) -> KeyRef:
        """The key itself: another key's slot has another id."""
        return self._ref

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Seal a 32-byte file key for the file `core_id`; returns 86 or 1174 bytes."""
        check_file_key(file_key)
        algorithm, key = self._recipient.algorithm, _load_public(self._recipient)
        sealed = _SUITES[algorithm].encrypt(file_key, key, INFO_LABEL + core_id)
        return _SUITE_IDS[algorithm] + sealed

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Refuse: the private key is not here.

        Raises:
            CiphertextError: Always.
        """
        raise CiphertextError(f"slot {self.slot_id}: {self._ref} only seals; its owner opens")


class HpkeOpener(HpkeWrapper):
    """A private key, which opens what was sealed to its public half.

    Args:
        algorithm: `x25519` or `mlkem768-x25519`.
        seed: 32 random bytes; copied.
        ref: The key as events name it.
    """

    def __init__(self, algorithm: str, seed: bytes | bytearray, ref: KeyRef) -> None:
        super().__init__(recipient_of(algorithm, seed), ref)
        self._seed = bytearray(seed)

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("HpkeOpener holds a key and cannot be pickled")

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Open a slot's body; the caller wipes the file key.

        Raises:
            CiphertextError: It was not sealed to this key for the file `core_id`.
        """
        algorithm = self._recipient.algorithm
        suite_id = _SUITE_IDS[algorithm]
        if len(body) != _BODY_BYTES[algorithm] or not body.startswith(suite_id):
            raise CiphertextError(
                f"slot {self.slot_id}: a body of {len(body)} bytes, expected "
                f"{_BODY_BYTES[algorithm]} of {algorithm}"
            )
        try:
            opened = self._open(body[len(suite_id) :], INFO_LABEL + core_id)
        except (InvalidTag, ValueError) as error:
            raise CiphertextError(
                f"slot {self.slot_id}: not sealed to this key for this file; "
                "the header was altered or taken from another file"
            ) from error
        return bytearray(opened)

    def wipe(self) -> None:
        """Overwrite the key; afterwards the object opens nothing that was sealed to it."""
        wipe(self._seed)

    def _open(self, sealed: bytes, info: bytes) -> bytes:
        algorithm = self._recipient.algorithm
        return _SUITES[algorithm].decrypt(sealed, _load_private(algorithm, self._seed), info)


def check_strength(recipients: Iterable[Recipient]) -> None:
    """Refuse recipients of one file of which one undoes what another is for.

    Raises:
        ConfigurationError: Classical X25519 beside a quantum-resistant one.
    """
    found = {each.algorithm: each.id for each in recipients}
    if X25519 in found and HYBRID in found:
        raise ConfigurationError(
            f"recipients: {found[X25519][:16]}… is X25519 alone beside {found[HYBRID][:16]}…, "
            "which is quantum-resistant; a file is as strong as its weakest key. Ask for a "
            "post-quantum key (`secure-ml keys create NAME --for receive --post-quantum`), or "
            "seal with --mixed-strength if that is meant"
        )


def _load_public(recipient: Recipient) -> _PublicKey:
    try:
        x25519 = X25519PublicKey.from_public_bytes(recipient.public[-32:])
        if recipient.algorithm == X25519:
            return x25519
        mlkem = MLKEM768PublicKey.from_public_bytes(recipient.public[:_MLKEM_PUBLIC_BYTES])
        return hpke.MLKEM768X25519PublicKey(mlkem, x25519)
    except ValueError as error:
        raise ConfigurationError(
            "recipient: bytes that are no public key of ML-KEM-768; ask its owner for it anew"
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error


def _load_private(algorithm: str, seed: bytes | bytearray) -> _PrivateKey:
    if algorithm == X25519:
        return X25519PrivateKey.from_private_bytes(seed)
    return hpke.MLKEM768X25519PrivateKey(*_hybrid_halves(algorithm, seed))


def _hybrid_halves(
    algorithm: str, seed: bytes | bytearray
) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if algorithm != HYBRID or len(seed) != SEED_BYTES:
        raise ConfigurationError(
            f"a private key of {len(seed)} bytes for {algorithm[:32]!r}: expected "
            f"{SEED_BYTES} bytes of {' or '.join(ALGORITHMS)}"
        )
    # draft-irtf-cfrg-concrete-hybrid-kems: both halves from one seed, by SHAKE256.
    expanded = bytearray(hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + 32))
    try:
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        return mlkem, X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error
    finally:
        wipe(expanded)


def _unsupported() -> ConfigurationError:
    return ConfigurationError(
        "mlkem768-x25519: the installed cryptography library was built without ML-KEM; install a "
        "release of its own wheels"
    )


def _check_x25519(public: bytes) -> None:
    """Refuse a public key that has two spellings, or of which everybody knows the secret."""
    fault = int.from_bytes(public, "little") >= _FIELD_PRIME
    if not fault:
        try:
            # RFC 7748, 6.1: a point of low order gives zeros, whatever the other half.
            probe = X25519PrivateKey.from_private_bytes(bytes(SEED_BYTES - 1) + b"\x01")
            probe.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            fault = True
    if fault:
        raise ConfigurationError(
            "recipient: bytes that are no safe public key of X25519; whoever made them can have "
            "everybody read what is sealed to them. Ask its owner for it anew"
        )


def _check_of(algorithm: str, public: bytes) -> bytes:
    labelled = b"%b:%b:%b" % (_TEXT_LABEL, algorithm.encode(), public)
    return hashlib.sha256(labelled).digest()[:_CHECK_BYTES]


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    # One key has one spelling: a decoder overlooks stray bits in the last character.
    return data if base64.urlsafe_b64encode(data).decode().rstrip("=") == text else b""
