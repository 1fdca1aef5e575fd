"""Write and read checkpoints as signed notes; the keys that may sign them are in `log_key`.

A checkpoint is three lines: the log's origin, its size, its root. A note is that text and one or
more signature lines; lines of keys that are not known are kept and say nothing.

Source: C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.audit.log_key import (
    ED25519,
    KEY_ID_BYTES,
    LogKey,
    check_name,
    key_id,
    parse_log_keys,
    parse_vkey,
    unbase64,
)
from airflow_secure_ml.core.audit.tree import HASH_BYTES
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError

__all__ = [
    "ED25519",
    "Checkpoint",
    "LogKey",
    "Note",
    "NoteSignature",
    "check_name",
    "key_id",
    "open_checkpoint",
    "parse_checkpoint",
    "parse_log_keys",
    "parse_note",
    "parse_vkey",
    "sign_checkpoint",
    "sign_with",
]

# 16 KiB and 100 lines: a note is read before it is authenticated.
MAX_NOTE_BYTES = 16384
MAX_SIGNATURES = 100
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
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
    root = unbase64(lines[2], "checkpoint root")
    if len(root) != HASH_BYTES:
        raise FormatError(f"checkpoint: a root of {len(root)} bytes, expected {HASH_BYTES}")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root)


def sign_checkpoint(
    checkpoint: Checkpoint, public_key: bytes, sign: Callable[[bytes], bytes]
) -> str:
    """Sign a checkpoint by its log's own key, whose name is the origin; returns the note."""
    return sign_with(checkpoint, [(LogKey(name=checkpoint.origin, public_key=public_key), sign)])


def sign_with(
    checkpoint: Checkpoint, keys: Iterable[tuple[LogKey, Callable[[bytes], bytes]]]
) -> str:
    """Sign a checkpoint by several keys, a line each; returns the note."""
    body = checkpoint.body()
    lines = tuple(
        NoteSignature(name=key.name, key_id=key.key_id, signature=sign(body.encode("utf-8")))
        for key, sign in keys
    )
    return Note(text=body, signatures=lines).encode()


def open_checkpoint(text: str, keys: Iterable[LogKey], *, origin: str | None = None) -> Checkpoint:
    """Read a note whose signature by a known key holds.

    Args:
        text: The whole note.
        keys: Keys that may sign; one counts only for sizes in its range.
        origin: The log it must be of; None: whichever a key names.

    Raises:
        FormatError: Not a checkpoint's note.
        SignatureError: A known key's signature does not hold, or it is of another log.
        PolicyError: No line is of a key known for that size, or none of one of the kinds known
            for it (`why` signer_not_accepted).
    """
    note = parse_note(text)
    found = parse_checkpoint(note.text)
    if origin is not None and found.origin != origin:
        raise SignatureError(f"checkpoint: of log {found.origin!r}, expected {origin!r}")
    usable = [key for key in keys if key.name == found.origin and key.covers(found.size)]
    if not _verified(note, usable):
        raise PolicyError(
            f"checkpoint of {found.origin!r} at size {found.size}: signed by no key known for "
            "that size, or not by one of each kind; look into log_keys",
            why="signer_not_accepted",
        )
    return found


def _verified(note: Note, keys: Sequence[LogKey]) -> bool:
    """Whether a known key of every known kind signed; a known key's bad signature raises."""
    known = {(key.name, key.key_id): key for key in keys}
    found = set()
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is not None:
            key.verify(line.signature, note.text.encode("utf-8"))
            found.add(key.algorithm)
    # Else who breaks one kind of signature would leave the other away.
    return bool(found) and found == {key.algorithm for key in keys}


def _parse_signature(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH:
        raise FormatError("note: a signature line is `— name base64`")
    packed = unbase64(parts[2], "note signature")
    if len(packed) <= KEY_ID_BYTES:
        raise FormatError("note: a signature is too short")
    return NoteSignature(
        name=check_name(parts[1]),
        key_id=packed[:KEY_ID_BYTES],
        signature=packed[KEY_ID_BYTES:],
    )
