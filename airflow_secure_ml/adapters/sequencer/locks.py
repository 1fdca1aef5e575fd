"""Ask who holds a POSIX record lock, without taking it.

Taking the lock to see whether it is free would make its owner's own attempt fail.

Source: fcntl(2), F_GETLK, as on 64-bit Linux.
"""

from __future__ import annotations

import fcntl
import os
import struct

# l_type[2] l_whence[2] pad[4] l_start[8] l_len[8] l_pid[4] pad[4]; the compiler's own alignment.
_FLOCK = struct.Struct("@hhqqi0q")


def lock_holder(descriptor: int) -> int | None:
    """Process id of whoever keeps this process from locking a file; None: nobody does.

    A lock of this very process does not count, and 0 stands for a process of another container
    or for a lock that belongs to no process.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(int(pid), 0)
