"""One version of one local file, held by one descriptor."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Self

from airflow_secure_ml.adapters.local_objects.address import not_canonical, plain_path, to_uri
from airflow_secure_ml.adapters.local_objects.aside import failed
from airflow_secure_ml.errors import FormatError, IntegrityError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symlink"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """What a mode says in plain words: `a file`, `a directory`, `a FIFO`, …"""
    return next((words for test, words in _KINDS if test(mode)), "a file")


def require_file(mode: int, uri: str) -> None:
    """Raise FormatError unless the mode is a regular file's."""
    if not stat.S_ISREG(mode):
        raise FormatError(f"{uri}: expected a file, found {kind_of(mode)}")


def version_of(status: os.stat_result) -> str:
    """What tells one version of a file from another; a rename keeps it.

    Not ctime: giving a file its name changes it.
    """
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def pin(uri: str) -> PinnedFile:
    """Open a regular file for reading and hold it.

    Raises:
        ConfigurationError: The address is not canonical (any more).
        FileNotFoundError: Nothing is there.
        FormatError: Something else than a regular file is there; it is not opened.
        ConfigurationError: No right to read it.
    """
    path = plain_path(uri)
    try:
        # Looked at first: opening a device can do something, opening a FIFO can block.
        require_file(os.lstat(path).st_mode, uri)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, "no object there", uri) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise FormatError(f"{uri}: expected a file, found a symlink or socket") from error
        raise failed(error, "open", uri) from error
    try:
        # Asked of the kernel once, not looked up part by part: a walk opens thousands of files.
        found = os.readlink(f"/proc/self/fd/{descriptor}")
        # Replaced since it was opened: still the version that lay there, and the kernel says so.
        if found not in (path, f"{path} (deleted)"):
            raise not_canonical(uri, to_uri(found))
        status = os.fstat(descriptor)
        require_file(status.st_mode, uri)
    except BaseException:
        os.close(descriptor)
        raise
    return PinnedFile(descriptor, uri, status)


class PinnedFile:
    """PinnedObject over a descriptor."""

    def __init__(self, descriptor: int, uri: str, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self._uri = uri
        self._status = status

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self._uri

    @property
    def size_bytes(self) -> int:
        """Its length when it was pinned."""
        return self._status.st_size

    @property
    def version(self) -> str:
        """Inode, time of change and length."""
        return version_of(self._status)

    @property
    def status(self) -> os.stat_result:
        """What the file system said of it when it was pinned."""
        return self._status

    @property
    def descriptor(self) -> int:
        """The descriptor, for copies inside the kernel; ValueError once it was let go."""
        return self._held()

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        # Nothing is allocated past the file's end: a forged length would ask for gigabytes.
        length = max(0, min(length, os.fstat(self._held()).st_size - offset))
        buffer = bytearray(length)
        return bytes(memoryview(buffer)[: self.readinto_at(offset, buffer)])

    def readinto_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset`; returns the bytes read, fewer only at the end."""
        view, done = memoryview(buffer), 0
        try:
            while done < len(view):
                count = os.preadv(self._held(), [view[done:]], offset + done)
                if count == 0:
                    break
                done += count
        except OSError as error:
            raise failed(error, "read", self._uri) from error
        return done

    def check_unchanged(self) -> None:
        """Raise IntegrityError if the bytes changed since they were pinned.

        Another object under this name is no change of this one.
        """
        now, then = os.fstat(self._held()), self._status
        same = (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns)
        # A replaced file loses its last name, which changes its ctime and none of its bytes.
        replaced = now.st_nlink == 0
        if not same or (now.st_ctime_ns != then.st_ctime_ns and not replaced):
            raise IntegrityError(
                f"{self._uri}: expected it to stay as it was while it is read, "
                f"found it changed ({then.st_size} bytes then, {now.st_size} now); "
                "read it again when its writer is done"
            )

    def _held(self) -> int:
        if self._descriptor < 0:
            raise ValueError(f"{self._uri}: read after it was let go")
        return self._descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
