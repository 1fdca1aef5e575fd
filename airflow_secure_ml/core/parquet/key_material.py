"""The text beside each encrypted column that says which key opens it.

The outer form is the one of Parquet's key tools (PKMT1, double wrapping), so that Arrow and Spark
read it; the wrapped key inside is ours and bound to the object's address, the key's name and the
column, so that no text opens anything at another place. All of it is refused unless it is exactly
what this release writes.

Source: docs/parquet.md, Bytes; parquet-java, keytools.KeyMaterial.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airflow_secure_ml.core.parquet.modules import NONCE_BYTES, TAG_BYTES, RandomBytes
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, FormatError

KEY_BYTES, KEK_ID_BYTES = 32, 16
# A body of a slot has 8192 bytes at most, an id 256, a column's name 1024.
MAX_MATERIAL_BYTES = 16384
MAX_COLUMN_BYTES = 1024
_LABEL = b"asml/v1/parquet"
_PREFIX = "asml1"
_TYPE = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_SLOT_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_COLUMN_FIELDS = {
    "keyMaterialType": "PKMT1",
    "internalStorage": True,
    "isFooterKey": False,
    "doubleWrapping": True,
}
_FOOTER_FIELDS = {
    **_COLUMN_FIELDS,
    "isFooterKey": True,
    "kmsInstanceID": "DEFAULT",
    "kmsInstanceURL": "DEFAULT",
}
_TEXTS = ("masterKeyID", "keyEncryptionKeyID", "wrappedKEK", "wrappedDEK")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKek:
    """A key-encryption key as it stands in a file: what a slot of a sealed file is there.

    Attributes:
        slot_type: The wrapper's slot type (SEALED_FILE_FORMAT).
        slot_id: The wrapper's slot id, such as `pii/3`.
        column: The top-level column whose keys it wraps; empty: the footer's.
        body: What the wrapper made of the key.
    """

    slot_type: int
    slot_id: str
    column: str
    body: bytes

    def as_text(self) -> str:
        """`asml1.<type>.<id>.<column>.<body>`, the last three in base64url without padding."""
        parts = (self.slot_id.encode(), self.column.encode(), self.body)
        return ".".join((_PREFIX, str(self.slot_type), *map(_b64url, parts)))

    @classmethod
    def parse(cls, text: str) -> WrappedKek:
        """Read what `as_text` gave.

        Raises:
            FormatError: Anything else.
        """
        parts = text.split(".") if len(text) <= MAX_MATERIAL_BYTES else []
        if len(parts) != 5 or parts[0] != _PREFIX or not _TYPE.fullmatch(parts[1]):
            raise _no_material("a wrapped key of this package, asml1.…")
        slot_id, column, body = map(_from_b64url, parts[2:])
        try:
            names = slot_id.decode("ascii"), column.decode()
        except UnicodeDecodeError as error:
            raise _no_material("a key's name and a column's in text") from error
        if not _SLOT_ID.fullmatch(names[0]) or len(column) > MAX_COLUMN_BYTES or not body:
            raise _no_material("a slot's id, a column's name and a wrapped key")
        return cls(slot_type=int(parts[1]), slot_id=names[0], column=names[1], body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaterial:
    """Which key opens a footer or a column.

    Attributes:
        key_name: The wrap key's name, such as `pii`.
        kek_id: 16 bytes, the key-encryption key's own name.
        kek: The key-encryption key, wrapped.
        wrapped_dek: The data key: nonce, ciphertext and tag under the key-encryption key.
    """

    key_name: str
    kek_id: bytes
    kek: WrappedKek
    wrapped_dek: bytes

    @property
    def is_footer(self) -> bool:
        """Whether it opens the footer, and all columns without a key of their own."""
        return self.kek.column == ""

    def as_json(self) -> bytes:
        """As it stands in the file."""
        fields = {
            **(_FOOTER_FIELDS if self.is_footer else _COLUMN_FIELDS),
            "masterKeyID": self.key_name,
            "keyEncryptionKeyID": base64.b64encode(self.kek_id).decode(),
            "wrappedKEK": self.kek.as_text(),
            "wrappedDEK": base64.b64encode(self.wrapped_dek).decode(),
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes, *, column: str) -> KeyMaterial:
        """Read what `as_json` gave, for this column; empty: the footer.

        Raises:
            FormatError: Anything else, or another column's.
        """
        fields = _fields(data, _FOOTER_FIELDS if column == "" else _COLUMN_FIELDS)
        found = cls(
            key_name=fields["masterKeyID"],
            kek_id=_from_b64(fields["keyEncryptionKeyID"], KEK_ID_BYTES),
            kek=WrappedKek.parse(fields["wrappedKEK"]),
            wrapped_dek=_from_b64(fields["wrappedDEK"], NONCE_BYTES + KEY_BYTES + TAG_BYTES),
        )
        if not _KEY_NAME.fullmatch(found.key_name):
            raise _no_material("a key's name")
        if found.kek.column != column:
            raise FormatError(
                f"Parquet: the key of column {column or '(footer)'} is of another column; "
                "it was moved"
            )
        # One spelling: JSON has several of one value, and other encodings besides.
        if found.as_json() != data:
            raise _no_material("the spelling of this package")
        return found


def kek_core_id(uri: str, key_name: str, column: str, kek_id: bytes) -> bytes:
    """The 32 bytes that a key-encryption key is wrapped for, as a file key for its file.

    Args:
        uri: The canonical address of the file or directory that it was made for.
        key_name: The wrap key's name.
        column: The top-level column; empty: the footer.
        kek_id: The key-encryption key's own name.

    Source: docs/parquet.md, Bytes: SHA-256 of the label and four texts, each behind its length.
    """
    parts = (uri.encode(), key_name.encode(), column.encode(), kek_id)
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.sha256(_LABEL + bound).digest()


def check_column_name(column: str) -> None:
    """Refuse a name that a column with a key cannot have.

    Raises:
        ConfigurationError: It is empty, which stands for the footer, or too long to be read back.
    """
    # Not `encode()` alone: half a surrogate pair has no bytes.
    if not 0 < len(column.encode(errors="replace")) <= MAX_COLUMN_BYTES:
        raise ConfigurationError(
            f"column {column[:40]!r}: the name of a column with a key has 1 to {MAX_COLUMN_BYTES} "
            "bytes; rename it"
        )


def wrap_dek(
    kek: bytes | bytearray, kek_id: bytes, dek: bytes | bytearray, random_bytes: RandomBytes
) -> bytes:
    """A data key under a key-encryption key: nonce, ciphertext, tag."""
    nonce = random_bytes(NONCE_BYTES)
    return nonce + AESGCM(kek).encrypt(nonce, bytes(dek), kek_id)


def unwrap_dek(kek: bytes | bytearray, material: KeyMaterial) -> bytearray:
    """The data key; the caller wipes it.

    Raises:
        CiphertextError: It was wrapped under another key.
    """
    nonce, sealed = material.wrapped_dek[:NONCE_BYTES], material.wrapped_dek[NONCE_BYTES:]
    dek = bytearray(KEY_BYTES)
    try:
        AESGCM(kek).decrypt_into(nonce, sealed, material.kek_id, dek)
    except InvalidTag as error:
        raise CiphertextError(
            f"Parquet: the data key of {material.kek.column or 'the footer'} does not open; it was "
            "altered, or taken from another file"
        ) from error
    return dek


def _fields(data: bytes, fixed: dict[str, object]) -> dict[str, str]:
    """The texts of a key material whose other fields are exactly as they must be."""
    if len(data) > MAX_MATERIAL_BYTES:
        raise _no_material(f"at most {MAX_MATERIAL_BYTES} bytes")
    try:
        pairs = json.loads(data, object_pairs_hook=list)
        fields = dict(pairs)
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_material("JSON") from error
    if len(fields) != len(pairs) or fields.keys() != {*fixed, *_TEXTS}:
        raise _no_material("exactly the fields of PKMT1 with double wrapping")
    texts = {name: fields[name] for name in _TEXTS}
    others = {name: fields[name] for name in fixed}
    # Not `==` alone: 1 equals True there.
    same = all(type(others[name]) is type(value) for name, value in fixed.items())
    if not same or others != fixed or not all(isinstance(text, str) for text in texts.values()):
        raise _no_material("PKMT1 with double wrapping, stored in the file")
    return texts


def _no_material(expected: str) -> FormatError:
    return FormatError(
        f"Parquet: key metadata: expected {expected}; the file was not written by "
        "airflow-secure-ml with columns="
    )


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_b64url(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise _no_material("base64url") from error
    # Two texts of one value would be two keys to whoever compares texts.
    if _b64url(data) != text:
        raise _no_material("base64url in its one form")
    return data


def _from_b64(text: str, size_bytes: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise _no_material("base64") from error
    if len(data) != size_bytes or base64.b64encode(data).decode() != text:
        raise _no_material(f"{size_bytes} bytes in base64")
    return data
