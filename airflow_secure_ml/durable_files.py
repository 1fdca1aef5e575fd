"""Files that stand under their name whole, and outlast a power loss, or do not stand there at all.

Who may read what, and what a failure means, is each caller's business.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (write aside, fsync, rename, fsync directory).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ASIDE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def whole_file(path: Path, aside: Path, *, is_new: bool = False) -> Iterator[BinaryIO]:
    """Write a file (0600) that is at its place, durable, when the block ends without an error.

    Args:
        path: Its place.
        aside: Where it is written, in the same directory; what a killed one left there is removed.
        is_new: Never replace what is at its place.

    Raises:
        FileExistsError: `is_new`, and something is at its place.
        OSError: It cannot be written.
    """
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, _ASIDE, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        if is_new:
            os.link(aside, path)
        else:
            os.rename(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
