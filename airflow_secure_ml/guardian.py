"""The small process that renews leases while a task runs, and revokes and shreds after it.

Run as a program, by its path, with Python's -I -S: standard library, and of this package only
what loads fast. It watches the task by pidfd, in a session of its own, deaf to the signals that
end a task, without core dumps. It ends when everything is revoked, shredded and recorded.

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
from collections.abc import Collection
from dataclasses import dataclass
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
    from airflow_secure_ml.adapters.spool import EmitterSink
    from airflow_secure_ml.adapters.spool.emitting import Lines
    from airflow_secure_ml.adapters.vault.keeping import Kept, LeaseKeeper

_LINE = 0
_MAX_LINE_BYTES = 1 << 20
# The number of what answers nothing: it goes on without the task.
_GOES_ON = -1
_PR_SET_DUMPABLE = 4
# Told: the task waits for the answer. Gone: nobody waits, children may still be writing.
_TOLD_S = 10.0
_GONE_S = 120.0
_DYING_S = 0.2
_RECORD_S = 30.0
_RECORD_RETRY_S = 0.5
# Revoking goes on beside the shredding. Told: the task waits so long for it, and then for no more.
_REVOKE_TOLD_S = 3.0
_REVOKE_GONE_S = 1.0
# Longer than leases should hold; without a term of its own one would be tried for ever.
_REVOKE_REST_S = 86400.0


class _Guard:
    """What it watches over."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.roots: dict[Path, int] = {}
        self._shredded: list[Path] = []
        self._spool: EmitterSink | None = None
        self._is_recording = False
        self._keeper: LeaseKeeper | None = None
        self._reported: set[str] = set()
        for root in first["scratch"]:
            self.add(root)

    def load_spool(self, first: dict[str, Any]) -> None:
        """Be able to record; it opens nothing before its first event, and often there is none."""
        self._spool = _make_spool(first["audit"], first["run"])

    def add(self, root: str) -> None:
        self.roots[Path(root)] = hold_marker(Path(root))

    @property
    def keeper(self) -> LeaseKeeper:
        """What keeps the leases; imported when there is one."""
        if self._keeper is None:
            from airflow_secure_ml.adapters.vault.keeping import LeaseKeeper

            self._keeper = LeaseKeeper(self._tell_renewed)
        return self._keeper

    @property
    def leases(self) -> list[Kept]:
        """What was leased and does not stand in the trail as ended."""
        leases = [] if self._keeper is None else self._keeper.leases
        return [lease for lease in leases if lease.digest not in self._reported]

    @property
    def has_work(self) -> bool:
        """Whether there is anything to revoke, to shred or to record."""
        return bool(self.roots or self._shredded or self._keeper is not None)

    def forget(self, digests: Collection[str]) -> None:
        """Take it that what is gone stands in the trail, these leases too: the task has said so."""
        self._shredded = []
        self.roots = {root: marker for root, marker in self.roots.items() if is_there(root)}
        self._reported.update(digests)

    def end_leases(self, *, with_tokens: bool = False) -> None:
        """Begin to end every lease, and the tokens if their task is gone."""
        if self._keeper is not None:
            self._keeper.end(with_tokens=with_tokens)

    def wait_for_leases(self, deadline_s: float) -> bool:
        """Whether nothing more is tried to end any of them, after so many seconds at most."""
        return self._keeper is None or self._keeper.wait(deadline_s)

    def shred(self, deadline_s: float) -> None:
        for root, marker in list(self.roots.items()):
            if shred_tree(root, deadline_s=deadline_s):
                os.close(marker)
                del self.roots[root]
                self._shredded.append(root)

    def end_alone(self, because: str) -> None:
        """End the leases, shred, see to what is left, and record it; nobody asks any more."""
        self.end_leases(with_tokens=because == "task_died")
        self.shred(_GONE_S)
        self._record_shredded(because)
        if not self.wait_for_leases(_REVOKE_GONE_S):
            _let_go()
            self._try_to_settle()
            self.wait_for_leases(_REVOKE_REST_S)
        self._record_ended(because)

    def answer(self, message: dict[str, Any]) -> bool:
        """Do what a line asks for; returns whether it was the last."""
        do, reply = message["do"], {"n": message["n"]}
        if do == "finish":
            _say({**reply, **self._finish()})
        elif do == "bye":
            self.forget(message["leases"])
        else:
            try:
                self._take(do, message)
                _say({**reply, "ok": True})
            except (OSError, ValueError) as error:
                _say({**reply, "error": f"{do}: {type(error).__name__}"})
        return bool(do == "bye")

    def _finish(self) -> dict[str, Any]:
        until = time.monotonic() + _REVOKE_TOLD_S
        self.end_leases()
        self.shred(_TOLD_S)
        self.wait_for_leases(max(0.0, until - time.monotonic()))
        ended = [lease.digest for lease in self.leases if lease.result == "ok"]
        held = [lease.digest for lease in self.leases if lease.digest not in ended]
        done, left = [*map(str, self._shredded)], [*map(str, self.roots)]
        return {"done": done, "left": left, "revoked": ended, "held": held}

    def _take(self, do: str, message: dict[str, Any]) -> None:
        if do == "add":
            self.add(message["scratch"])
        elif do == "line":
            self.keeper.take_line(message)
        elif do == "ask":
            self.keeper.ask(message["line"])
        elif do == "answered":
            self.keeper.answered(message["line"])
        else:
            self.keeper.take_lease(message)

    def _tell_renewed(self, result: str, why: str | None, lease: Kept) -> None:
        self._record_lease("lease.renew", result, why, lease, {"renewals": lease.renewals})
        self._try_to_settle()

    def _record_lease(
        self, act: str, result: str, why: str | None, lease: Kept, more: dict[str, Any]
    ) -> None:
        if self._spool is None:
            return
        from airflow_secure_ml.core.audit.event import Fact

        self._is_recording = True
        facts = {"path": lease.path, "id": lease.digest}
        self._spool.record(
            Fact(
                act=act,
                phase="outcome",
                result=result,
                why=why,
                of=lease.of,
                lease=facts,
                more=more,
            )
        )

    def _record_ended(self, because: str) -> None:
        """Record every lease; the task cannot, or did not say that it has."""
        for lease in self.leases:
            more = {"because": because}
            self._record_lease("lease.revoke", lease.result, lease.why, lease, more)

    def _record_shredded(self, because: str) -> None:
        """As for leases."""
        if self._spool is None:
            return
        from airflow_secure_ml.core.audit.event import Fact

        for root in (*self._shredded, *self.roots):
            result, why = ("failed", "service_unavailable") if root in self.roots else ("ok", None)
            self._is_recording = True
            more = {"path": root.name, "because": because}
            self._spool.record(
                Fact(act="scratch.shred", phase="seen", result=result, why=why, more=more)
            )

    def close(self) -> None:
        """See to it that what was recorded survives, and end the emitter.

        Raises:
            ServiceUnavailableError: Not even half a minute later could it be written.
        """
        if self._spool is None or not self._is_recording:
            return
        until = time.monotonic() + _RECORD_S
        # A full disk may have killed the task, and may have room again now that it is gone.
        while not self._try_to_settle() and time.monotonic() < until:
            time.sleep(_RECORD_RETRY_S)
        self._spool.close()

    def _try_to_settle(self) -> bool:
        if self._spool is None or not self._is_recording:
            return True
        try:
            self._spool.settle()
        except ServiceUnavailableError:
            # It stays pending and goes with the next.
            return False
        return True


def _make_spool(audit: dict[str, Any] | None, run: dict[str, Any] | None) -> EmitterSink | None:
    if audit is None:
        return None
    from airflow_secure_ml.adapters.spool import EmitterSink
    from airflow_secure_ml.core.audit.event import RunRef

    return EmitterSink(
        "guardian",
        _make_lines(audit),
        run=None if run is None else RunRef(**run),
        airflow=audit["airflow"] or None,
        hide=audit["hide"],
    )


def _make_lines(audit: dict[str, Any]) -> Lines:
    """Where events go: over a line, or into the spool."""
    if audit.get("collector"):
        from airflow_secure_ml.adapters.collector.line import CollectorLines

        return CollectorLines(Path(audit["collector"]))
    if audit.get("push"):
        # At the end, as above: where the task found what else this needs.
        sys.path.append(audit["push"]["packages"])
        from airflow_secure_ml.audit_ports import push_lines

        return push_lines(audit["push"])
    from airflow_secure_ml.adapters.spool import SpoolLines

    return SpoolLines(audit["audit_dir"], audit["spare_dir"])


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
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            # Whoever in the task's process writes such a thing has the line, not the task.
            self.closed = True
            return []


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
        parent = _open_parent(first["task_pid"], first["parent_pid"])
    except (OSError, TypeError, SecureMLError) as error:
        _say({"n": first["n"], "error": f"{type(error).__name__}: {error}"})
        return 2
    _say({"n": first["n"], "ok": True})
    # Most of its start, and the task need not wait for it: only now, but before anything happens.
    # If it fails, this process ends, and the task is told when it next asks.
    guard.load_spool(first)
    watched = _Watched(task=task, parent=parent)
    because = "line_closed"
    try:
        because = "task_died" if task is None else _watch(guard, lines, watched, waiting)
    finally:
        # Whatever a line held: what was handed over ends.
        if guard.has_work:
            guard.end_alone("left_over" if because == "bye" else because)
        guard.close()
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


def _open_parent(task_pid: int, pid: int | None) -> int | None:
    """The supervisor, to be told of its death; None: nobody's, or gone already."""
    if pid is None:
        return None
    try:
        parent = os.pidfd_open(pid)
        stat = Path(f"/proc/{task_pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # As with the task: else the number may belong to another process by now.
    return parent if stat.rpartition(")")[2].split()[1] == str(pid) else None


@dataclass(slots=True)
class _Watched:
    """The processes whose end it is told of, by pidfd."""

    task: int | None
    parent: int | None


def _watch(guard: _Guard, lines: _Lines, watched: _Watched, waiting: list[dict[str, Any]]) -> str:
    task = watched.task
    assert task is not None
    poll = select.poll()
    poll.register(_LINE, select.POLLIN)
    poll.register(task, select.POLLIN)
    if watched.parent is not None:
        poll.register(watched.parent, select.POLLIN)
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
        if watched.parent in ready:
            # An orphan publishes nothing, so it needs no credential either.
            assert watched.parent is not None
            poll.unregister(watched.parent)
            guard.end_leases()


def _has_died(task: int) -> bool:
    # A killed task's descriptors are closed a moment before its death is told.
    poll = select.poll()
    poll.register(task, select.POLLIN)
    return bool(poll.poll(_DYING_S * 1000))


def _let_go() -> None:
    """Tell the task, should it wait, that what is left is done without it."""
    _say({"n": _GOES_ON})
    # Not closed: the next file would get its number.
    os.dup2(os.open(os.devnull, os.O_RDWR), _LINE)


def _say(reply: dict[str, Any]) -> None:
    try:
        os.write(_LINE, json.dumps(reply).encode() + b"\n")
    except OSError:
        # Nobody listens any more; the watch ends by that.
        return


if __name__ == "__main__":
    # The task waits for this end: nothing is left to write or to tidy up.
    os._exit(main())
