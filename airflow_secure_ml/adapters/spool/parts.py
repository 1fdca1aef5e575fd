"""The files of one emitter: parts of a segment, each written by one process that holds its lock.

A part that failed in any way, or is no longer what its path names, is never written again: the next
part begins with the same bytes, and the sequencer drops what it already has.

Source: AUDIT_TRAIL, Spool, bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from airflow_secure_ml.core.audit.frame import (
    HEADER_BYTES,
    MAX_PART,
    SegmentHeader,
    encode_header,
    read_frames,
)

MIN_FREE_BYTES: Final = 8 << 20

_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def boot_id(path: str = "/proc/sys/kernel/random/boot_id") -> str | None:
    """Which boot of the machine this is; None where the kernel does not tell."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


class _Part:
    """One open, locked part; `size` counts what was written through it, `seen` is what is there."""

    __slots__ = (
        *("fd", "folder", "identity", "is_gone", "is_listed", "path", "seen", "size", "system"),
    )

    def __init__(self, system: Any, folder: str, header: SegmentHeader) -> None:
        self.system, self.folder = system, folder
        self.path = os.path.join(folder, header.file_name)
        self.size = self.seen = 0
        self.is_listed = self.is_gone = False
        self.fd: int | None = system.open(self.path, _NEW_FILE, 0o600)
        try:
            # POSIX, not flock: a forked child would keep that one alive.
            system.lockf(self.fd, os.F_TLOCK, 0)
            self.identity = _identity(system.fstat(self.fd))
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        written = self.system.write(self.fd, data)
        if written != len(data):
            raise OSError(errno.ENOSPC, f"a short write, {written} of {len(data)} bytes")
        self.size += written

    def is_held(self) -> bool:
        """Tell whether the descriptor is still this file: code in this process may close any."""
        try:
            found = self.system.fstat(self.fd)
        except OSError:
            return False
        self.seen = found.st_size
        return bool(_identity(found) == self.identity)

    def is_named(self) -> bool:
        """Tell whether the path, and no other, names this file."""
        try:
            named = self.system.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return bool(_identity(named) == self.identity and named.st_nlink == 1)

    def read_frames(self) -> bytes:
        """Every whole frame in the file, though no path may lead there any more."""
        chunks, at = [], HEADER_BYTES
        while chunk := self.system.pread(self.fd, 1 << 20, at):
            chunks.append(chunk)
            at += len(chunk)
        data = b"".join(chunks)
        return data[: read_frames(data).used]

    def sync(self) -> None:
        self.system.fdatasync(self.fd)
        if not self.is_listed:
            _sync_folder(self.system, self.folder)
            self.is_listed = True

    def close(self) -> None:
        # Let go of the number first: closed twice, it could be another thread's file.
        fd, self.fd = self.fd, None
        if fd is not None:
            self.system.close(fd)


class Parts:
    """The parts of one emitter. Not safe from many threads: the spool's lock is.

    An exception may strike at any moment (a timer's, in the main thread), so `_pending` is set
    before a part is touched and cleared when its bytes are durable; found set, that part is done.
    """

    __slots__ = (
        "_carried",
        "_folders",
        "_header",
        "_max_bytes",
        "_old",
        "_part",
        "_pending",
        "_preamble",
        "_reached",
        "_system",
    )

    def __init__(
        self,
        system: Any,
        folders: Sequence[str],
        emitter: str,
        max_bytes: int,
        *,
        preamble: bytes = b"",
    ) -> None:
        self._system, self._folders, self._max_bytes = system, folders, max_bytes
        # Frames that every part begins with.
        self._preamble = preamble
        self._header = SegmentHeader(emitter=emitter, part=-1)
        self._part: _Part | None = None
        self._old: list[_Part] = []
        self._carried = b""
        self._pending = self._reached = False

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Write frames behind what is there, or, where that cannot be, into the next part.

        Args:
            frames: Everything since the last call that returned with `wait`.
            wait: Whether to return only when they would survive a power loss.

        Raises:
            OSError: No directory takes them; the next call has to bring the same bytes again.
        """
        self._rescue()
        # A fresh part that fails at once is tried again too, as an open one is.
        first = [None] if self._is_usable() else self._folders
        failure = OSError(errno.EIO, "no directory to write to")
        for folder in (*first, *self._folders):
            self._pending = True
            try:
                if folder is not None:
                    self._open_next(folder, HEADER_BYTES + len(self._carried) + len(frames))
                self._put(self._carried + frames, wait=wait)
            except OSError as error:
                failure = error
                continue
            self._pending, self._carried = False, b""
            self._close_old()
            return
        raise failure

    def close(self) -> None:
        """Let go of every part; the sequencer may then take the segment as ended."""
        part, self._part = self._part, None
        if part is not None:
            self._old.append(part)
        self._close_old()

    def _rescue(self) -> None:
        """Carry over what lies in parts that were removed or replaced.

        Events in them were acknowledged, and the sequencer may not have opened them in time.
        """
        held = self._old if self._part is None else [*self._old, self._part]
        for part in held:
            if part.is_gone:
                continue
            if not part.is_held():
                # The number is another file's by now: neither read nor closed.
                part.fd, part.is_gone = None, True
            elif not part.is_named():
                self._carried += part.read_frames()
                part.is_gone = True

    def _is_usable(self) -> bool:
        part = self._part
        if part is None or self._pending or part.is_gone:
            return False
        # As long as what was written, as it was seen a moment ago.
        return part.seen == part.size and part.size <= self._max_bytes

    def _open_next(self, folder: str, needed_bytes: int) -> None:
        _prepare_folder(self._system, folder)
        # Checked before the file is made: retries on a full disk must not use up the numbers.
        _check_room(self._system, folder, needed_bytes if self._reached else MIN_FREE_BYTES)
        header = self._header
        while header.part < 0 or self._is_taken(header):
            header = replace(header, part=header.part + 1)
        if header.part > MAX_PART:
            raise OSError(errno.EFBIG, f"the emitter has used its {MAX_PART + 1} parts")
        part = _Part(self._system, folder, header)
        if self._part is not None:
            self._old.append(self._part)
        self._part, self._header = part, header

    def _is_taken(self, header: SegmentHeader) -> bool:
        """Tell whether a part was made, here or in the spare directory, held or abandoned."""
        if self._part is not None and header.part <= self._header.part:
            return True
        paths = (os.path.join(folder, header.file_name) for folder in self._folders)
        return any(os.path.lexists(path) for path in paths)

    def _put(self, frames: bytes, *, wait: bool) -> None:
        part = self._part
        if part is None:
            raise OSError(errno.EBADF, "no part is open")
        head = b"" if part.size else encode_header(self._header) + self._preamble
        part.append(head + frames)
        if wait:
            part.sync()
            self._reached = True

    def _close_old(self) -> None:
        # Only now: a lock that is free says that this part's events end here.
        while self._old:
            self._old.pop().close()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _prepare_folder(system: Any, folder: str) -> None:
    """Make the directory if it is missing; refuse one that others may write or read."""
    try:
        found = system.stat(folder, follow_symlinks=False)
    except FileNotFoundError:
        system.makedirs(folder, 0o700, exist_ok=True)
        base = os.path.dirname(folder)
        _sync_folder(system, base)
        _sync_folder(system, os.path.dirname(base))
        found = system.stat(folder, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.ENOTDIR, "expected a directory, not a link or a file")
    if found.st_uid != system.geteuid() or found.st_mode & 0o077:
        raise OSError(
            errno.EPERM,
            f"expected a directory of uid {system.geteuid()} with mode 0700, it has uid "
            f"{found.st_uid} and mode {stat.S_IMODE(found.st_mode):04o}",
        )


def _check_room(system: Any, folder: str, needed_bytes: int) -> None:
    found = system.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{free} bytes are free, at least {needed_bytes} are needed")


def _sync_folder(system: Any, folder: str) -> None:
    fd = system.open(folder, _FOLDER)
    try:
        system.fsync(fd)
    finally:
        system.close(fd)
