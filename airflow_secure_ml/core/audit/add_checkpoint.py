"""The one request of the witness protocol, `add-checkpoint`, as bytes.

Source: C2SP tlog-witness.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from airflow_secure_ml.core.audit.log_key import unbase64
from airflow_secure_ml.core.audit.tree import HASH_BYTES
from airflow_secure_ml.errors import FormatError

PATH = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
# 63 lines of proof and a note of at most 16 KiB; read before anything in it is authenticated.
MAX_REQUEST_BYTES = 32_768
MAX_PROOF = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,15})", re.ASCII)
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,15})\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """What a log asks of a witness.

    Attributes:
        old: The size that the log believes the witness to know.
        proof: The consistency proof from there to the checkpoint.
        note: The checkpoint's note.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str

    @property
    def origin(self) -> str:
        """The log, as the note says; nothing of it is verified."""
        return self.note.partition("\n")[0]

    def encode(self) -> bytes:
        """The request's body."""
        hashes = [f"{base64.b64encode(each).decode()}\n" for each in self.proof]
        return f"old {self.old}\n{''.join(hashes)}\n{self.note}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A witness's answer.

    Attributes:
        status: The HTTP status.
        body: The text.
        content_type: Its type.
    """

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Read a request's body; the note in it is not looked into.

    Raises:
        FormatError: It is not of that form.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("request: expected UTF-8") from error
    head, found, note = text.partition("\n\n")
    first, *proof = head.split("\n")
    old = _OLD.fullmatch(first)
    if not found or old is None:
        raise FormatError("request: expected `old <size>`, a proof, an empty line, a checkpoint")
    if len(proof) > MAX_PROOF:
        raise FormatError(f"request: more than {MAX_PROOF} lines of proof")
    hashes = tuple(unbase64(line, "proof") for line in proof)
    if any(len(each) != HASH_BYTES for each in hashes):
        raise FormatError(f"request: a line of proof is not {HASH_BYTES} bytes")
    asked = AddCheckpoint(old=int(old[1]), proof=hashes, note=note)
    if not asked.origin:
        raise FormatError("request: the checkpoint names no log")
    return asked


def parse_size(body: bytes) -> int:
    """Read the size in an answer 409.

    Raises:
        FormatError: It is none.
    """
    found = _SIZE.fullmatch(body)
    if found is None:
        raise FormatError("answer 409: expected the size that the witness knows")
    return int(found[1])
