"""Standard input as an object that is read anywhere, standard output as one that is written."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from typing import BinaryIO

from airflow_secure_ml.adapters.local_objects.pinned import PinnedFile
from airflow_secure_ml.core.aborting import Aborting

_URI = "standard input"


def pinned_input() -> PinnedFile:
    """Standard input, pinned: a file as it is, a pipe by way of an unnamed temporary file.

    What comes in sealed is no secret, and its end must be verified before its beginning is used.
    """
    descriptor = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        held = os.dup(descriptor)
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            held = os.dup(copy.fileno())
    return PinnedFile(held, _URI, os.fstat(held))


class PipeWriter(Aborting):
    """ObjectWriter onto a stream: bytes must come in order, and nothing can be taken back.

    Attributes:
        threads: One: several would not keep the order.
    """

    threads = 1

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._at = 0

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write what comes next."""
        if offset != self._at:
            raise ValueError(f"a pipe is written in order: at {self._at}, not {offset}")
        view = memoryview(data)
        while len(view):
            count = self._stream.write(view)
            self._at += count
            view = view[count:]

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Let go of what is still buffered."""
        self._stream.flush()
        return ""

    def abort(self) -> None:
        """What was written is gone; the exit status says that it was not all."""
