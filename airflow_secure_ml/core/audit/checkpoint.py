"""Write and read checkpoints as signed notes, and the keys that may sign them.

A checkpoint is three lines: the log's origin, its size, its root. A note is that text and one or
more signature lines; lines of keys that are not known are kept and say nothing.

Source: C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from airflow_secure_ml.core.audit.tree import HASH_BYTES
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError

ED25519 = 0x01
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
KEY_ID_BYTES = 4
# 16 KiB and 100 lines: a note is read before it is authenticated.
MAX_NOTE_BYTES = 16384
MAX_SIGNATURES = 100
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_NAME = re.compile(r"[^\s+]{1,512}")
_DASH = "\u2014"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log's key signs.

    Attributes:
        origin: The log's name.
        size: Number of leaves.
        root: The tree's root, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The signed text: three lines, each ended by a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line of a note.

    Attributes:
        name: The signer's name.
        key_id: 4 bytes that pick the key among those of that name.
        signature: The bytes after the key id.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures, not verified by being read.

    Attributes:
        text: What is signed, its last newline included.
        signatures: The signature lines in order.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> str:
        """The whole note as it is kept and shown."""
        lines = [
            f"{_DASH} {line.name} {base64.b64encode(line.key_id + line.signature).decode()}\n"
            for line in self.signatures
        ]
        return f"{self.text}\n{''.join(lines)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """A public key and the sizes of a log it may have signed.

    Attributes:
        name: The signer's name; a log's origin.
        public_key: The raw Ed25519 key, 32 bytes.
        from_size: The first size it may sign.
        to_size: The last size it may sign; None: still in use.
    """

    name: str
    public_key: bytes
    from_size: int = 0
    to_size: int | None = None

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name it in a signature line."""
        return key_id(self.name, self.public_key)

    def covers(self, size: int) -> bool:
        """Whether it may have signed a checkpoint of that size."""
        return self.from_size <= size and (self.to_size is None or size <= self.to_size)

    def vkey(self) -> str:
        """Its line of text for others: `name+id+key`."""
        packed = base64.b64encode(bytes([ED25519]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{packed}"

    def line(self) -> str:
        """Its line in `log_keys`: `vkey from_size to_size`, `-` while it is in use."""
        return f"{self.vkey()} {self.from_size} {'-' if self.to_size is None else self.to_size}\n"


def key_id(name: str, public_key: bytes) -> bytes:
    """SHA-256(name ‖ 0A ‖ 01 ‖ public key), its first 4 bytes."""
    text = name.encode("utf-8") + b"\n" + bytes([ED25519]) + public_key
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
        FormatError: Not of that form, another algorithm than Ed25519, or an id that does not fit.
    """
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise FormatError("log key: expected name+id+key, such as example.org/log+677f7721+AQOh…")
    name, identity, packed = parts
    key = _unbase64(packed, "log key")
    if len(key) != 1 + PUBLIC_KEY_BYTES or key[0] != ED25519:
        raise FormatError("log key: not an Ed25519 key of 32 bytes")
    found = LogKey(name=check_name(name), public_key=key[1:], from_size=from_size, to_size=to_size)
    if identity != found.key_id.hex():
        raise FormatError(f"log key: id {identity!r}, its name and key give {found.key_id.hex()}")
    return found


def parse_log_keys(text: str) -> tuple[LogKey, ...]:
    """Read `log_keys`: a line `vkey from_size to_size` a key, `-` for one still in use.

    A line that holds a vkey alone is a key for every size; `#` begins a comment line.

    Raises:
        FormatError: A line is not of that form.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        first, last = (parts[1], parts[2]) if len(parts) == 3 else ("0", "-")
        fits = len(parts) in (1, 3) and _SIZE.fullmatch(first)
        if not fits or not (last == "-" or _SIZE.fullmatch(last)):
            raise FormatError(f"log_keys, line {number}: expected `vkey from_size to_size`")
        to_size = None if last == "-" else int(last)
        keys.append(parse_vkey(parts[0], from_size=int(first), to_size=to_size))
    return tuple(keys)


def parse_note(text: str) -> Note:
    """Split a note into what is signed and its signature lines.

    Raises:
        FormatError: Too long, a control character, no blank line, or a bad signature line.
    """
    if len(text.encode("utf-8", "replace")) > MAX_NOTE_BYTES:
        raise FormatError(f"note: longer than {MAX_NOTE_BYTES} bytes")
    if any(ord(sign) < 0x20 and sign != "\n" for sign in text):
        raise FormatError("note: a control character")
    head, found, tail = text.rpartition("\n\n")
    if not found or not tail.endswith("\n"):
        raise FormatError("note: no blank line before its signatures, or the last line is cut")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise FormatError(f"note: more than {MAX_SIGNATURES} signatures")
    return Note(text=head + "\n", signatures=tuple(_parse_signature(line) for line in lines))


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's three lines; an extension line is refused.

    Raises:
        FormatError: Not three lines of origin, size and root.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise FormatError("checkpoint: expected three lines, the origin, the size and the root")
    if not _SIZE.fullmatch(lines[1]):
        raise FormatError(f"checkpoint: size {lines[1]!r} is not a decimal number")
    root = _unbase64(lines[2], "checkpoint root")
    if len(root) != HASH_BYTES:
        raise FormatError(f"checkpoint: a root of {len(root)} bytes, expected {HASH_BYTES}")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root)


def sign_checkpoint(
    checkpoint: Checkpoint, public_key: bytes, sign: Callable[[bytes], bytes]
) -> str:
    """Sign a checkpoint by its log's own key, whose name is the origin; returns the note."""
    body = checkpoint.body()
    line = NoteSignature(
        name=checkpoint.origin,
        key_id=key_id(checkpoint.origin, public_key),
        signature=sign(body.encode("utf-8")),
    )
    return Note(text=body, signatures=(line,)).encode()


def open_checkpoint(text: str, keys: Iterable[LogKey], *, origin: str | None = None) -> Checkpoint:
    """Read a note whose signature by a known key holds.

    Args:
        text: The whole note.
        keys: Keys that may sign; one counts only for sizes in its range.
        origin: The log it must be of; None: whichever a key names.

    Raises:
        FormatError: Not a checkpoint's note.
        SignatureError: A known key's signature does not hold, or it is of another log.
        PolicyError: No line is of a key known for that size (`why` signer_not_accepted).
    """
    note = parse_note(text)
    found = parse_checkpoint(note.text)
    if origin is not None and found.origin != origin:
        raise SignatureError(f"checkpoint: of log {found.origin!r}, expected {origin!r}")
    usable = [key for key in keys if key.name == found.origin and key.covers(found.size)]
    if not _verified(note, usable):
        raise PolicyError(
            f"checkpoint of {found.origin!r} at size {found.size}: signed by no key known for "
            "that size; look into log_keys",
            why="signer_not_accepted",
        )
    return found


def _verified(note: Note, keys: Sequence[LogKey]) -> bool:
    """Whether a known key signed; a known key's bad signature raises."""
    known = {(key.name, key.key_id): key for key in keys}
    is_signed = False
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public_key)
            public.verify(line.signature, note.text.encode("utf-8"))
        except InvalidSignature as error:
            raise SignatureError(f"checkpoint: the signature of {line.name} fails") from error
        is_signed = True
    return is_signed


def _parse_signature(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH:
        raise FormatError("note: a signature line is `— name base64`")
    packed = _unbase64(parts[2], "note signature")
    if len(packed) <= KEY_ID_BYTES:
        raise FormatError("note: a signature is too short")
    return NoteSignature(
        name=check_name(parts[1]),
        key_id=packed[:KEY_ID_BYTES],
        signature=packed[KEY_ID_BYTES:],
    )


def _unbase64(text: str, what: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{what}: not base64") from error
    # Base64 has spare bits at its end: two texts could stand for one key.
    if base64.b64encode(found).decode() != text:
        raise FormatError(f"{what}: not canonical base64")
    return found
