"""Fuzz spool segments: frames are read as they were written, or reading stops with a reason."""

from __future__ import annotations

from mutations import Finding, main

from airflow_secure_ml.core.audit.frame import (
    HEADER_BYTES,
    decode_header,
    encode_frame,
    encode_header,
    read_frames,
)
from airflow_secure_ml.errors import FormatError

NAME = "spool_frames"
STOPS = {"", "short", "zero", "length", "crc"}


def target(data: bytes) -> None:
    """Read `data` as a segment; only FormatError may come out, and only for its header."""
    try:
        header = decode_header(data)
    except FormatError:
        header = None
    if header is not None and encode_header(header) != data[:HEADER_BYTES]:
        raise Finding("a header that is read otherwise than it is written")
    scan = read_frames(data, HEADER_BYTES)
    body = data[HEADER_BYTES:]
    written = b"".join(encode_frame(frame.kind, frame.payload) for frame in scan.frames)
    if scan.stop not in STOPS or written != body[: scan.used]:
        raise Finding("frames that are read otherwise than they are written")
    if scan.stop == "" and scan.used != len(body):
        raise Finding("reading stopped without a reason")


if __name__ == "__main__":
    main(NAME, target)
