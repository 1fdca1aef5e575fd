"""Look whether a directory may hold a spool that has to outlive its worker.

Source: AUDIT_TRAIL, Spool, bytes: a local file system only; proc(5), mountinfo.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from airflow_secure_ml.errors import ConfigurationError

_GOES_WITH_IT = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
_ELSEWHERE = re.compile(r"nfs|cifs|smb|9p|ceph|gluster|lustre|fuse")


def check_lasting(folder: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Check a directory for `audit_spool = shared`; made if it is not there.

    Args:
        folder: The directory.
        mounts: What is mounted where.

    Returns:
        What somebody should look at, in a sentence; None: nothing.

    Raises:
        ConfigurationError: Its files cannot be locked.
        OSError: It cannot be made or written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.lockf(file.fileno(), os.F_TLOCK, 0)
        except OSError as error:
            raise ConfigurationError(
                f"[secure_ml] audit_dir: {folder}: its files cannot be locked ({error.strerror}); "
                "with audit_spool = shared it has to be a file system with POSIX locks"
            ) from error
    kind = _kind_of(os.stat(folder).st_dev, mounts)
    if kind in _GOES_WITH_IT:
        return f"{folder}: {kind}, which goes with the worker, and so do events in it"
    if _ELSEWHERE.search(kind):
        return f"{folder}: {kind}, a file system elsewhere; the sequencer sees no lock over it"
    return None


def _kind_of(device: int, mounts: Path) -> str:
    """The type of the file system that was mounted last of this device; empty: not listed."""
    number, kind = f"{os.major(device)}:{os.minor(device)}".encode(), b""
    for line in mounts.read_bytes().splitlines():
        mount, _, rest = line.partition(b" - ")
        if mount.split()[2:3] == [number]:
            kind = rest.split(b" ", 1)[0]
    return kind.decode("ascii", "replace")
