"""Run programs until standard input ends, then stop every one of them, children included.

A program of its own: whoever started it may be killed at any moment, and an Airflow component
that gets a signal leaves its children behind. Those are given to this process, so none is lost.
First line of standard input: {"programs": {name: [argument, ...]}, "logs": folder}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

# prctl(2)
PR_SET_CHILD_SUBREAPER = 36
POLITE_S = 6.0
POLL_S = 0.1


def main() -> int:
    """Returns 0 when told to stop, 1 when a program ended by itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    order = json.loads(sys.stdin.readline())
    programs = {
        name: _start(arguments, Path(order["logs"]) / f"{name}.log")
        for name, arguments in order["programs"].items()
    }
    try:
        ended = _wait(programs)
    finally:
        stop(programs)
    if ended:
        print(ended, flush=True)
    return 1 if ended else 0


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        # Signals that are ignored here would be ignored there.
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            restore_signals=True,
            preexec_fn=_default_signals,
        )


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait(programs: dict[str, subprocess.Popen[bytes]]) -> str:
    """Until standard input ends (empty), or a program does (its name)."""
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return ""
        for name, program in programs.items():
            if program.poll() is not None:
                return name
        _reap({program.pid for program in programs.values()})


def stop(programs: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask the programs, then everything they left, then do not ask any more."""
    for program in programs.values():
        _send(program.pid, signal.SIGTERM)
    deadline = time.monotonic() + POLITE_S
    while time.monotonic() < deadline and any(p.poll() is None for p in programs.values()):
        time.sleep(POLL_S)
    for number, patience_s in ((signal.SIGTERM, POLITE_S / 2), (signal.SIGKILL, POLITE_S)):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            for program in programs.values():
                program.poll()
            _reap({program.pid for program in programs.values()})
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                _send(pid, number)
            time.sleep(POLL_S)


def descendants(ancestor: int) -> set[int]:
    """Every living process below one; those that ended and wait to be reaped do not count."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    found: set[int] = set()
    grown = {ancestor}
    while grown:
        grown = {pid for pid, parent in parents.items() if parent in grown} - found
        found |= grown
    return found


def _reap(known: set[int]) -> None:
    """Collect orphans that ended; the programs' own ends are left for `poll`."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
