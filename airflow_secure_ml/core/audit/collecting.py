"""What goes over a collector's socket: a segment's header and frames, points, answers.

The sender's bytes are those of a spool segment, part 0, with a point wherever it waits: eight
zero bytes where a frame would have its head, since no frame is of kind 0. Each point is answered.

Source: AUDIT_TRAIL, Spool, bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from airflow_secure_ml.errors import FormatError

POINT = bytes(8)

# Below `audit_dir`: where a collector lays what it took, and its sequencer finds it.
COLLECTED_DIRECTORY = "collected"

DURABLE = 1
REFUSED = 2
UNAVAILABLE = 3

MAX_TEXT_BYTES = 500
# status[1] length of the text[2, big endian]
_ANSWER = struct.Struct(">BH")
ANSWER_HEAD_BYTES = _ANSWER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a collector says to a point, or in place of going on.

    Attributes:
        status: DURABLE: everything before the point would survive a power loss. REFUSED: what was
            sent is not taken, nor would it be again. UNAVAILABLE: not now.
        text: Why; empty with DURABLE.
    """

    status: int
    text: str = ""

    def encode(self) -> bytes:
        """status[1] length[2, big endian] text."""
        text = self.text.encode()[:MAX_TEXT_BYTES]
        return _ANSWER.pack(self.status, len(text)) + text


def decode_answer_head(head: bytes) -> tuple[int, int]:
    """Read status and length of the text that follows.

    Raises:
        FormatError: Another status, or a longer text than any collector sends.
    """
    status, length = _ANSWER.unpack(head)
    if status not in {DURABLE, REFUSED, UNAVAILABLE} or length > MAX_TEXT_BYTES:
        raise FormatError(f"collector: answer {status} with {length} bytes; no collector's answer")
    return status, length
