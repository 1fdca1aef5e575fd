"""Remember digests of local files, for as long as nothing can have written to them since.

A file is believed to be as it was while device, inode, length, mtime, ctime and mode are: no call
sets a ctime, and every write after the file was noted does. Noted is only what nobody had open for
writing and was last changed well before. It holds neither against root nor a clock set back.

Source: racy git (git's technical documentation); fcntl(2), F_SETLEASE.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from airflow_secure_ml.adapters.local_objects import aside
from airflow_secure_ml.adapters.local_objects.pinned import PinnedFile
from airflow_secure_ml.adapters.local_objects.pinned_directory import PinnedFolder
from airflow_secure_ml.core.digest_memory import (
    MAX_MEMORY_BYTES,
    Identity,
    Memory,
    decode_memory,
    encode_memory,
)
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import PinnedDirectory, PinnedObject
from airflow_secure_ml.errors import ConfigurationError, FormatError, SecureMLError

log = logging.getLogger(__name__)

# 2 s: an ext3 keeps whole seconds, and a later write within the same one would not show.
_MARGIN_NS = 2_000_000_000
# Where a write through a mapping sets the ctime too: tmpfs does not, and what the server of a
# network file system or the layer below an overlay does is not known here.
_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalDigestMemory:
    """DigestMemory in a private folder, one file an artifact.

    Args:
        folder: Made with mode 0700 if it is not there.
        now_ns: Nanoseconds since 1970 UTC, of the clock that ctimes come from.
        boot_id: 16 bytes, another after each start of this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        boot_id: Callable[[], bytes] | None = None,
    ) -> None:
        self._folder, self._now_ns = folder, now_ns
        self._boot_id = boot_id or _boot_id

    def recall(
        self, held: PinnedObject | PinnedDirectory, algorithm: str, *, uri: str
    ) -> LocalRecollection:
        """What is remembered of a pinned local file or folder.

        Raises:
            ConfigurationError: Not of this machine's files, or the folder is not this user's alone.
        """
        if not isinstance(held, PinnedFile | PinnedFolder):
            raise not_local(uri)
        memory = Memory(uri=uri, boot_id=self._boot_id(), algorithm=algorithm, files={})
        descriptor = self._hold()
        try:
            found = self._read(descriptor, memory)
        finally:
            os.close(descriptor)
        # Before anything is read: whoever writes later than this leaves a later ctime.
        before_ns = self._now_ns() - _MARGIN_NS
        return LocalRecollection(held, memory, found, before_ns, self._write)

    def _hold(self) -> int:
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            # Whoever made one that is there: it is looked at below.
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
            descriptor = os.open(self._folder, _FOLDER_FLAGS)
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder}: expected a folder for remembered digests, found: "
                f"{error.strerror}; name another"
            ) from error
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            os.close(descriptor)
            raise ConfigurationError(
                f"{self._folder}: expected a folder that only this user may enter (0700), found "
                f"mode {stat.S_IMODE(status.st_mode):04o} of user {status.st_uid}, who could have "
                "altered files taken for signed ones; remove it or name another"
            )
        return descriptor

    def _read(self, folder: int, wanted: Memory) -> Mapping[str, tuple[Identity, Entry]]:
        """What is remembered; nothing, and a warning, where it cannot be believed."""
        name = _file_name(wanted.uri)
        try:
            found = decode_memory(_private_bytes(folder, name))
        except FileNotFoundError:
            return {}
        except (OSError, FormatError) as error:
            log.warning(
                "%s/%s is not believed, every file is read anew: %s", self._folder, name, error
            )
            return {}
        # After another start, what the disk says may be older than the bytes that reached it.
        same = (found.uri, found.boot_id, found.algorithm)
        return found.files if same == (wanted.uri, wanted.boot_id, wanted.algorithm) else {}

    def _write(self, memory: Memory) -> None:
        """Put a memory in the old one's place; that it fails only costs time."""
        try:
            data = encode_memory(memory)
            os.close(self._hold())
            path = os.path.join(self._folder, _file_name(memory.uri))
            aside.sweep(str(self._folder))
            name, descriptor = aside.make_file(path)
            try:
                _write_all(descriptor, data)
                os.rename(name, path)
                aside.sync_directory(str(self._folder))
            finally:
                os.close(descriptor)
        except (OSError, SecureMLError) as error:
            log.warning("%s: digests are not remembered: %s", self._folder, error)


class LocalRecollection:
    """Recollection of one pinned file or folder."""

    def __init__(
        self,
        held: PinnedFile | PinnedFolder,
        memory: Memory,
        found: Mapping[str, tuple[Identity, Entry]],
        before_ns: int,
        write: Callable[[Memory], None],
    ) -> None:
        self._memory, self._before_ns, self._write = memory, before_ns, write
        self._noted: dict[str, Identity] = {}
        self._lock = threading.Lock()
        self._kept = {
            path: each for path, each in found.items() if _identity_in(held, path) == each[0]
        }
        self._known = {path: entry for path, (_, entry) in self._kept.items()}
        self._forgot = len(self._kept) != len(found)
        status = os.fstat(held.descriptor)
        self._device = status.st_dev if _file_system(held.descriptor) in _FILE_SYSTEMS else None

    @property
    def known(self) -> Mapping[str, Entry]:
        """Entries of files that are as they were when they were read."""
        return self._known

    def note(self, path: str, pinned: PinnedObject) -> None:
        """Look whether a file, pinned and not yet read, may be remembered."""
        assert isinstance(pinned, PinnedFile)
        status = pinned.status
        if (
            status.st_dev == self._device
            and status.st_ctime_ns < self._before_ns
            and _nobody_writes(pinned.descriptor)
        ):
            with self._lock:
                self._noted[path] = _identity(status)

    def keep(self, manifest: Manifest) -> None:
        """Remember what was noted and read; a failure is warned about."""
        read = {entry.path: entry for entry in manifest.entries}
        files = {**self._kept, **{path: (seen, read[path]) for path, seen in self._noted.items()}}
        if self._noted or self._forgot:
            memory = self._memory
            self._write(
                Memory(
                    uri=memory.uri,
                    boot_id=memory.boot_id,
                    algorithm=memory.algorithm,
                    files=files,
                )
            )


def not_local(uri: str) -> ConfigurationError:
    """The refusal to remember digests of what lies in a store."""
    return ConfigurationError(
        f"{uri}: expected a file or folder of this machine to check again, found an object of a "
        "store, whose word for a version is no proof of its bytes; verify it whole"
    )


def _nobody_writes(descriptor: int) -> bool:
    """Whether no process has the file open for writing, or mapped so, at this moment.

    A write that began before may stand still between its pages for as long as its writer likes,
    and sets no ctime when it goes on.
    """
    try:
        # A lease is broken by a signal, which is to be one that does nothing by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        # Given only if nobody writes; and to nobody but the file's owner, or root.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _identity(status: os.stat_result) -> Identity:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
    )


def _identity_in(held: PinnedFile | PinnedFolder, path: str) -> Identity | None:
    if isinstance(held, PinnedFile):
        return None if path else _identity(held.status)
    try:
        return _identity(held.status_of(path))
    except FormatError:
        return None  # It was removed since.


def _private_bytes(folder: int, name: str) -> bytes:
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & 0o077
            or status.st_nlink != 1
        ):
            raise FormatError("expected a file of mode 0600 that only this user has")
        if status.st_size > MAX_MEMORY_BYTES:
            raise FormatError(f"{status.st_size} bytes, at most {MAX_MEMORY_BYTES}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _file_name(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest() + ".digests"


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(Path(_BOOT_ID).read_text().strip().replace("-", ""))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{_BOOT_ID}: expected the id of this start of the machine, found none; verify without "
            "what is remembered"
        ) from error


def _file_system(descriptor: int) -> str:
    """The type of the file system that a descriptor's file lies on; empty: not to be told."""
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
        mount = facts[facts.index("mnt_id:") + 1]
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            # proc(5): id, …, then optional fields up to a hyphen, then the type.
            if line.split(" ", 1)[0] == mount:
                return line.partition(" - ")[2].split(" ", 1)[0]
    except (OSError, ValueError, IndexError):
        pass  # Not to be told is as good as an unknown one: nothing is remembered.
    return ""
