"""The key file: private, and changed so that a kill at any moment leaves the old or the new one.

A change holds the lock file, writes aside, makes that durable and renames it over the file. The
old file's bytes are overwritten afterwards; what a journal, a snapshot or a backup kept of them
is beyond reach.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.core.keyring.passphrase import MAX_FILE_BYTES
from airflow_secure_ml.durable_files import sync_directory
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

_SERVICE = "local keyring"
_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.01
_REREADS = 20
_CHUNK_BYTES = 65536


class KeyFile:
    """One key file and its lock beside it.

    Args:
        path: Absolute path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._aside = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.aside")

    def read(self) -> bytearray:
        """The file's bytes; the caller wipes them.

        Raises:
            ConfigurationError: Not there, others may read it, another's, a symlink, no file.
        """
        for _ in range(_REREADS):
            descriptor = self._open(os.O_RDONLY)
            try:
                data = _read_all(descriptor, self.path)
                # A replaced file is overwritten with zeros, perhaps while it was read.
                if os.fstat(descriptor).st_nlink > 0:
                    return data
            finally:
                os.close(descriptor)
        raise ServiceUnavailableError(
            service=_SERVICE, action=f"read {self.path}", reason="it is replaced again and again"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other writers, and remove what a killed one left aside."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._clear_errors("lock"):
            descriptor = os.open(self._lock_path, flags, 0o600)
        deadline = time.monotonic() + _LOCK_WAIT_S
        try:
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise ServiceUnavailableError(
                        service=_SERVICE,
                        action=f"change {self.path}",
                        reason=f"another process held it for {_LOCK_WAIT_S:.0f} s",
                    )
                time.sleep(_LOCK_POLL_S)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def make(self, data: bytes) -> None:
        """Make the file and the folders above it, 0700; within `locked` it never overwrites."""
        with self._clear_errors("make"):
            name = self._write_aside(data)
            try:
                os.link(name, self.path)
            except FileExistsError as error:
                raise ConfigurationError(
                    f"{self.path}: expected no keyring there, found a file; it stays as it is. "
                    "Use it (`airflow secure-ml keys list`), or move it away first"
                ) from error
            finally:
                os.unlink(name)
            sync_directory(self.path.parent)

    def replace(self, data: bytes) -> None:
        """Put new bytes in the file's place, within `locked`, and overwrite the old ones."""
        with self._clear_errors("change"):
            old = self._open(os.O_RDWR)
            try:
                name = self._write_aside(data)
                os.rename(name, self.path)
                sync_directory(self.path.parent)
                _overwrite(old, names_left=0)
            finally:
                os.close(old)

    def make_folder(self) -> None:
        """Make the folders above the file, private to this user."""
        with self._clear_errors("make the folder of"):
            self.path.parent.parent.mkdir(parents=True, exist_ok=True)
            self.path.parent.mkdir(mode=0o700, exist_ok=True)

    def _write_aside(self, data: bytes) -> str:
        name = str(self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.aside"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600)
        try:
            done = 0
            while done < len(data):
                count = os.write(descriptor, data[done:])
                if count == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += count
            os.fsync(descriptor)
        except BaseException:
            os.unlink(name)
            raise
        finally:
            os.close(descriptor)
        return name

    def _sweep(self) -> None:
        # Only a holder of the lock writes aside, so what lies there now is a killed one's.
        for entry in os.listdir(self.path.parent):
            if self._aside.fullmatch(entry):
                name = self.path.parent / entry
                descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    _overwrite(descriptor, names_left=1)
                    os.unlink(name)
                finally:
                    os.close(descriptor)

    def _open(self, access: int) -> int:
        flags = access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"{self.path}: expected the keyring, found nothing; make one with "
                "`airflow secure-ml keys init`, or set [secure_ml] key_system to where it is"
            ) from error
        except OSError as error:
            found = "a symlink" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
            raise ConfigurationError(
                f"{self.path}: expected a keyring that this user may read, found {found}"
            ) from error
        try:
            self._check(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{self.path}: expected a keyring, found no regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(
                f"{self.path}: expected a file of user {os.geteuid()} or root, "
                f"found one of user {status.st_uid}; its owner could change your keys"
            )
        if status.st_mode & 0o077:
            raise ConfigurationError(
                f"{self.path}: expected mode 0600, found {stat.S_IMODE(status.st_mode):04o}: "
                "others may read the keys. Run `chmod 600` on it and rotate its keys"
            )

    @contextmanager
    def _clear_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
                raise ConfigurationError(
                    f"{self.path}: cannot {action} the keyring: {reason}; "
                    "fix the path or its rights"
                ) from error
            raise ServiceUnavailableError(
                service=_SERVICE, action=f"{action} {self.path}", reason=reason
            ) from error


def _read_all(descriptor: int, path: Path) -> bytearray:
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: expected a keyring, found a file of {size} bytes")
    data = bytearray(size)
    done = 0
    while done < size and (count := os.preadv(descriptor, [memoryview(data)[done:]], done)):
        done += count
    return data[:done]


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _overwrite(descriptor: int, *, names_left: int) -> None:
    status = os.fstat(descriptor)
    # Under another name too, it is the keyring itself (killed while it was made) or a backup.
    if status.st_nlink > names_left:
        return
    size, done = status.st_size, 0
    while done < size:
        done += os.pwrite(descriptor, bytes(min(_CHUNK_BYTES, size - done)), done)
    os.fsync(descriptor)
