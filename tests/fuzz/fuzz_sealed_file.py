"""Fuzz sealed files: whatever the bytes, they are refused or they are the plaintext."""

from __future__ import annotations

from mutations import Finding, main

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, decode_header
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError
from airflow_secure_ml.services.sealed_header import unlock
from airflow_secure_ml.services.sealing import open_object
from airflow_secure_ml.testing.memory_objects import MemoryObjects, MemoryPinned

NAME = "sealed_file"
URI = "file:///fuzz"
KEK = KekWrapper(
    bytes(range(32)), slot_id="team/3", ref=KeyRef(system="local", name="team", version="3")
)


class Sink:
    """Where a stream's plaintext goes."""

    def __init__(self) -> None:
        self.got = b""

    def write(self, data: memoryview) -> int:
        self.got += bytes(data)
        return len(data)


def target(data: bytes) -> None:
    """Open `data` in every way; only three kinds of error may come out."""
    _parse(data)
    store, sink = MemoryObjects(), Sink()
    store.put(URI, data)
    try:
        open_object(MemoryPinned(store, URI), sink, keys=[KEK], expect=ANY_CONTEXT, threads=1)
    except (FormatError, IntegrityError, PolicyError):
        if sink.got:
            raise Finding("plaintext of a file that does not verify") from None
        return
    if sink.got != b"hello":
        raise Finding(f"{len(sink.got)} bytes that were never sealed")


def _parse(data: bytes) -> None:
    try:
        header = decode_header(data, object_bytes=len(data))
        if header.core.suite == SUITE_DATASET_KEY:
            unlock(header, keys=[KEK], expect=ANY_CONTEXT, suite=SUITE_DATASET_KEY)
    except (FormatError, IntegrityError, PolicyError):
        return
    written = header.core.encoded + header.size_bytes.to_bytes(4, "big")
    written += len(header.slots).to_bytes(2, "big") + b"".join(s.encoded for s in header.slots)
    if written.ljust(header.size_bytes - 32, b"\0") + header.mac != data[: header.size_bytes]:
        raise Finding("a header that is read otherwise than it is written")


if __name__ == "__main__":
    main(NAME, target)
