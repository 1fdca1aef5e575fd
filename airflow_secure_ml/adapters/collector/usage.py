"""How much of each user waits for the sequencer, so that none can fill the disk.

Counted as it is written, and counted anew from the directory when that seems too much: what the
sequencer took is gone from there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from airflow_secure_ml.core.audit.frame import HEADER_BYTES, STAMP, read_frames
from airflow_secure_ml.core.audit.stamp import decode_stamp
from airflow_secure_ml.errors import FormatError

# A file takes at least a block, and an entry.
_FILE_BYTES: Final = 4096
_RECOUNT_S: Final = 1.0
_STAMP_BYTES: Final = 1024


class Usage:
    """Bytes by user.

    Args:
        folder: Where segments lie.
        limit_bytes: How much may wait of each user.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._users = {emitter: _user(path) for emitter, path in _segments(folder)}
        self._bytes: dict[int, int] = {}
        self._counted_s = 0.0
        self._count()

    def opened(self, emitter: str, uid: int) -> None:
        """An emitter of a user has a segment now."""
        self._users[emitter] = uid
        self._bytes[uid] = self._bytes.get(uid, 0) + _FILE_BYTES

    def written(self, uid: int, size_bytes: int) -> None:
        """So much more of a user lies there."""
        self._bytes[uid] = self._bytes.get(uid, 0) + size_bytes

    def is_over(self, uid: int, now_s: float) -> bool:
        """Whether a user has to wait for the sequencer."""
        if self._bytes.get(uid, 0) <= self._limit_bytes:
            return False
        if now_s - self._counted_s >= _RECOUNT_S:
            self._counted_s = now_s
            self._count()
        return self._bytes.get(uid, 0) > self._limit_bytes

    def _count(self) -> None:
        found: dict[int, int] = {}
        emitters = set()
        for emitter, path in _segments(self._folder):
            emitters.add(emitter)
            uid = self._users.get(emitter, -1)
            try:
                size_bytes = os.lstat(path).st_size
            except FileNotFoundError:
                continue
            found[uid] = found.get(uid, 0) + max(size_bytes, _FILE_BYTES)
        self._bytes = found
        self._users = {e: uid for e, uid in self._users.items() if e in emitters}


def _segments(folder: Path) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name[:32], entry.path) for entry in entries]
    except FileNotFoundError:
        return []


def _user(path: str) -> int:
    """Whose segment it is, from its stamp; -1: it does not say.

    Only before this process has one of its own: closing any descriptor of a file lets go of a lock.
    """
    try:
        with open(path, "rb") as file:
            frames = read_frames(file.read(_STAMP_BYTES), HEADER_BYTES).frames
        found = decode_stamp(frames[0].payload) if frames and frames[0].kind == STAMP else None
    except (OSError, FormatError):
        return -1
    return -1 if found is None or found.uid is None else found.uid
