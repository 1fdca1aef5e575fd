"""A keyring's text sealed under a passphrase: AES-256-GCM under a key that scrypt derives.

```json
{"kdf": {"n": 131072, "name": "scrypt", "p": 1, "r": 8, "salt": "<base64>"}, "nonce": "<base64>",
 "sealed": "<base64>", "secure_ml_keyring": 3}
```
scrypt and not Argon2id, since every build of the cryptography library has it. Keys derived here
are the caller's to wipe; where a passphrase comes from is not this layer's business.

Source: RFC 7914 (scrypt); OWASP, Password Storage (n = 2^17, r = 8, p = 1: 128 MiB).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from airflow_secure_ml.core.keyring.text import MAX_TEXT_BYTES
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

FORMAT_SEALED = 3
# base64 of the longest text, and what stands around it.
MAX_FILE_BYTES = MAX_TEXT_BYTES * 4 // 3 + 4096
MIN_CHARS, MAX_BYTES = 12, 1024
SALT_BYTES, NONCE_BYTES, KEY_BYTES, _TAG_BYTES = 16, 12, 32, 16
COST, BLOCK, PARALLEL = 1 << 17, 8, 1
# A forged file must not make a reader take gigabytes, nor a weak one pass for a strong one.
_COSTS = tuple(1 << power for power in range(15, 20))
_LABEL = b"asml/v1/keyring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kdf:
    """How a passphrase becomes a key.

    Attributes:
        salt: 16 random bytes, new with each passphrase.
        cost: scrypt's n, a power of two from 2^15 to 2^19.
    """

    salt: bytes
    cost: int = COST

    @property
    def record(self) -> dict[str, Any]:
        """As it stands in the file."""
        salt = base64.b64encode(self.salt).decode()
        return {"name": "scrypt", "n": self.cost, "r": BLOCK, "p": PARALLEL, "salt": salt}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedText:
    """A keyring's file under a passphrase, parsed."""

    kdf: Kdf
    nonce: bytes
    sealed: bytes


def check_passphrase(passphrase: Secret) -> None:
    """Refuse a new passphrase that is too short to be one, or longer than is read."""
    if len(passphrase.reveal()) < MIN_CHARS or len(_typed(passphrase)) > MAX_BYTES:
        raise ConfigurationError(
            f"passphrase: expected {MIN_CHARS} characters to {MAX_BYTES} bytes; "
            "several words make a good one"
        )


def derive(passphrase: Secret, kdf: Kdf) -> bytearray:
    """The 32-byte key; takes a third of a second and 128 MiB. The caller wipes it.

    Raises:
        ConfigurationError: Characters that no UTF-8 has.
    """
    typed = _typed(passphrase)
    scrypt = Scrypt(salt=kdf.salt, length=KEY_BYTES, n=kdf.cost, r=BLOCK, p=PARALLEL)
    return bytearray(scrypt.derive(typed))


def _typed(passphrase: Secret) -> bytes:
    # Not as the refusal's cause: it would carry the passphrase along.
    with contextlib.suppress(UnicodeEncodeError):
        return passphrase.reveal().encode()
    raise ConfigurationError(
        "passphrase: expected UTF-8, found other characters; look at the terminal's encoding"
    )


def seal_text(text: bytes | bytearray, key: bytes | bytearray, kdf: Kdf, nonce: bytes) -> bytes:
    """The file's bytes for a keyring's text.

    Args:
        text: What `core.keyring.text.encode` made.
        key: From `derive`.
        kdf: What it was derived with.
        nonce: 12 fresh random bytes.
    """
    sealed = AESGCM(key).encrypt(nonce, text, _associated(kdf))
    record = {
        "secure_ml_keyring": FORMAT_SEALED,
        "kdf": kdf.record,
        "nonce": base64.b64encode(nonce).decode(),
        "sealed": base64.b64encode(sealed).decode(),
    }
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def parse_sealed(data: bytes | bytearray, *, where: str) -> SealedText | None:
    """Read a file's bytes; None: it is not under a passphrase.

    Raises:
        ConfigurationError: It is, and has a field or a cost that this release does not write.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        # No error leaves, and no cause: it would carry the whole text.
        record = None
    match record:
        case {"secure_ml_keyring": 3, "kdf": kdf, "nonce": nonce, "sealed": sealed, **rest} if (
            not rest
        ):
            found = SealedText(kdf=_kdf(kdf, where), nonce=_bytes(nonce), sealed=_bytes(sealed))
            if len(found.nonce) == NONCE_BYTES and len(found.sealed) >= _TAG_BYTES:
                return found
        case {"secure_ml_keyring": 3}:
            pass
        case _:
            return None
    raise ConfigurationError(
        f"{where}: expected a keyring under a passphrase, found a missing, unknown or wrong field; "
        "restore the file from a backup"
    )


def open_text(found: SealedText, key: bytes | bytearray, *, where: str) -> bytearray:
    """The keyring's text; the caller wipes it.

    Raises:
        ConfigurationError: Another passphrase, or the file was altered.
    """
    try:
        return bytearray(AESGCM(key).decrypt(found.nonce, found.sealed, _associated(found.kdf)))
    except InvalidTag as error:
        raise ConfigurationError(
            f"{where}: the passphrase does not open this keyring, or the file was altered; check "
            "[secure_ml] keyring_passphrase_path, or restore the file from a backup"
        ) from error


def _kdf(record: object, where: str) -> Kdf:
    match record:
        case {"name": "scrypt", "n": int(cost), "r": 8, "p": 1, "salt": salt, **rest} if (
            not rest and cost in _COSTS
        ):
            found = Kdf(salt=_bytes(salt), cost=cost)
            if len(found.salt) == SALT_BYTES:
                return found
    raise ConfigurationError(
        f"{where}: expected scrypt with n from {_COSTS[0]} to {_COSTS[-1]}, r 8, p 1 and a salt "
        f"of {SALT_BYTES} bytes, found another way to make a key of a passphrase"
    )


def _associated(kdf: Kdf) -> bytes:
    return _LABEL + json.dumps(kdf.record, sort_keys=True).encode()


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError):
        return b""
