"""Which directory has room for opened data, and whether it is fit to hold any."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

log = logging.getLogger(__name__)

_MEMORY = frozenset(["tmpfs", "ramfs"])
_DEFAULT_DIR = Path("/dev/shm")  # noqa: S108 - memory, with a private directory of random name inside


def first_with_room(directories: Sequence[Path], need_bytes: int) -> Path:
    """Return the first of `directories` with `need_bytes` free; errors as in `make_scratch`."""
    seen = []
    could = False
    for directory in directories:
        _check_directory(directory)
        room = os.statvfs(directory)
        free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        if free >= need_bytes:
            return directory
        could = could or whole >= need_bytes
        seen.append(f"{directory} has {_mib(free)} free of {_mib(whole)}")
    message = (
        f"no scratch directory has room: {_mib(need_bytes)} needed, {'; '.join(seen)}. "
        "Containers have 64 MiB in /dev/shm unless told otherwise (--shm-size, or an emptyDir "
        "with medium: Memory); set [secure_ml] scratch_dirs, or read as a stream"
    )
    if could:
        raise ServiceUnavailableError(message, service="scratch", action="make", reason="full")
    raise ConfigurationError(message)


def _check_directory(directory: Path) -> None:
    try:
        mode = os.stat(directory).st_mode
    except OSError as error:
        raise ConfigurationError(
            f"[secure_ml] scratch_dirs: {directory}: {error.strerror}; expected a directory"
        ) from error
    if not stat.S_ISDIR(mode) or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"[secure_ml] scratch_dirs: {directory}: expected a directory that can be written"
        )
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"[secure_ml] scratch_dirs: {directory}: others may rename what is in it; "
            "expected no write right for others, or the sticky bit"
        )
    kind = file_system(directory)
    if kind in _MEMORY:
        return
    if directory == _DEFAULT_DIR:
        raise ConfigurationError(
            f"{directory} is {kind}, not in memory; mount a tmpfs there, or name another "
            "directory in [secure_ml] scratch_dirs"
        )
    log.warning("scratch directory %s is on %s: opened data touches a disk", directory, kind)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, such as `tmpfs`."""
    real = os.path.realpath(path)
    best, kind = "", "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            point = _unescape(before.split(" ")[4])
            if (real == point or real.startswith(point.rstrip("/") + "/")) and (
                len(point) >= len(best)
            ):
                best, kind = point, after.split(" ", 1)[0]
    return kind


def _unescape(text: str) -> str:
    # The kernel writes space, tab, line feed and backslash of a mount point as \ooo.
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
