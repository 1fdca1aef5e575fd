"""Start the reconciler beside a scheduler, and end it with it.

Called in the scheduler's own process: it starts a program and waits for nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress

_lock = threading.Lock()
_started: dict[int, subprocess.Popen[bytes]] = {}


def start_reconciler(every_s: int) -> bool:
    """Start it, once for this process.

    Returns:
        Whether it was started.

    Raises:
        OSError: It cannot be started.
    """
    with _lock:
        if os.getpid() in _started:
            return False
        command = [sys.executable, "-I", "-m", "airflow_secure_ml.reconciling"]
        command += ["--every-s", str(every_s), "--parent", str(os.getpid())]
        _started[os.getpid()] = subprocess.Popen(  # noqa: S603 - our own program, whole numbers
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        return True


def stop_reconciler() -> None:
    """Tell it to end, if this process started it; a forked child has started none."""
    with _lock:
        process = _started.pop(os.getpid(), None)
    if process is not None:
        with suppress(ProcessLookupError):
            process.terminate()
