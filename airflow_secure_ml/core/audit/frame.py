"""A spool segment's bytes: its header and the frames after it.

Only the layout; what a frame's payload says is `event`'s business. Segments are read while they are
written and after a power loss, so a reader takes what is whole and says why it stopped.

Source: AUDIT_TRAIL, Spool, bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_secure_ml.errors import FormatError

MAGIC = b"ASMLSPL1"
HEADER_BYTES = 32
FRAME_HEAD_BYTES = 8
MAX_PAYLOAD_BYTES = 32768
MAX_PART = 9999

EVENT = 1
ASIDE = 2
STAMP = 3

# magic[8] emitter[16] part[4] crc[4], big endian
_HEADER = struct.Struct(">8s16sII")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """Whose segment it is.

    Attributes:
        emitter: 32 hex digits.
        part: From 0.
    """

    emitter: str
    part: int

    @property
    def file_name(self) -> str:
        """The segment's name in the spool directory."""
        return f"{self.emitter}-{self.part:04d}.seg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One whole frame.

    Attributes:
        kind: EVENT, ASIDE, STAMP, or a number that a later release gives a meaning.
        payload: 1 to 32768 bytes.
    """

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found in some bytes of a segment.

    Attributes:
        frames: The whole frames, in order.
        used: How many of the bytes they take; go on from here when there are more.
        stop: Why reading ended: empty (every byte used), `short` (more may come), `zero`,
            `length` or `crc` (torn if the lock is free, else perhaps still being written).
    """

    frames: tuple[Frame, ...]
    used: int
    stop: str


def encode_header(header: SegmentHeader) -> bytes:
    """Encode a segment's first 32 bytes."""
    head = _HEADER.pack(MAGIC, bytes.fromhex(header.emitter), header.part, 0)[:28]
    return head + zlib.crc32(head).to_bytes(4, "big")


def decode_header(data: bytes) -> SegmentHeader:
    """Decode a segment's first 32 bytes; more may follow.

    Raises:
        FormatError: Fewer bytes, another magic, or another CRC than its bytes give.
    """
    if len(data) < HEADER_BYTES:
        raise FormatError(f"spool segment: {len(data)} bytes, its header has {HEADER_BYTES}")
    magic, emitter, part, crc = _HEADER.unpack(data[:HEADER_BYTES])
    if magic != MAGIC:
        raise FormatError("spool segment: does not begin with ASMLSPL1; not a segment")
    if crc != zlib.crc32(data[:28]):
        raise FormatError("spool segment: its header's CRC differs; it is torn or damaged")
    return SegmentHeader(emitter=emitter.hex(), part=part)


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Frame a payload: kind[1] length[3] crc[4] payload.

    Raises:
        FormatError: An empty payload, one over 32768 bytes, or a kind outside 1 to 255.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD_BYTES or not 1 <= kind <= 255:
        raise FormatError(
            f"spool frame: kind {kind} with {len(payload)} bytes; "
            f"kinds are 1 to 255, payloads 1 to {MAX_PAYLOAD_BYTES} bytes",
            why="bug",
        )
    head = bytes([kind]) + len(payload).to_bytes(3, "big")
    return head + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "big") + payload


def read_frames(data: bytes, at: int = 0) -> Scan:
    """Read the whole frames from `at` on; stateless, so a follower may read the same bytes again.

    Args:
        data: Bytes of a segment.
        at: Where a frame begins: 32 in a whole segment, 0 where `data` begins with a frame.
    """
    frames: list[Frame] = []
    start, stop = at, ""
    while at < len(data) and not stop:
        frame, stop = _frame_at(data, at)
        if frame is not None:
            frames.append(frame)
            at += FRAME_HEAD_BYTES + len(frame.payload)
    return Scan(frames=tuple(frames), used=at - start, stop=stop)


def cut_frames(frames: bytes, max_bytes: int) -> Iterator[tuple[tuple[Frame, ...], bytes]]:
    """Cut frames, each whole, into pieces: (a piece's frames, their bytes).

    Args:
        frames: As an emitter wrote them; what is not whole any more is left out.
        max_bytes: Of a piece; a frame that is longer is a piece of its own.
    """
    piece: list[Frame] = []
    start = at = 0
    for frame in read_frames(frames).frames:
        length = FRAME_HEAD_BYTES + len(frame.payload)
        if piece and at + length - start > max_bytes:
            yield tuple(piece), frames[start:at]
            piece, start = [], at
        piece.append(frame)
        at += length
    if piece:
        yield tuple(piece), frames[start:at]


def _frame_at(data: bytes, at: int) -> tuple[Frame | None, str]:
    if data[at] == 0:
        return None, "zero"
    if len(data) - at < FRAME_HEAD_BYTES:
        return None, "short"
    length = int.from_bytes(data[at + 1 : at + 4], "big")
    if not 1 <= length <= MAX_PAYLOAD_BYTES:
        return None, "length"
    payload = data[at + FRAME_HEAD_BYTES : at + FRAME_HEAD_BYTES + length]
    if len(payload) < length:
        return None, "short"
    crc = zlib.crc32(payload, zlib.crc32(data[at : at + 4]))
    if crc != int.from_bytes(data[at + 4 : at + 8], "big"):
        return None, "crc"
    return Frame(kind=data[at], payload=payload), ""
