"""Witnesses' lines under a checkpoint: their keys, what they sign, how lines are added to a note.

Asking a witness is `services.witnessing`'s business, being one `services.cosigning`'s.

Source: C2SP tlog-cosignature v1.0.0 (Ed25519, signature type 0x04) and signed-note.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from airflow_secure_ml.core.audit.checkpoint import (
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    parse_note,
)
from airflow_secure_ml.core.audit.log_key import (
    PUBLIC_KEY_BYTES,
    check_name,
    key_id,
    unbase64,
)
from airflow_secure_ml.errors import ConfigurationError, FormatError, SignatureError

COSIGNATURE = b"\x04"
# timestamp[8, seconds since 1970 UTC, big endian] signature[64]
_PACKED = struct.Struct(">Q64s")
_MAX_TIME_S = 2**63 - 1
MAX_WITNESSES = 32
_DASH = "\u2014"


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignerKey:
    """A witness's public key.

    Attributes:
        name: The witness's name.
        public_key: The raw Ed25519 key, 32 bytes.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name it in a signature line."""
        return key_id(self.name, self.public_key, COSIGNATURE)

    def vkey(self) -> str:
        """Its line of text for others: `name+id+key`."""
        packed = base64.b64encode(COSIGNATURE + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{packed}"

    def owns(self, line: NoteSignature) -> bool:
        """Whether a line says that it is this key's."""
        return (line.name, line.key_id) == (self.name, self.key_id)

    def verify(self, line: NoteSignature, text: str) -> int:
        """Return when a checkpoint was cosigned, seconds since 1970 UTC.

        Args:
            line: A line of this key.
            text: What the note's log signed, its last newline included.

        Raises:
            SignatureError: The cosignature does not hold.
        """
        if len(line.signature) != _PACKED.size:
            raise SignatureError(
                f"cosignature of {self.name}: {len(line.signature)} bytes, expected {_PACKED.size}"
            )
        time_s, signature = _PACKED.unpack(line.signature)
        if time_s > _MAX_TIME_S:
            raise SignatureError(f"cosignature of {self.name}: a time past 2^63 - 1")
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(signature, _message(text, time_s))
        except InvalidSignature as error:
            raise SignatureError(f"cosignature of {self.name}: it does not hold") from error
        return int(time_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness as the settings name it.

    Attributes:
        key: What its cosignatures are verified by.
        url: Its submission prefix, without a slash at the end.
        ca: Path of the certificates to trust for it; empty: those of the system.
    """

    key: CosignerKey
    url: str
    ca: str = ""


def cosign(
    text: str, key: CosignerKey, sign: Callable[[bytes], bytes], *, time_s: int
) -> NoteSignature:
    """Cosign a checkpoint.

    Args:
        text: What the note's log signed, its last newline included.
        key: The public half.
        sign: Signs a message with the private half.
        time_s: Now, seconds since 1970 UTC.
    """
    packed = _PACKED.pack(time_s, sign(_message(text, time_s)))
    return NoteSignature(name=key.name, key_id=key.key_id, signature=packed)


def encode_lines(lines: Iterable[NoteSignature]) -> str:
    """Signature lines alone, as a witness answers with them."""
    return Note(text="", signatures=tuple(lines)).encode()[1:]


def parse_lines(text: str, body: str) -> tuple[NoteSignature, ...]:
    """Read signature lines that belong to a checkpoint's text; nothing is verified.

    Raises:
        FormatError: Not signature lines, or too many.
    """
    found = parse_note(f"{body}\n{text}")
    if found.text != body:
        raise FormatError("signature lines: a blank line among them")
    return found.signatures


def cosigned_note(note: str, lines: Iterable[str]) -> str:
    """A log's note with further signature lines below its own, each once.

    Args:
        note: The log's note.
        lines: Signature lines, each ended by a newline.

    Raises:
        FormatError: The note or a line is none, or there would be too many.
    """
    found = parse_note(note)
    signatures = list(found.signatures)
    for line in lines:
        for each in parse_lines(line, found.text):
            if each not in signatures:
                signatures.append(each)
    if len(signatures) > MAX_SIGNATURES:
        raise FormatError(f"note: more than {MAX_SIGNATURES} signatures")
    return replace(found, signatures=tuple(signatures)).encode()


def cosigners(note: str, keys: Iterable[CosignerKey]) -> dict[str, int]:
    """Which of these keys cosigned a note, and when, seconds since 1970 UTC.

    Whether the log itself signed it is `checkpoint.open_checkpoint`'s business.

    Raises:
        FormatError: Not a note.
        SignatureError: A line that says it is one of these keys' does not hold.
    """
    found = parse_note(note)
    times: dict[str, int] = {}
    for key in keys:
        for line in found.signatures:
            if key.owns(line):
                times[key.vkey()] = key.verify(line, found.text)
    return times


def parse_cosigner(text: str) -> CosignerKey:
    """Read a witness's verifier key, `name+id+key`.

    Raises:
        FormatError: Not of that form, of another signature type, or an id that does not fit.
    """
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise FormatError("witness key: expected name+id+key")
    name, identity, packed = parts
    found = unbase64(packed, "witness key")
    if found[:1] != COSIGNATURE or len(found) != 1 + PUBLIC_KEY_BYTES:
        raise FormatError(
            "witness key: expected an Ed25519 key of cosignatures (type 0x04); a log's key, of "
            "type 0x01, cannot be a witness's"
        )
    key = CosignerKey(name=check_name(name), public_key=found[1:])
    if identity != key.key_id.hex():
        raise FormatError(f"witness key: id {identity!r}, its name and key give {key.key_id.hex()}")
    return key


def parse_witnesses(text: str) -> tuple[Witness, ...]:
    """Read lines `vkey url`, or `vkey url path-of-certificates`.

    Raises:
        ConfigurationError: A line is not of that form, an address is neither https:// nor on this
            machine, a name or key stands twice, or there are too many.
    """
    found = tuple(
        _witness(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    )
    if len(found) > MAX_WITNESSES:
        raise ConfigurationError(f"{len(found)} witnesses, at most {MAX_WITNESSES}")
    # One key under two names, or one name with two keys, would be counted as two witnesses.
    for values in ({w.key.name for w in found}, {w.key.public_key for w in found}):
        if len(values) != len(found):
            raise ConfigurationError("a witness's name or key stands there twice")
    return found


def _witness(number: int, line: str) -> Witness:
    words = line.split()
    if len(words) not in (2, 3):
        raise ConfigurationError(f"line {number}: expected `vkey url` or `vkey url certificates`")
    try:
        key = parse_cosigner(words[0])
    except FormatError as error:
        raise ConfigurationError(f"line {number}: {error}") from error
    ca = words[2] if len(words) == 3 else ""
    if ca and not ca.startswith("/"):
        raise ConfigurationError(f"line {number}: {ca!r}: expected an absolute path")
    return Witness(key=key, url=check_url(words[1], f"line {number}"), ca=ca)


def check_url(url: str, what: str) -> str:
    """Return an address that is over TLS, or on this machine, without a slash at the end.

    Raises:
        ConfigurationError: Another scheme or host, or a user, query or fragment in it.
    """
    scheme, found, rest = url.partition("://")
    host = rest.partition("/")[0]
    is_local = host.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")
    if not found or not host or any(sign in rest for sign in "@?#\\"):
        raise ConfigurationError(f"{what}: expected an address such as https://witness.example/log")
    if scheme != "https" and not (scheme == "http" and is_local):
        raise ConfigurationError(
            f"{what}: {scheme}://{host}: expected https://, or http:// to this machine with a port"
        )
    return url.rstrip("/")


def _message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
