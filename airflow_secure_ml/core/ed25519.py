"""Sign and verify with Ed25519, and the text that carries a public key from one place to another.

Where a key comes from and whether it may be used is `core.keyring`'s part.

Source: RFC 8032 (Ed25519), RFC 7468 and RFC 8410 (PEM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from airflow_secure_ml.core.ml_dsa import SUFFIX, MlDsaSigner, MlDsaVerifier
from airflow_secure_ml.core.ports import KeyRef, Verifier
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError, SignatureError

SEED_BYTES = 32
# 1 MiB: 255 versions of two halves; a file of another kind is refused before it is parsed.
MAX_TEXT_CHARS = 1 << 20
_BLOCK = re.compile(
    r"(?:^# (?P<key_id>[A-Za-z0-9][A-Za-z0-9_.-]{0,127}/[1-9][0-9]{0,8})"
    r"(?P<second>\+ml-dsa-65)?\n)?"
    r"(?P<pem>^-----BEGIN PUBLIC KEY-----$.*?^-----END PUBLIC KEY-----$)",
    re.MULTILINE | re.DOTALL,
)


def public_of(seed: bytes | bytearray) -> bytes:
    """The 32 bytes of the public key that belongs to a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


class Ed25519Signer:
    """One version of a signing key held in memory."""

    __slots__ = ("_key", "_ref", "second")

    def __init__(
        self, seed: bytes | bytearray, ref: KeyRef, second: MlDsaSigner | None = None
    ) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._ref = ref
        self.second = second

    def __repr__(self) -> str:
        return f"Ed25519Signer({str(self._ref)!r}, key=***)"

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("Ed25519Signer holds a key and cannot be pickled")

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message)


class Ed25519Verifier:
    """The public half of one version of a signing key."""

    __slots__ = ("_key", "_key_id", "_public_key", "_ref", "second")

    def __init__(
        self,
        public_key: bytes,
        ref: KeyRef,
        key_id: str | None = None,
        second: bytes | None = None,
    ) -> None:
        self._public_key = bytes(public_key)
        self._key_id = key_id or str(ref)
        # Where a key has one, its signature counts only beside the other.
        self.second = None if second is None else MlDsaVerifier(second, ref, self._key_id)
        self._key = Ed25519PublicKey.from_public_bytes(self._public_key)
        self._ref = ref

    def __repr__(self) -> str:
        return f"Ed25519Verifier({str(self._ref)!r}, public_key={self._public_key.hex()})"

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._ref

    @property
    def key_id(self) -> str:
        """What its signatures call it: its owner's `name/version`."""
        return self._key_id

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the raw public key."""
        return self._public_key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds.

        Raises:
            SignatureError: It does not.
        """
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError(
                f"{self._ref}: the signature does not hold for these bytes"
            ) from error


def check_made(
    signature: bytes, message: bytes, verifier: Verifier, *, service: str, action: str, told: str
) -> None:
    """Return if what a key system just signed holds.

    Args:
        signature: What it answered.
        message: What it was given.
        verifier: The public half that it told.
        service: The key system, as errors name it.
        action: What it was asked to do.
        told: What the public half is, for the message.

    Raises:
        ServiceRefusedError: It does not hold: published, it would be an alarm for its readers.
    """
    try:
        verifier.verify(signature, message)
    except SignatureError as error:
        raise ServiceRefusedError(
            f"{service}: its signature with {verifier.ref} does not hold for {told}",
            service=service,
            action=action,
            reason="signature does not hold",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One public key as it travels.

    Attributes:
        version: Its owner's number.
        public: 32 bytes.
        key_id: What its signatures call it, `name/version`; None where the text does not say.
        second: The 1952 bytes of its second half, ML-DSA-65; None: it has none.
    """

    version: int
    public: bytes
    key_id: str | None = None
    second: bytes | None = None


def public_text(keys: Sequence[Verifier]) -> str:
    """Public keys as PEM blocks, each below a line that says what its signatures call it."""
    blocks = []
    for key in keys:
        pem = Ed25519PublicKey.from_public_bytes(key.public_key).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        blocks.append(f"# {key.key_id}\n{pem.decode()}")
        second: Verifier | None = getattr(key, "second", None)
        if second is not None:
            pem = MLDSA65PublicKey.from_public_bytes(second.public_key).public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            blocks.append(f"# {second.key_id}\n{pem.decode()}")
    return "".join(blocks)


def parse_public_text(text: str) -> list[PublicKey]:
    """The keys of what `public_text` made, or of one plain PEM block, which is version 1.

    Raises:
        ConfigurationError: No public key, another algorithm, a version twice or unnumbered.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ConfigurationError(f"public keys: a text of {len(text)} characters, too long")
    blocks = list(_BLOCK.finditer(text.replace("\r\n", "\n")))
    keys: dict[int, PublicKey] = {}
    for block in blocks:
        if block["second"]:
            _add_second(keys, block["key_id"], block["pem"])
            continue
        key_id = block["key_id"]
        if key_id is None and len(blocks) > 1:
            raise ConfigurationError(
                "public keys: several, and one without a '# name/version' line"
            )
        version = int(key_id.rpartition("/")[2]) if key_id else 1
        if version in keys:
            raise ConfigurationError(f"public keys: version {version} stands there twice")
        keys[version] = PublicKey(version=version, public=_load(block["pem"]), key_id=key_id)
    if not keys:
        raise ConfigurationError(
            "public keys: expected PEM blocks (BEGIN PUBLIC KEY), found none; "
            "make the file with `secure-ml keys export-public NAME`"
        )
    return [keys[version] for version in sorted(keys)]


def _add_second(keys: dict[int, PublicKey], key_id: str, pem: str) -> None:
    """Give a key its second half, which stands right behind it."""
    last = next(reversed(keys.values()), None)
    if last is None or last.key_id != key_id or last.second is not None:
        raise ConfigurationError(
            f"public keys: {key_id}{SUFFIX} stands there without its first half before it"
        )
    found = _load_pem(pem)
    if not isinstance(found, MLDSA65PublicKey):
        raise ConfigurationError(f"public keys: {key_id}{SUFFIX}: expected ML-DSA-65")
    keys[last.version] = replace(last, second=found.public_bytes_raw())


def _load(pem: str) -> bytes:
    key = _load_pem(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("public keys: expected Ed25519, found another algorithm")
    return key.public_bytes_raw()


def _load_pem(pem: str) -> object:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("public keys: a PEM block that cannot be read") from error
