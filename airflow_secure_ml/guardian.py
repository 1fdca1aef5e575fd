"""The small process that shreds when the task cannot.

Run as a program, by its path, with Python's -I -S: standard library, and of this package only
what loads fast. It watches the task by pidfd, in a session of its own, deaf to the signals that
end a task, without core dumps. It ends when everything is shredded and recorded, never before.

Source: SECURE_TASK, The guardian.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(_number, signal.SIG_IGN)
    # At the end: nothing of ours may stand in for a module of the standard library.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from airflow_secure_ml.adapters.scratch.shredding import hold_marker, is_there, shred_tree
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.spool import Spool

_LINE = 0
_MAX_LINE_BYTES = 1 << 20
_PR_SET_DUMPABLE = 4
# Told: the task waits for the answer. Gone: nobody waits, children may still be writing.
_TOLD_S = 10.0
_GONE_S = 120.0
_DYING_S = 0.2
_RECORD_S = 30.0
_RECORD_RETRY_S = 0.5


class _Guard:
    """What it watches over."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.roots: dict[Path, int] = {}
        self._shredded: list[Path] = []
        self._spool: Spool | None = None
        for root in first["scratch"]:
            self.add(root)

    def load_spool(self, first: dict[str, Any]) -> None:
        """Be able to record; it opens nothing before its first event, and often there is none."""
        self._spool = _make_spool(first["audit"], first["run"])

    def add(self, root: str) -> None:
        self.roots[Path(root)] = hold_marker(Path(root))

    @property
    def has_work(self) -> bool:
        """Whether there is anything to shred or to record."""
        return bool(self.roots or self._shredded)

    def forget(self) -> None:
        """Take it that what is gone stands in the trail: the task has said so."""
        self._shredded = []
        self.roots = {root: marker for root, marker in self.roots.items() if is_there(root)}

    def shred(self, deadline_s: float) -> None:
        for root, marker in list(self.roots.items()):
            if shred_tree(root, deadline_s=deadline_s):
                os.close(marker)
                del self.roots[root]
                self._shredded.append(root)

    def answer(self, message: dict[str, Any]) -> bool:
        """Do what a line asks for; returns whether it was the last."""
        do, reply = message["do"], {"n": message["n"]}
        if do == "add":
            try:
                self.add(message["scratch"])
                _say({**reply, "ok": True})
            except OSError as error:
                _say({**reply, "error": f"{message['scratch']}: {error.strerror}"})
        elif do == "finish":
            self.shred(_TOLD_S)
            done, left = [*map(str, self._shredded)], [*map(str, self.roots)]
            _say({**reply, "done": done, "left": left})
        return bool(do == "bye")

    def record(self, because: str) -> None:
        """Record every directory; the task cannot, or did not say that it has."""
        spool = self._spool
        if spool is None:
            return
        from airflow_secure_ml.core.audit.event import Fact

        for root in self._shredded:
            more = {"path": root.name, "because": because}
            spool.record(Fact(act="scratch.shred", phase="seen", result="ok", more=more))
        for root in self.roots:
            more = {"path": root.name, "because": because}
            why = "service_unavailable"
            spool.record(
                Fact(act="scratch.shred", phase="seen", result="failed", why=why, more=more)
            )
        until = time.monotonic() + _RECORD_S
        while True:
            try:
                spool.settle()
                break
            except ServiceUnavailableError:
                # A full disk may have killed the task, and may have room again now that it is gone.
                if time.monotonic() > until:
                    raise
                time.sleep(_RECORD_RETRY_S)
        spool.close()


def _make_spool(audit: dict[str, Any] | None, run: dict[str, Any] | None) -> Spool | None:
    if audit is None:
        return None
    from airflow_secure_ml.adapters.spool import Spool
    from airflow_secure_ml.core.audit.event import RunRef

    return Spool(
        audit["audit_dir"],
        "guardian",
        run=None if run is None else RunRef(**run),
        airflow=audit["airflow"] or None,
        spare_dir=audit["spare_dir"],
        hide=audit["hide"],
    )


class _Lines:
    """Lines from the task."""

    def __init__(self) -> None:
        self._buffer = b""
        self.closed = False

    def read(self) -> list[dict[str, Any]]:
        """What has arrived; a line without its end was cut off with its writer and is dropped."""
        try:
            received = os.read(_LINE, 65536)
        except ConnectionError:
            received = b""
        self.closed = not received or len(self._buffer) > _MAX_LINE_BYTES
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        return [json.loads(line) for line in lines]


def main() -> int:
    """Watch until told, closed or alone; then shred, record, end."""
    lines = _Lines()
    waiting: list[dict[str, Any]] = []
    while not waiting and not lines.closed:
        waiting = lines.read()
    if not waiting:
        return 1
    first, *waiting = waiting
    try:
        _be_private()
        guard = _Guard(first)
        task = _open_task(first["task_pid"])
    except (OSError, TypeError, SecureMLError) as error:
        _say({"n": first["n"], "error": f"{type(error).__name__}: {error}"})
        return 2
    _say({"n": first["n"], "ok": True})
    # Most of its start, and the task need not wait for it: only now, but before anything happens.
    # If it fails, this process ends, and the task is told when it next asks.
    guard.load_spool(first)
    because = "task_died" if task is None else _watch(guard, lines, task, waiting)
    if because == "bye":
        guard.forget()
        because = "left_over"
    if guard.has_work:
        guard.shred(_GONE_S)
        guard.record(because)
    return 0


def _be_private() -> None:
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Also keeps this user's other processes from tracing it. Only after exec: exec sets it back.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def _open_task(pid: int) -> int | None:
    try:
        task = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # A parent that has died is no parent: then the number may belong to another process by now.
    return task if os.getppid() == pid else None


def _watch(guard: _Guard, lines: _Lines, task: int, waiting: list[dict[str, Any]]) -> str:
    poll = select.poll()
    poll.register(_LINE, select.POLLIN)
    poll.register(task, select.POLLIN)
    while True:
        for message in waiting:
            if guard.answer(message):
                return "bye"
        if lines.closed:
            return "task_died" if _has_died(task) else "line_closed"
        ready = {handle for handle, _ in poll.poll()}
        # What it said before it died comes first: it may have been bye.
        waiting = lines.read() if _LINE in ready else []
        if task in ready and _LINE not in ready:
            return "task_died"


def _has_died(task: int) -> bool:
    # A killed task's descriptors are closed a moment before its death is told.
    return bool(select.select([task], [], [], _DYING_S)[0])


def _say(reply: dict[str, Any]) -> None:
    try:
        os.write(_LINE, json.dumps(reply).encode() + b"\n")
    except OSError:
        # Nobody listens any more; the watch ends by that.
        return


if __name__ == "__main__":
    # The task waits for this end: nothing is left to write or to tidy up.
    os._exit(main())
