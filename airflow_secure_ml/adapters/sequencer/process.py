"""Start the sequencer where none runs, find it, stop it.

It gets a session of its own, so it outlives the task whose event made it necessary, and ends by
itself when there is nothing to do. That only one works on a log is its lock's doing, not this
module's: two that start at once are harmless.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow_secure_ml.adapters.sequencer.locks import lock_holder
from airflow_secure_ml.errors import ServiceUnavailableError

LOCK_FILE = "trail.lock"
PID_FILE = "sequencer.pid"
IDLE_S = 60.0
START_S = 15.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL")


class SequencerLock:
    """The right to sequence a log; it is lost with the process.

    Args:
        audit_dir: The log's directory; made if it is not there.
    """

    def __init__(self, audit_dir: Path) -> None:
        audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._pid_path = audit_dir / PID_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(audit_dir / LOCK_FILE, flags, 0o600)

    def acquire(self) -> bool:
        """Take the lock and leave the process id beside it; False: another one has it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        self._pid_path.unlink(missing_ok=True)
        # Nothing that lay there is written through or waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._pid_path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        return True

    def release(self) -> None:
        """Let another one have it."""
        self._pid_path.unlink(missing_ok=True)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def sequencer_pid(audit_dir: Path) -> int | None:
    """Process id of the running sequencer, from the lock itself; None: none runs.

    0: it runs where its id says nothing here, in another container.
    """
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(audit_dir / LOCK_FILE, flags)
    except FileNotFoundError:
        return None
    try:
        return lock_holder(descriptor)
    finally:
        os.close(descriptor)


def ensure_sequencer(
    audit_dir: Path,
    audit_signer_dir: Path,
    *,
    spares: Sequence[Path] = (),
    log: Sequence[str] = (),
    idle_s: float = IDLE_S,
) -> bool:
    """Start a sequencer unless one runs; call it after the segment exists.

    A sequencer that is about to end looks once more after it let go of its lock, so a segment
    made before this call is seen by the old one or by the new one.

    Args:
        audit_dir: The log's directory.
        audit_signer_dir: Where `init_log` put its key.
        spares: Further spool directories.
        log: The arguments that name the log, where it is not in `audit_dir`.
        idle_s: Seconds without anything to do after which it ends.

    Returns:
        Whether one was started.

    Raises:
        ServiceUnavailableError: It did not start.
    """
    if sequencer_pid(audit_dir) is not None:
        return False
    command = [sys.executable, "-I", "-m", "airflow_secure_ml.sequencer", "--detach"]
    command += ["--audit-dir", str(audit_dir), "--signer-dir", str(audit_signer_dir)]
    command += ["--idle-s", str(idle_s), *log]
    for spare in spares:
        command += ["--spare-dir", str(spare)]
    try:
        # It forks into a session of its own at once; what is waited for is only its parent.
        done = subprocess.run(  # noqa: S603 - our own program, paths from the deployment
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            # It outlives the task: nothing of the task's environment goes with it.
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceUnavailableError(
            service="sequencer", action="start", reason=str(error), why="audit_unavailable"
        ) from error
    if done.returncode:
        raise ServiceUnavailableError(
            service="sequencer",
            action="start",
            reason=done.stderr.decode("utf-8", "replace").strip()[-500:],
            why="audit_unavailable",
        )
    return True


def stop_sequencer(audit_dir: Path, *, timeout_s: float = 10.0) -> bool:
    """Ask the running sequencer to finish and wait until it ended.

    Returns:
        Whether one ran.

    Raises:
        ServiceUnavailableError: It did not end in time.
    """
    pid = sequencer_pid(audit_dir)
    if not pid:
        return False
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # The process that was opened must still be the one with the lock: ids are used again.
        if sequencer_pid(audit_dir) == pid:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            # Not select.select: it takes no descriptor beyond 1023.
            ended = select.poll()
            ended.register(process, select.POLLIN)
            if not ended.poll(timeout_s * 1000):
                raise ServiceUnavailableError(
                    service="sequencer", action="stop", reason=f"still runs after {timeout_s} s"
                )
    finally:
        os.close(process)
    return True
