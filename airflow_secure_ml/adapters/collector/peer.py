"""Who is at the other end of a connection, from the kernel: user, process, and when it began.

Source: unix(7), SO_PEERCRED and SCM_CREDENTIALS; proc_pid_stat(5), field 22.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from dataclasses import dataclass
from typing import Final

from airflow_secure_ml.adapters.collector.door import PEER
from airflow_secure_ml.core.audit.receiving import Sender

# Not in module socket before Python 3.14; from Linux 6.5 on.
_SO_PEERPIDFD: Final = 77
_CREDENTIALS: Final = socket.CMSG_SPACE(PEER.size)
_START_FIELD: Final = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A process, held on to so that its id is nobody else's for as long as it matters.

    Attributes:
        sender: Who it is.
        pidfd: Readable once it has ended.
    """

    sender: Sender
    pidfd: int


def peer_of(line: socket.socket, boot: str) -> Peer:
    """Tell who connected.

    Raises:
        OSError: It has ended, or this process cannot see it (another pid namespace, or a /proc
            that hides other users' processes).
    """
    pid, uid, _ = PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if pid <= 0:
        raise OSError(
            errno.ESRCH, f"a process of uid {uid} that is not seen from here; share its pid space"
        )
    pidfd = _pidfd(line, pid)
    try:
        start = _start(pid)
        # Not ended by now: what /proc said was said of this process.
        if has_ended(pidfd):
            raise OSError(errno.ESRCH, f"process {pid} of uid {uid} has ended")
    except BaseException:
        os.close(pidfd)
        raise
    return Peer(sender=Sender(pid=pid, uid=uid, start=start, boot=boot), pidfd=pidfd)


def has_ended(pidfd: int) -> bool:
    """Whether a process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def receive(line: socket.socket, count: int) -> tuple[bytes, tuple[int, int] | None]:
    """Take up to `count` bytes that one process wrote.

    Returns:
        The bytes, empty at the end; and pid and uid of who wrote them, None where the kernel did
        not say.
    """
    # No room for descriptors: what somebody passes along is closed by the kernel.
    data, ancillary, _, _ = line.recvmsg(count, _CREDENTIALS)
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid, uid, _ = PEER.unpack(value[: PEER.size])
            return data, (pid, uid)
    return data, None


def _pidfd(line: socket.socket, pid: int) -> int:
    try:
        return line.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return os.pidfd_open(pid)


def _start(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name in parentheses may hold anything; what follows its last one is numbers.
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[_START_FIELD - 3])
