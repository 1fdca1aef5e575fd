"""Public keys of a log: which may sign it, at which sizes, and the lines of text that carry them.

A log's keys are of one kind or two. Ed25519 is C2SP's own; ML-DSA-65 signs beside it, and whoever
knows a key of a kind for a size demands a signature of that kind there.

Source: C2SP signed-note (verifier keys, signature types); FIPS 204 (pure ML-DSA, empty context).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from airflow_secure_ml.core.ml_dsa import PUBLIC_BYTES as ML_DSA_BYTES
from airflow_secure_ml.core.ml_dsa import MlDsaVerifier
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import FormatError, SignatureError

PUBLIC_KEY_BYTES = 32
KEY_ID_BYTES = 4
ED25519 = b"\x01"
# signed-note: 0xff is for types it gives no byte, and a longer name that nobody else uses follows.
ML_DSA_65 = b"\xffasml/v1/ml-dsa-65\x00"
PUBLIC_BYTES = {ED25519: PUBLIC_KEY_BYTES, ML_DSA_65: ML_DSA_BYTES}
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_NAME = re.compile(r"[^\s+]{1,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """A public key and the sizes of a log it may have signed.

    Attributes:
        name: The signer's name; a log's origin.
        public_key: The raw key: Ed25519, 32 bytes; ML-DSA-65, 1952 bytes.
        from_size: The first size it may sign.
        to_size: The last size it may sign; None: still in use.
        algorithm: `ED25519` or `ML_DSA_65`: the bytes before the key wherever it is written.
    """

    name: str
    public_key: bytes
    from_size: int = 0
    to_size: int | None = None
    algorithm: bytes = ED25519

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name it in a signature line."""
        return key_id(self.name, self.public_key, self.algorithm)

    def covers(self, size: int) -> bool:
        """Whether it may have signed a checkpoint of that size."""
        return self.from_size <= size and (self.to_size is None or size <= self.to_size)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds; raise SignatureError otherwise."""
        if self.algorithm == ML_DSA_65:
            ref = KeyRef(system="log", name=self.name, version=self.key_id.hex())
            MlDsaVerifier(self.public_key, ref, str(ref)).verify(signature, message)
            return
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError(f"checkpoint: the signature of {self.name} fails") from error

    def vkey(self) -> str:
        """Its line of text for others: `name+id+key`."""
        packed = base64.b64encode(self.algorithm + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{packed}"

    def line(self) -> str:
        """Its line in `log_keys`: `vkey from_size to_size`, `-` while it is in use."""
        return f"{self.vkey()} {self.from_size} {'-' if self.to_size is None else self.to_size}\n"


def key_id(name: str, public_key: bytes, algorithm: bytes = ED25519) -> bytes:
    """SHA-256(name ‖ 0A ‖ algorithm ‖ public key), its first 4 bytes."""
    text = name.encode("utf-8") + b"\n" + algorithm + public_key
    return hashlib.sha256(text).digest()[:KEY_ID_BYTES]


def check_name(name: str) -> str:
    """Return a name that notes can carry.

    Raises:
        FormatError: It is empty, too long, or holds white space or a plus sign.
    """
    if not _NAME.fullmatch(name):
        raise FormatError(f"log name {name!r}: 1 to 512 characters, no white space, no plus sign")
    return name


def parse_vkey(text: str, *, from_size: int = 0, to_size: int | None = None) -> LogKey:
    """Read a verifier key, `name+id+key`.

    Raises:
        FormatError: Not of that form, an unknown algorithm, or an id that does not fit.
    """
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise FormatError("log key: expected name+id+key, such as example.org/log+677f7721+AQOh…")
    name, identity, packed = parts
    algorithm, public_key = unpack_key(unbase64(packed, "log key"), PUBLIC_BYTES)
    found = LogKey(
        name=check_name(name),
        public_key=public_key,
        from_size=from_size,
        to_size=to_size,
        algorithm=algorithm,
    )
    if identity != found.key_id.hex():
        raise FormatError(f"log key: id {identity!r}, its name and key give {found.key_id.hex()}")
    return found


def unpack_key(packed: bytes, lengths: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Split what stands in a key's text into its algorithm and the key.

    Args:
        packed: The bytes of the text's base64.
        lengths: Bytes of a key, by algorithm.

    Raises:
        FormatError: An unknown algorithm, or a key of another length.
    """
    for algorithm, length in lengths.items():
        if packed.startswith(algorithm) and len(packed) == len(algorithm) + length:
            return algorithm, packed[len(algorithm) :]
    raise FormatError(
        f"log key: {len(packed)} bytes; not an Ed25519 key of {lengths[ED25519]} bytes nor an "
        f"ML-DSA-65 key of {lengths[ML_DSA_65]}"
    )


def parse_log_keys(text: str) -> tuple[LogKey, ...]:
    """Read `log_keys`: a line `vkey from_size to_size` a key, `-` for one still in use.

    A line that holds a vkey alone is a key for every size; `#` begins a comment line.

    Raises:
        FormatError: A line is not of that form, a range is empty, or two keys have one id.
    """
    keys: list[LogKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        first, last = (parts[1], parts[2]) if len(parts) == 3 else ("0", "-")
        fits = len(parts) in (1, 3) and _SIZE.fullmatch(first)
        if not fits or not (last == "-" or _SIZE.fullmatch(last)):
            raise FormatError(f"log_keys, line {number}: expected `vkey from_size to_size`")
        to_size = None if last == "-" else int(last)
        if to_size is not None and to_size < int(first):
            raise FormatError(f"log_keys, line {number}: sizes {first} to {last}, which is none")
        key = parse_vkey(parts[0], from_size=int(first), to_size=to_size)
        if any(_collide(key, other) for other in keys):
            raise FormatError(f"log_keys, line {number}: another key has the id {key.key_id.hex()}")
        keys.append(key)
    return tuple(keys)


def _collide(key: LogKey, other: LogKey) -> bool:
    """Whether a signature line would name both; one key with two ranges is one key."""
    same = (key.algorithm, key.public_key) == (other.algorithm, other.public_key)
    return not same and (key.name, key.key_id) == (other.name, other.key_id)


def hand_over(
    keys: Iterable[LogKey], successors: Iterable[LogKey], size: int
) -> tuple[LogKey, ...]:
    """The keys of a log after those in use signed their last size.

    Args:
        keys: All keys until now.
        successors: Who signs from `size` + 1 on.
        size: The last size that the keys in use sign.

    Raises:
        FormatError: A key in use begins above `size`, or a successor is known already.
    """
    old = [replace(key, to_size=size) if key.to_size is None else key for key in keys]
    new = [replace(key, from_size=size + 1, to_size=None) for key in successors]
    if any((a.name, a.key_id) == (b.name, b.key_id) for a in new for b in old):
        raise FormatError("log_keys: a successor has the id of a key that is there; make another")
    return parse_log_keys("".join(key.line() for key in (*old, *new)))


def unbase64(text: str, what: str) -> bytes:
    """Decode base64 in its one spelling.

    Raises:
        FormatError: It is not, or has spare bits set; two texts could stand for one key.
    """
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{what}: not base64") from error
    if base64.b64encode(found).decode() != text:
        raise FormatError(f"{what}: not canonical base64")
    return found
