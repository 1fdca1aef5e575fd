"""Make the private directory of a task, and sweep what killed tasks left.

A directory has a random name, mode 0700, and a marker whose lock says that somebody still needs
it. The kernel drops the lock with its last holder, in whatever container that ran: leftovers are
told from live ones without asking for pids, which mean nothing across containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from airflow_secure_ml.adapters.scratch.room import first_with_room
from airflow_secure_ml.adapters.scratch.shredding import (
    MARKER,
    MARKER_FLAGS,
    is_directory,
    shred_tree,
)
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

log = logging.getLogger(__name__)

_OURS = re.compile(r"asml-[0-9a-f]{32}(\.gone)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# Suffixes tell a reader which format it has; an address may hold anything, so nothing else passes.
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,8})\Z")
_COMPRESSIONS = frozenset(["gz", "bz2", "xz", "zst"])
# A directory with something in it but a marker is not of this release; it gets this long.
_UNMARKED_S = 60


class Scratch:
    """One private directory for opened data; a context manager that shreds it.

    Attributes:
        root: The directory.
    """

    def __init__(self, root: Path, marker: int) -> None:
        self.root = root
        self._marker = marker
        self._identity = _identity(marker)
        self._pid = os.getpid()

    def path_for(self, name: str, address: str = "", *, index: int | None = None) -> Path:
        """Make room for one input or output and return its neutral path.

        The parent directory is made; the path itself does not exist.

        Args:
            name: The name in `reads` or `writes`.
            address: Where the data comes from or goes to; only its suffix is taken.
            index: Place in a list of inputs.

        Raises:
            ConfigurationError: Not a name.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r}: not a name; allowed: letters, digits, `_`")
        parent = self.root / name if index is None else self.root / name / str(index)
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return parent / f"data{neutral_suffix(address)}"

    def shred(self, *, deadline_s: float = 10.0) -> None:
        """Remove everything; may be called twice. In a forked child it does nothing.

        Raises:
            ServiceUnavailableError: Something is still there after `deadline_s`.
        """
        # A body that forks may leave its child to run our clean-up too.
        if os.getpid() != self._pid:
            return
        self._let_go()
        if not shred_tree(self.root, deadline_s=deadline_s):
            raise ServiceUnavailableError(
                service="scratch", action="shred", reason=f"{self.root} is still being written"
            )

    def _let_go(self) -> None:
        marker, self._marker = self._marker, -1
        # A body may have closed every descriptor, and the number be another file's by now.
        if marker >= 0 and _identity(marker) == self._identity:
            os.close(marker)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.shred()


def make_scratch(
    directories: Sequence[Path],
    need_bytes: int,
    *,
    random_hex: Callable[[int], str] = secrets.token_hex,
) -> Scratch:
    """Make a directory in the first of `directories` that has room.

    Args:
        directories: Where to look, in order.
        need_bytes: Bytes that will be opened.
        random_hex: Gives twice as many hex digits as it is asked for.

    Raises:
        ConfigurationError: A directory is unusable, or none could ever hold as much.
        ServiceUnavailableError: They could, but are too full now.
    """
    parent = first_with_room(directories, need_bytes)
    while True:
        root = parent / f"asml-{random_hex(16)}"
        root.mkdir(mode=0o700)
        # Between making and locking, a sweep may take it for a leftover: then make another one.
        with contextlib.suppress(FileNotFoundError):
            marker = os.open(root / MARKER, MARKER_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(marker, fcntl.LOCK_SH)
            if os.fstat(marker).st_nlink == 1 and is_directory(root):
                return Scratch(root, marker)
            os.close(marker)


def _identity(handle: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(handle)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def neutral_suffix(address: str) -> str:
    """Return `.csv` or `.csv.gz` of an address, in lower case; empty if none is safe."""
    found = _SUFFIX.search(address)
    if found is None:
        return ""
    last = found[1].lower()
    inner = _SUFFIX.search(address[: found.start()]) if last in _COMPRESSIONS else None
    return f".{inner[1].lower()}.{last}" if inner else f".{last}"


def sweep(directories: Sequence[Path], *, now: Callable[[], float] = time.time) -> list[Path]:
    """Remove what killed tasks of this user left; returns the directories that are gone."""
    removed: list[Path] = []
    for directory in directories:
        try:
            entries = sorted(os.listdir(directory))
        except OSError as error:
            log.warning("scratch directory %s cannot be listed: %s", directory, error.strerror)
            continue
        ours = (directory / entry for entry in entries if _OURS.fullmatch(entry))
        removed += [root for root in ours if _sweep_one(root, now())]
    return removed


def _sweep_one(root: Path, now: float) -> bool:
    try:
        found = os.lstat(root)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        marker = os.open(root / MARKER, MARKER_FLAGS)
    except OSError:
        # Empty: its maker was killed before the marker, or is alive and makes another one.
        with contextlib.suppress(OSError):
            os.rmdir(root)
            return True
        try:
            age_s = now - os.lstat(root).st_mtime
        except FileNotFoundError:
            return False  # Another task has swept it meanwhile.
        return is_directory(root) and age_s > _UNMARKED_S and shred_tree(root, deadline_s=1.0)
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return shred_tree(root, deadline_s=1.0)
    except BlockingIOError:
        return False
    finally:
        os.close(marker)
