"""Connections that end after a set time, whatever the other end does.

A time-out of a socket bounds each wait alone: who sends a byte now and then would be waited for
for hours.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_after(deadline_s: float, line: socket.socket) -> Iterator[None]:
    """Shut a connection down, both ways, unless the block ends before.

    Raises:
        OSError: There is no descriptor for it.
        RuntimeError: There is no thread for its clock.
    """
    # A second descriptor: TLS takes the first one, and the reading thread sees the end of both.
    with line.dup() as other:
        timer = threading.Timer(deadline_s, _end, [other])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _end(other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
