"""Write and read a `.tlog-proof`: one leaf's inclusion proof and the checkpoint it leads to.

The leaf itself travels as `extra`, which nothing but the proof makes believable.

Source: C2SP tlog-proof, v1.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from airflow_secure_ml.core.audit.checkpoint import MAX_NOTE_BYTES, parse_note
from airflow_secure_ml.core.audit.tree import HASH_BYTES
from airflow_secure_ml.errors import FormatError

FIRST_LINE = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
MAX_LEAF_BYTES = 32768
# A tree of 2^63 leaves is 63 high.
MAX_PATH = 63
# Both are long before anything is authenticated: the leaf in base64, the note, 63 hashes.
MAX_PROOF_BYTES = MAX_LEAF_BYTES * 4 // 3 + MAX_NOTE_BYTES + 64 * (MAX_PATH + 2)
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})", re.ASCII)
_EXTRA = "extra "


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """What a `.tlog-proof` holds; nothing in it is verified by being read.

    Attributes:
        index: The leaf's place, from 0.
        path: The audit path, lowest sibling first; hashes of 32 bytes.
        note: The checkpoint's note, whole, with every line that it carries.
        extra: The leaf's bytes; None: whoever checks has them from elsewhere.
    """

    index: int
    path: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    def encode(self) -> str:
        """The file's text."""
        lines = [FIRST_LINE]
        if self.extra is not None:
            lines.append(_EXTRA + base64.b64encode(self.extra).decode())
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(step).decode() for step in self.path]
        return "\n".join(lines) + "\n\n" + self.note


def parse_tlog_proof(text: str) -> TlogProof:
    """Read a `.tlog-proof`; what is spelled differently from `encode` is refused.

    Raises:
        FormatError: Too long, another first line, a line of another form, or no note.
    """
    if len(text) > MAX_PROOF_BYTES:
        raise FormatError(f"proof: longer than {MAX_PROOF_BYTES} bytes")
    head, found, note = text.partition("\n\n")
    lines = head.split("\n")
    if not found or lines[0] != FIRST_LINE:
        raise FormatError(f"proof: expected {FIRST_LINE!r} first, and a checkpoint after a line")
    extra = None
    if len(lines) > 1 and lines[1].startswith(_EXTRA):
        extra = _unbase64(lines.pop(1)[len(_EXTRA) :])
        if len(extra) > MAX_LEAF_BYTES:
            raise FormatError(f"proof: extra of {len(extra)} bytes, at most {MAX_LEAF_BYTES}")
    match = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
    if match is None:
        raise FormatError("proof: expected a line `index N`")
    if len(lines) - 2 > MAX_PATH:
        raise FormatError(f"proof: {len(lines) - 2} hashes, a path has at most {MAX_PATH}")
    path = tuple(_hash(line) for line in lines[2:])
    parse_note(note)
    return TlogProof(index=int(match[1]), path=path, note=note, extra=extra)


def _hash(line: str) -> bytes:
    found = _unbase64(line)
    if len(found) != HASH_BYTES:
        raise FormatError(f"proof: a hash of {len(found)} bytes, expected {HASH_BYTES}")
    return found


def _unbase64(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("proof: a line is not base64") from error
    # Base64 has spare bits at its end: two files could stand for one proof.
    if base64.b64encode(found).decode() != text:
        raise FormatError("proof: not canonical base64")
    return found
