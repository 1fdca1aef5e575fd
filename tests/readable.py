"""Wait for a stream of another process, whatever its descriptor's number."""

from __future__ import annotations

import select
from typing import Any


def is_readable(stream: Any, timeout_s: float) -> bool:
    """Whether something can be read within the time; select.select ends at descriptor 1023."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(1000 * max(0.0, timeout_s)))
