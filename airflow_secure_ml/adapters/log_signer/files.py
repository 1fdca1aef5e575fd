"""Files for one user alone: read, and replaced whole.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.durable_files import sync_directory, whole_file
from airflow_secure_ml.errors import ConfigurationError, FormatError

KEY_FILE = "log.key"
# The keys that follow those in KEY_FILE.
NEXT_FILE = "next.key"
LAST_FILE = "last"
PUBLIC_FILE = "log_keys"
LOCK_FILE = "lock"
MAX_FILE_BYTES = 16384


def read_log_keys(path: Path) -> str:
    """The text of a `log_keys` file, public but bounded.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES * 16).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"log keys {path}: cannot be read: {error}") from error


def read_private(path: Path) -> str:
    """The text of a file that nobody else may read.

    Raises:
        ConfigurationError: It cannot be opened, is no plain file, or is open to others.
        FormatError: Not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be opened: {error.strerror}; `secure-ml keys init` makes a log's key"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{path}: not a plain file")
        check_private(path, found)
        try:
            return file.read(MAX_FILE_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"{path}: not UTF-8; it is damaged") from None


def check_private(path: Path, found: os.stat_result) -> None:
    """Refuse what another user has, or may read.

    Raises:
        ConfigurationError: It is so.
    """
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path}: mode {mode:04o}, owner {found.st_uid}; the log's key is for uid "
            f"{os.geteuid()} alone: chmod go= and chown it"
        )


def replace(path: Path, text: str, *, is_new: bool = False) -> None:
    """Put a text in a file's place, whole and durable; `is_new`: only where none is."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with whole_file(path, aside, is_new=is_new) as file:
            file.write(text.encode("utf-8"))
    except FileExistsError as error:
        raise ConfigurationError(f"{path}: is there already; it is never replaced") from error


def move_over(path: Path, old: Path) -> None:
    """Put a file in another one's place, and wipe that one's bytes as far as the disk lets us."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(old, flags)
    try:
        os.rename(path, old)
        sync_directory(path.parent)
        # Only now: before, they are still needed if this is killed.
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; one process at a time signs or changes keys in it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(directory / LOCK_FILE, flags, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
