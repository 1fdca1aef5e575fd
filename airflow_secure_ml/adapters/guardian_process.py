"""Start the guardian and talk to it; what it does is `guardian`'s business.

One JSON line each way over a socket pair, numbered, so that an answer which a timeout or a signal
handler cut off is not taken for the next one. A guardian that cannot be started or does not
answer is a refusal: without it plaintext could outlive its task.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.lease import Granted, LeaseLine
from airflow_secure_ml.errors import PolicyError

_PROGRAM = Path(__file__).resolve().parent.parent / "guardian.py"
_READY_S = 15.0
_ANSWER_S = 15.0
# It may wait for Vault, or for whoever still writes, but for neither as long as this.
_FINISH_S = 15.0
_LEAVE_S = 5.0
# The number of what answers nothing: it goes on without the task.
_GOES_ON = -1
# A signal handler may take an answer while its owner waits: look again this often.
_SLICE_S = 0.1
# The loader needs it where Python's own library lies in an unusual place; nothing else is passed.
_PASSED_ON = ("LD_LIBRARY_PATH",)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardianAudit:
    """Where and how the guardian records what the task could not.

    Attributes:
        audit_dir: The trail's directory.
        spare_dir: Where its spool goes on when that is full; None: nowhere.
        hide: Dotted names of event fields that are kept aside.
        airflow: Airflow's version, for emitter.open.
        collector: The collector's socket; None: it writes a spool.
        push: What `audit_ports.push_lines` takes; None: it hands nothing over.
    """

    audit_dir: Path
    spare_dir: Path | None = None
    hide: tuple[str, ...] = ()
    airflow: str = ""
    collector: Path | None = None
    push: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReport:
    """What became of the leases and of the scratch directories.

    Attributes:
        answered: Whether the guardian was there to say; if not, shred and record that yourself.
        shredded: Directories that are gone.
        left: Directories that are still there, because somebody writes to them.
        revoked: Leases that have ended, as events name them.
        held: Leases that it goes on to end, and records; in neither: it knows nothing of it.
        is_alone: Whether it took the task's end for come, so that it ends every lease by itself
            and records it.
    """

    answered: bool
    shredded: tuple[Path, ...] = ()
    left: tuple[Path, ...] = ()
    revoked: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    is_alone: bool = False


class Guardian:
    """The guardian of this process. In a forked child every method does nothing."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self._process = process
        self._line = line
        self._identity = _identity(line)
        self._pid = os.getpid()
        self._number = 0
        self._watches = False
        self._buffer = b""
        self._answers: dict[int, dict[str, Any]] = {}

    @classmethod
    def start(
        cls,
        *,
        scratch: Sequence[Path] = (),
        run: RunRef | None = None,
        audit: GuardianAudit | None = None,
        python: str = sys.executable,
    ) -> Guardian:
        """Start a guardian for this process; returns at once, `ready` waits for it.

        Args:
            scratch: Directories to shred when this process is gone, or says so.
            run: Which task try it stands for, in its events.
            audit: Where it records; None: nowhere.
            python: The interpreter.

        Raises:
            PolicyError: It cannot be started (guardian_unavailable).
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - this interpreter, our own file
                    [python, "-I", "-S", "-X", "utf8", str(_PROGRAM)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    # The task's own would keep Airflow waiting for its end.
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                    start_new_session=True,
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                ours.close()
                raise _refusal(f"{python}: {error}") from error
        guardian = cls(process, ours)
        guardian._send(
            {
                "task_pid": os.getpid(),
                "parent_pid": os.getppid(),
                "scratch": [str(root) for root in scratch],
                "run": None if run is None else asdict(run),
                "audit": None if audit is None else _audit_line(audit),
            }
        )
        return guardian

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ready(self, *, deadline_s: float = _READY_S) -> None:
        """Return once it watches this process; call it before plaintext is written, each time.

        Raises:
            PolicyError: It does not (guardian_unavailable).
        """
        if os.getpid() != self._pid:
            return
        if not self._watches:
            self._demand(0, "start", deadline_s)
            self._watches = True
        elif self._process.poll() is not None:
            raise _refusal(f"it ended with status {self._process.returncode}")

    def add_scratch(self, root: Path, *, deadline_s: float = _ANSWER_S) -> None:
        """Give it one more directory; returns once it has taken it. Errors as in `ready`."""
        if os.getpid() == self._pid:
            self._demand(self._send({"do": "add", "scratch": str(root)}), "watch", deadline_s)

    def take_line(self, number: int, line: LeaseLine, *, deadline_s: float = _ANSWER_S) -> None:
        """Hand over how to renew and revoke, before a lease is taken; errors as in `ready`."""
        if os.getpid() != self._pid:
            return
        message = {
            "do": "line",
            "line": number,
            "server": dict(line.server),
            "token": line.token.reveal(),
            "ttl_s": line.token_ttl_s,
            "ours": line.token_ours,
        }
        self._demand(self._send(message), "take a line to Vault", deadline_s)

    def ask(self, number: int) -> None:
        """Say that a lease is being asked for over a line; returns at once.

        Should neither `take_lease` nor `answered` follow, the line's token ends with the task's
        other leases, if it was made for the task.
        """
        if os.getpid() == self._pid:
            self._send({"do": "ask", "line": number})

    def answered(self, number: int) -> None:
        """Say that no lease came of it."""
        if os.getpid() == self._pid:
            self._send({"do": "answered", "line": number})

    def take_lease(
        self, number: int, path: str, granted: Granted, of: str, *, deadline_s: float = _ANSWER_S
    ) -> None:
        """Hand over a lease that was taken over a line: renewed from now on, revoked at the end.

        Args:
            number: The line's.
            path: Where it was made.
            granted: What was granted; it has a lease id.
            of: The event that granted it.
            deadline_s: Seconds to wait for the answer.

        Raises:
            PolicyError: It did not take it (guardian_unavailable).
        """
        if os.getpid() != self._pid:
            return
        assert granted.lease_id is not None
        message = {
            "do": "lease",
            "line": number,
            "id": granted.lease_id.reveal(),
            "digest": granted.id_digest,
            "path": path,
            "ttl_s": granted.ttl_s or 0,
            "renewable": granted.renewable,
            "of": of,
        }
        self._demand(self._send(message), "take a lease", deadline_s)

    def finish(self, *, deadline_s: float = _FINISH_S) -> GuardReport:
        """Have everything revoked and shredded now. May be called twice, and in a signal handler.

        Args:
            deadline_s: Seconds to wait for the answer.
        """
        if os.getpid() != self._pid:
            # The parent's leases are not a child's to end.
            return GuardReport(answered=False, is_alone=True)
        answer = self._answer(self._send({"do": "finish"}), deadline_s)
        if answer is None or "done" not in answer:
            status = self._process.poll()
            is_alone = status == 0 or (status is None and not self._has_line())
            return GuardReport(answered=False, is_alone=is_alone)
        return GuardReport(
            answered=True,
            shredded=tuple(Path(root) for root in answer["done"]),
            left=tuple(Path(root) for root in answer["left"]),
            revoked=tuple(answer["revoked"]),
            held=tuple(answer["held"]),
        )

    def bye(self, recorded: Collection[str] = (), *, deadline_s: float = _LEAVE_S) -> None:
        """Let it go, once the shredding stands in the trail: it need not say so.

        Args:
            recorded: Leases of whose end the same is true, as events name them.
            deadline_s: As in `leave`.
        """
        if os.getpid() != self._pid:
            return
        self._send({"do": "bye", "leases": list(recorded)})
        self.leave(deadline_s=deadline_s)

    def leave(self, *, deadline_s: float = _LEAVE_S) -> None:
        """Let it go without `bye`: it revokes and shreds what is left, and records that.

        Args:
            deadline_s: Seconds to wait for its end, or until it says that it goes on alone.
        """
        if os.getpid() != self._pid:
            return
        until = time.monotonic() + deadline_s
        goes_on = False
        if self._has_line():
            with suppress(OSError):
                # Not close alone: a child that the body forked may hold the line too.
                self._line.shutdown(socket.SHUT_WR)
                # Its end of the line closes with it: finer than the naps of Popen.wait.
                goes_on = self._answer(_GOES_ON, deadline_s) is not None
            self._line.close()
        else:
            # The number may be another file's by now, and is not ours to close.
            self._line.detach()
        if not goes_on:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=max(0.0, until - time.monotonic()))

    def _demand(self, number: int, action: str, deadline_s: float) -> None:
        answer = self._answer(number, deadline_s)
        if answer is None:
            raise _refusal(f"asked to {action}, it did not answer within {deadline_s:g} s")
        if not answer.get("ok"):
            raise _refusal(f"asked to {action}, it answered: {answer.get('error')}")

    def _send(self, message: Mapping[str, Any]) -> int:
        number, self._number = self._number, self._number + 1
        line = json.dumps({"n": number, **message}).encode() + b"\n"
        # A guardian that is gone is found out by its missing answer. No SIGPIPE: a body may have
        # set it back to killing the process.
        with suppress(OSError):
            if self._has_line():
                self._line.settimeout(_ANSWER_S)
                self._line.sendall(line, socket.MSG_NOSIGNAL)
        return number

    def _has_line(self) -> bool:
        """Whether the descriptor is still the line: code in this process may close any."""
        return _identity(self._line) == self._identity

    def _answer(self, number: int, deadline_s: float) -> dict[str, Any] | None:
        until = time.monotonic() + deadline_s
        while number not in self._answers and time.monotonic() < until and self._has_line():
            try:
                self._line.settimeout(_SLICE_S)
                received = self._line.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return None
            if not received:
                break
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["n"]] = answer
        return self._answers.pop(number, None)


def _identity(line: socket.socket) -> tuple[int, int] | None:
    try:
        found = os.fstat(line.fileno())
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _audit_line(audit: GuardianAudit) -> dict[str, Any]:
    return {
        "audit_dir": str(audit.audit_dir),
        "spare_dir": None if audit.spare_dir is None else str(audit.spare_dir),
        "hide": list(audit.hide),
        "airflow": audit.airflow,
        "collector": None if audit.collector is None else str(audit.collector),
        "push": None if audit.push is None else dict(audit.push),
    }


def _refusal(found: str) -> PolicyError:
    return PolicyError(
        f"the guardian process is not available: {found}. Nothing was opened; "
        "it must be able to run beside the task, with room for one process more",
        why="guardian_unavailable",
    )
