"""Start the relay where none runs; that only one works on a log is its lock's doing.

It gets a session of its own, so it outlives the task whose event made it necessary.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from airflow_secure_ml.errors import ServiceUnavailableError

LOCK_FILE = "relay.lock"
START_S = 15.0
IDLE_S = 60.0
_ENVIRONMENT = (
    *("PATH", "LD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL", "HOME"),
    *("AIRFLOW_HOME", "AIRFLOW_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
_PREFIX = "AIRFLOW__SECURE_ML__"


class RelayLock:
    """The right to relay a log; it is lost with the process.

    Args:
        audit_dir: The log's directory; made if it is not there.
    """

    def __init__(self, audit_dir: Path) -> None:
        audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._path = audit_dir / LOCK_FILE
        self._descriptor = os.open(self._path, flags, 0o600)

    def acquire(self) -> bool:
        """Take the lock; False: another one has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_there(self) -> bool:
        """Whether its file is the one that others would ask; else the directory is gone."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def close(self) -> None:
        """Let another one have it."""
        os.close(self._descriptor)


def is_relaying(audit_dir: Path) -> bool:
    """Whether a relay runs; it is asked without taking the lock from one that starts just now."""
    try:
        descriptor = os.open(audit_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def ensure_relay(audit_dir: Path, *, idle_s: float = IDLE_S) -> bool:
    """Start a relay unless one runs; returns whether one was started.

    Only that it was started is waited for: what it then meets is in its own log and on the pages.

    Args:
        audit_dir: The log's directory.
        idle_s: Seconds without anything to do after which it ends.

    Raises:
        ServiceUnavailableError: It did not start.
    """
    if is_relaying(audit_dir):
        return False
    command = [sys.executable, "-I", "-m", "airflow_secure_ml.relay"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_PREFIX)
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, "--detach", "--idle-s", str(idle_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceUnavailableError(
            service="relay", action="start", reason=str(error), why="audit_unavailable"
        ) from error
    if done.returncode:
        raise ServiceUnavailableError(
            service="relay",
            action="start",
            reason=f"exit status {done.returncode}; look into relay.log in audit_dir",
            why="audit_unavailable",
        )
    return True
