"""Names aside: where bytes wait until they may have their own name, and who sweeps them up.

A writer holds a flock on what it writes aside. What nobody holds was left by a killed writer and
is removed by the next one in the same folder.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from types import TracebackType

from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceUnavailableError

_ASIDE = re.compile(r"\..+\.[0-9a-f]{16}\.aside", re.DOTALL)
_MAX_NAME_BYTES = 200
_TRIES = 16
_ENTRIES_A_FILE, _MAX_FOLDERS = 64, 4096
_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
# A kernel or file system without renameat2 or one of its flags answers one of these (an overlay
# EXDEV).
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)
_DEPLOYMENT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)
_HAS_PROC = os.path.isdir("/proc/self/fd")
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def failed(error: OSError, action: str, uri: str) -> SecureMLError:
    """Our error for what the operating system answered."""
    reason = os.strerror(error.errno or 0)
    if error.errno in _DEPLOYMENT:
        return ConfigurationError(f"{uri}: cannot {action}: {reason}; fix the path or its rights")
    return ServiceUnavailableError(
        f"object store: cannot {action} {uri}: {reason}",
        service="object store",
        action=action,
        reason=reason,
    )


def _new_name(path: str) -> str:
    folder, name = os.path.split(path)
    # 200 bytes: a name may have 255, and the name aside is longer than its target's.
    stem = os.fsdecode(os.fsencode(name)[:_MAX_NAME_BYTES])
    return os.path.join(folder, f".{stem}.{secrets.token_hex(8)}.aside")


def _make_held(path: str, make: Callable[[str], int]) -> tuple[str, int]:
    for _ in range(_TRIES):
        name = _new_name(path)
        descriptor = make(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweeper may have come between the making and the lock.
            if os.lstat(name).st_ino == os.fstat(descriptor).st_ino:
                return name, descriptor
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            continue
        os.close(descriptor)
    raise ServiceUnavailableError(
        service="object store", action=f"write beside {path}", reason="names aside are swept away"
    )


def make_file(path: str) -> tuple[str, int]:
    """Make and hold a file aside of `path`; returns its name and descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return _make_held(path, lambda name: os.open(name, flags, 0o600))


def make_directory(path: str) -> tuple[str, int]:
    """Make and hold a directory aside of `path`; returns its name and descriptor."""

    def make(name: str) -> int:
        os.mkdir(name, 0o700)
        return os.open(name, _DIRECTORY_FLAGS)

    return _make_held(path, make)


def link_aside(descriptor: int, path: str) -> str:
    """Give an unnamed file a name aside of `path`."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    name = _new_name(path)
    link_descriptor(descriptor, name)
    return name


def link_descriptor(descriptor: int, path: str) -> None:
    """Give an unnamed file its first name; FileExistsError if something has it."""
    # With a directory descriptor Python calls linkat with AT_SYMLINK_FOLLOW, without one link().
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)


class Sweeps:
    """How often a process looks through which folder.

    Looking through it for each new file would take the square of its length: in a folder of
    10,000 files this process looks at every 156th, in one of less than 64 at each.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._left: dict[str, int] = {}

    def sweep(self, folder: str) -> None:
        """Remove what killed writers left in a folder, unless it was looked through just now."""
        with self._guard:
            left = self._left.get(folder, 0)
            if left > 0:
                self._left[folder] = left - 1
                return
        count = sweep(folder)
        with self._guard:
            # Forgotten, a folder is looked through once more: no harm, and no growth without end.
            if len(self._left) >= _MAX_FOLDERS:
                self._left.clear()
            self._left[folder] = count // _ENTRIES_A_FILE


def sweep(folder: str) -> int:
    """Remove what killed writers left aside in a folder; what a writer holds stays.

    Returns:
        How many entries the folder has.
    """
    names = os.listdir(folder)
    _remove_left([os.path.join(folder, name) for name in names if _ASIDE.fullmatch(name)])
    return len(names)


def _remove_left(names: list[str]) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for name in names:
        try:
            descriptor = os.open(name, flags)
        except OSError:
            continue  # Gone already, or another user's: not ours to remove.
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(name)
        except (OSError, RecursionError):
            # Held by its writer; or planted so that it cannot be removed, which must stop nobody.
            continue
        finally:
            os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file or a whole directory; nothing there is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        # A sweeper may remove the same tree at the same time.
        shutil.rmtree(path, onerror=_ignore_missing)


def _ignore_missing(
    function: object,
    path: str,
    info: tuple[type[BaseException], BaseException, TracebackType],
) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _renameat2(old: str, new: str, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), old, None, new)
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)


def rename_new(old: str, new: str) -> None:
    """Rename where nothing is; FileExistsError otherwise."""
    try:
        _renameat2(old, new, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        if not os.path.isdir(old):
            os.link(old, new)
            os.unlink(old)
            return
        # rename() puts a directory in the place of an empty one only, never of a file.
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from error
        os.rename(old, new)


def exchange(old: str, new: str) -> None:
    """Let two names change places in one step."""
    _renameat2(old, new, _RENAME_EXCHANGE)


def make_parents(folder: str) -> None:
    """Make a folder and those above it, each name durable."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    make_parents(above)
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    sync_directory(above)


def hold(folder: str, uri: str) -> int:
    """Hold the folder that an object goes into; returns its descriptor.

    Raises:
        ConfigurationError: It is another than its path says: somebody put a link on the way.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check_held(descriptor, folder, uri)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_held(descriptor: int, folder: str, uri: str) -> None:
    """Return if a held folder still lies where it did; ConfigurationError otherwise."""
    if not _HAS_PROC:
        return
    found = os.readlink(f"/proc/self/fd/{descriptor}")
    if found != folder:
        raise ConfigurationError(
            f"{uri}: expected to write into {folder}, found {found}: the folder was moved, or a "
            "link put in its place; see who may write there"
        )


def below(descriptor: int, folder: str, name: str) -> str:
    """A path to a name in a held folder that no link can lead elsewhere."""
    return os.path.join(f"/proc/self/fd/{descriptor}" if _HAS_PROC else folder, name)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, _DIRECTORY_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
