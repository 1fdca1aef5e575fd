"""Follow spool segments by open descriptors, so that an unlink loses nothing.

Links, devices and anything else that is not a plain file are never opened. Not for a process that
writes segments itself: closing a descriptor here would drop that writer's lock.

Source: AUDIT_TRAIL, Spool and Sequencer.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_secure_ml.adapters.sequencer.locks import lock_holder
from airflow_secure_ml.core.audit.ports import Segment
from airflow_secure_ml.durable_files import sync_directory, whole_file

log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{4})\.seg", re.ASCII)
# 64 MiB and 10,000 files: whoever writes rubbish into the spool must not fill the disk twice.
REFUSED_BYTES = 64 * 2**20
REFUSED_FILES = 10_000
_SPARE_DESCRIPTORS = 64
# Two seconds at the sequencer's pace.
_LINGER_SCANS = 10
_FOR_EVER = -1


@dataclass(slots=True, kw_only=True)
class _Followed:
    """A segment that is held open."""

    descriptor: int
    directory: Path
    name: str
    emitter: str
    part: int
    owner_uid: int
    is_stamped: bool
    size_bytes: int = 0
    lingers: int = 0


class SpoolSegments:
    """A SegmentSource over spool directories.

    Args:
        directories: Where segments appear; one that is not there yet is empty.
        refused: Where refused bytes are kept.
        stamped: Further directories, where a receiver alone writes; another's files in them are
            left alone.
    """

    def __init__(
        self, directories: Sequence[Path], refused: Path, *, stamped: Sequence[Path] = ()
    ) -> None:
        self._directories = (*directories, *stamped)
        self._stamped = frozenset(stamped)
        self._refused = refused
        self._followed: dict[tuple[int, int], _Followed] = {}
        self._removed: dict[tuple[int, int], _Followed] = {}
        self._skipped: set[str] = set()
        # Files and bytes among the refused, looked at once a scan.
        self._kept: tuple[int, int] | None = None
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if most == resource.RLIM_INFINITY else min(most, 65536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        self._limit = wanted - _SPARE_DESCRIPTORS

    def scan(self) -> Sequence[Segment]:
        """Every segment, by emitter and part; new files are opened, unlinked ones stay."""
        self._linger()
        self._kept = None
        for directory in self._directories:
            for entry in _entries(directory):
                self._follow(directory, entry)
        found = [self._state(identity) for identity in self._followed]
        return sorted(found, key=lambda segment: (segment.emitter, segment.part, segment.token))

    def read(self, token: str, at: int, length: int) -> bytes:
        """Up to `length` bytes of a segment from `at`."""
        return os.pread(self._followed[_identity(token)].descriptor, length, at)

    def remove(self, tokens: Collection[str]) -> None:
        """Let go of segments that are whole in the log, unlink them, make that durable."""
        touched = set()
        for token in tokens:
            identity = _identity(token)
            followed = self._followed.pop(identity)
            path = followed.directory / followed.name
            # Another file may stand under the name by now; that one has not been read.
            if _identity_at(path) == identity and self._unlink(path, followed):
                touched.add(followed.directory)
            self._removed[identity] = followed
        for directory in touched:
            sync_directory(directory)

    def _unlink(self, path: Path, followed: _Followed) -> bool:
        """Unlink; where that cannot be, hold on to the file, or it would be found again."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            followed.lingers = _FOR_EVER
            self._skip(path, f"is in the log and cannot be removed: {error.strerror}")
            return False
        return True

    def keep_refused(self, leaf_hash: str, data: bytes) -> bool:
        """Keep refused bytes for inspection; False: there is no room for them."""
        try:
            return self._keep(self._refused / f"{leaf_hash}.bin", data)
        except OSError as error:
            log.warning("refused bytes %s are not kept: %s", leaf_hash, error.strerror)
            return False

    def _keep(self, path: Path, data: bytes) -> bool:
        self._refused.mkdir(mode=0o700, exist_ok=True)
        if self._kept is None:
            with os.scandir(self._refused) as entries:
                sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
            self._kept = (len(sizes), sum(sizes))
        if path.exists():
            return True
        files, size_bytes = self._kept
        if files >= REFUSED_FILES or size_bytes + len(data) > REFUSED_BYTES:
            return False
        with whole_file(path, path.with_suffix(".tmp")) as file:
            file.write(data)
        self._kept = (files + 1, size_bytes + len(data))
        return True

    def close(self) -> None:
        """Let go of every segment; may be called twice."""
        for followed in (*self._followed.values(), *self._removed.values()):
            os.close(followed.descriptor)
        self._followed.clear()
        self._removed.clear()

    def _linger(self) -> None:
        """Take back a removed segment that still grows, let go of the others after a while.

        A writer whose lock was dropped by other code of its process may have looked at its file
        just before it was unlinked, and written just after.
        """
        for identity, followed in list(self._removed.items()):
            if os.fstat(followed.descriptor).st_size > followed.size_bytes:
                self._followed[identity] = self._removed.pop(identity)
                followed.lingers = 0
            elif followed.lingers >= _LINGER_SCANS:
                os.close(self._removed.pop(identity).descriptor)
            elif followed.lingers != _FOR_EVER:
                followed.lingers += 1

    def _follow(self, directory: Path, entry: os.DirEntry[str]) -> None:
        name = _NAME.fullmatch(entry.name)
        if name is None or len(self._followed) >= self._limit:
            return
        path = directory / entry.name
        identity = _identity_at(path)
        if identity is None or identity in self._followed or identity in self._removed:
            return
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self._skip(path, error.strerror or "cannot be opened")
            return
        found = os.fstat(descriptor)
        identity = (found.st_dev, found.st_ino)
        is_stamped = directory in self._stamped
        if is_stamped and found.st_uid != os.geteuid():
            os.close(descriptor)
            self._skip(path, f"belongs to uid {found.st_uid}, not to the receiver")
            return
        if not stat.S_ISREG(found.st_mode) or identity in self._followed:
            os.close(descriptor)
            self._skip(path, "not a plain file")
            return
        self._followed[identity] = _Followed(
            descriptor=descriptor,
            directory=directory,
            name=entry.name,
            emitter=name[1],
            part=int(name[2]),
            owner_uid=found.st_uid,
            is_stamped=is_stamped,
        )

    def _skip(self, path: Path, reason: str) -> None:
        if str(path) not in self._skipped:
            self._skipped.add(str(path))
            log.warning("spool segment %s is left alone: %s", path, reason)

    def _state(self, identity: tuple[int, int]) -> Segment:
        followed = self._followed[identity]
        # The lock first: what is written before it is let go of is then within the length.
        is_held = lock_holder(followed.descriptor) is not None
        followed.size_bytes = os.fstat(followed.descriptor).st_size
        return Segment(
            token=f"{identity[0]}:{identity[1]}",
            emitter=followed.emitter,
            part=followed.part,
            owner_uid=followed.owner_uid,
            is_held=is_held,
            size_bytes=followed.size_bytes,
            is_stamped=followed.is_stamped,
        )


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _identity_at(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _identity(token: str) -> tuple[int, int]:
    device, _, inode = token.partition(":")
    return int(device), int(inode)
