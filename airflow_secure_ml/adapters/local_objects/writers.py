"""Bytes and directories on their way to a name: nothing has it before everything is durable."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from airflow_secure_ml.adapters.local_objects import aside
from airflow_secure_ml.adapters.local_objects.address import relative_parts
from airflow_secure_ml.adapters.local_objects.aside import failed
from airflow_secure_ml.adapters.local_objects.pinned import PinnedFile, version_of
from airflow_secure_ml.core.aborting import Aborting
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_secure_ml.core.ports import PinnedObject

_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.01
# Not every file system makes unnamed files or copies in the kernel; these answer so.
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def taken(uri: str) -> PolicyError:
    """The refusal to write where something is."""
    return PolicyError(
        f"{uri}: expected nothing there, found something; it stays as it is. "
        "Remove it, write elsewhere, or ask for it to be replaced",
        why="address_taken",
    )


class FileWriter(Aborting):
    """ObjectWriter: an unnamed file where the system makes them, else a file aside, 0600."""

    def __init__(self, path: str, uri: str, *, is_aside: bool = False) -> None:
        self._path, self._uri = path, uri
        # In a directory that is itself aside: its builder holds it and syncs it.
        self._is_aside = is_aside
        self._aside: str | None = None
        self._done = False
        self._folder, name = os.path.split(path)
        self._held = -1
        try:
            if not is_aside:
                # Held from here on: whoever may write above it cannot lead us elsewhere.
                self._held = aside.hold(self._folder, uri)
                self._path = aside.below(self._held, self._folder, name)
            self._descriptor = self._make()
        except OSError as error:
            self._let_go()
            raise failed(error, "create", uri) from error

    def _make(self) -> int:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        if os.path.isdir("/proc/self/fd"):
            try:
                return os.open(os.path.dirname(self._path), flags, 0o600)
            except OSError as error:
                if error.errno not in _NO_UNNAMED:
                    raise
        self._aside, descriptor = aside.make_file(self._path)
        return descriptor

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`, whole.

        Raises:
            ServiceUnavailableError: The disk is full or failed; nothing is published.
        """
        if self._done:
            raise ValueError(f"{self._uri}: written after commit or abort")
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view):
                count = os.pwrite(self._descriptor, view[done:], offset + done)
                if count == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += count
        except OSError as error:
            raise failed(error, "write", self._uri) from error

    def copy_range(self, source: PinnedObject, source_offset: int, offset: int, length: int) -> int:
        """Copy up to `length` bytes inside the kernel; returns how many, 0 if it cannot."""
        if not isinstance(source, PinnedFile):
            return 0
        try:
            return os.copy_file_range(
                source.descriptor, self._descriptor, length, source_offset, offset
            )
        except OSError as error:
            if error.errno in _NO_COPY:
                return 0
            raise failed(error, "write", self._uri) from error

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Make the bytes durable and give them their name; returns the version."""
        if self._done:
            raise ValueError(f"{self._uri}: committed after commit or abort")
        try:
            os.fsync(self._descriptor)
            if not self._is_aside:
                aside.check_held(self._held, self._folder, self._uri)
            if if_version is not None or not self._publish_new(replace=replace):
                self._publish_over(if_version)
            if not self._is_aside:
                os.fsync(self._held)
            version = version_of(os.fstat(self._descriptor))
        except OSError as error:
            raise failed(error, "publish", self._uri) from error
        finally:
            self.abort()
        return version

    def _publish_new(self, *, replace: bool) -> bool:
        try:
            if self._aside is None:
                aside.link_descriptor(self._descriptor, self._path)
            else:
                aside.rename_new(self._aside, self._path)
                self._aside = None
        except FileExistsError as error:
            if not replace:
                raise taken(self._uri) from error
            return False
        return True

    def _publish_over(self, if_version: str | None) -> None:
        folder = os.path.dirname(self._path)
        with nullcontext() if self._is_aside else _folder_lock(folder, self._uri):
            try:
                there = os.lstat(self._path)
            except FileNotFoundError:
                there = None
            found = "nothing" if there is None else f"version {version_of(there)}"
            if if_version is not None and found != f"version {if_version}":
                raise IntegrityError(
                    f"{self._uri}: expected version {if_version} still there, found {found}; "
                    "another writer came in between, and its bytes stay"
                )
            if there is not None:
                if not stat.S_ISREG(there.st_mode):
                    raise taken(self._uri)
                _take_mode(self._descriptor, there)
            if self._aside is None:
                self._aside = aside.link_aside(self._descriptor, self._path)
            os.rename(self._aside, self._path)
            self._aside = None

    def abort(self) -> None:
        """Throw the bytes away; after a commit it does nothing."""
        if self._done:
            return
        self._done = True
        try:
            if self._aside is not None:
                aside.remove(self._aside)
        finally:
            os.close(self._descriptor)
            self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)


def _take_mode(descriptor: int, there: os.stat_result) -> None:
    """Give what replaces something its mode; what a stranger put there opens nothing to others."""
    if there.st_uid == os.geteuid():
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode) & 0o777)


@contextmanager
def _folder_lock(folder: str, uri: str) -> Iterator[None]:
    """Hold a folder against other writers that replace something in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + _LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ServiceUnavailableError(
                        service="object store",
                        action=f"replace {uri}",
                        reason=f"another writer held the folder for {_LOCK_WAIT_S:.0f} s",
                    ) from error
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


class DirectoryBuilder(Aborting):
    """DirectoryWriter: a directory aside of its target, 0700, published by one rename."""

    def __init__(
        self, path: str, uri: str, *, exchange: Callable[[str, str], None] = aside.exchange
    ) -> None:
        self._uri = uri
        self._exchange = exchange
        self._done = False
        self._guard = threading.Lock()
        self._names: dict[str, str] = {}
        self._folder, name = os.path.split(path)
        self._held = -1
        try:
            self._held = aside.hold(self._folder, uri)
            self._path = aside.below(self._held, self._folder, name)
            self._aside, self._descriptor = aside.make_directory(self._path)
        except (OSError, SecureMLError) as error:
            if self._held >= 0:
                os.close(self._held)
            if isinstance(error, SecureMLError):
                raise
            raise failed(error, "create", uri) from error

    @property
    def files_at_once(self) -> int:
        """One: the disk and the interpreter are busy with one already."""
        return 1

    def create(self, relative: str) -> FileWriter:
        """A writer for one file below the directory. Safe from many threads.

        Raises:
            FormatError: Not a relative name, or one that differs only in case from another.
        """
        if self._done:
            raise ValueError(f"{self._uri}: written after commit or abort")
        parts = relative_parts(relative)
        with self._guard:
            for end in range(1, len(parts) + 1):
                name = "/".join(parts[:end])
                other = self._names.setdefault(name.casefold(), name)
                if other != name:
                    raise FormatError(
                        f"{self._uri}: {name!r} and {other!r} differ only in case; "
                        "rename one, or a file system that folds case would lose it"
                    )
        path = aside.below(self._descriptor, self._aside, "/".join(parts))
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        except OSError as error:
            raise failed(error, "create", f"{self._uri}/{relative}") from error
        return FileWriter(path, f"{self._uri}/{relative}", is_aside=True)

    def commit(self, *, replace: bool) -> str:
        """Publish the whole directory by one rename, an exchange if something is there."""
        if self._done:
            raise ValueError(f"{self._uri}: committed after commit or abort")
        try:
            aside.check_held(self._held, self._folder, self._uri)
            if os.lstat(self._aside).st_ino != os.fstat(self._descriptor).st_ino:
                raise IntegrityError(f"{self._uri}: somebody replaced what was made aside for it")
            for folder, _, _ in os.walk(self._aside, topdown=False):
                aside.sync_directory(folder)
            self._publish(replace=replace)
            os.fsync(self._held)
            version = version_of(os.fstat(self._descriptor))
        except OSError as error:
            raise failed(error, "publish", self._uri) from error
        finally:
            # After an exchange the old directory lies aside, and goes now.
            self.abort()
        return version

    def _publish(self, *, replace: bool) -> None:
        try:
            aside.rename_new(self._aside, self._path)
        except FileExistsError as error:
            if not replace:
                raise taken(self._uri) from error
        else:
            return
        _take_mode(self._descriptor, os.lstat(self._path))
        try:
            self._exchange(self._aside, self._path)
        except OSError as error:
            if error.errno not in aside.UNSUPPORTED:
                raise
            raise ConfigurationError(
                f"{self._uri}: expected a file system that can exchange two names "
                "(renameat2 RENAME_EXCHANGE), found one that cannot; the old directory stays. "
                "Remove it first, or write to another file system"
            ) from error

    def abort(self) -> None:
        """Throw away what lies aside; after a commit it does nothing."""
        if self._done:
            return
        self._done = True
        try:
            aside.remove(self._aside)
        finally:
            os.close(self._descriptor)
            os.close(self._held)
