"""What somebody should hear about a connection: once a process, in the log and the trail.

The trail is written further up: whoever writes it asks to be told, and hears what was said before.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionWarning:
    """Something that needs a person; its fields are those of the event `alert.raise`.

    Attributes:
        about: What it is, in a few words.
        subject: The connection's id.
        because: What was found, and what to do.
    """

    about: str
    subject: str
    because: str


Tell = Callable[[ConnectionWarning], None]

_lock = threading.Lock()
_said: set[tuple[int, ConnectionWarning]] = set()
_untold: list[ConnectionWarning] = []
_tell: Tell | None = None


def _free_lock() -> None:
    """In a forked child: another thread of the parent may have held it, and is not here."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_free_lock)


def on_warning(tell: Tell | None) -> None:
    """Have every warning of this process told, those before included; None: to nobody."""
    global _tell
    with _lock:
        _tell = tell
    _pass_on()


def warn(warning: ConnectionWarning) -> None:
    """Log a warning and have it told, unless this process has done so."""
    with _lock:
        key = (os.getpid(), warning)
        if key in _said:
            return
        _said.add(key)
        _untold.append(warning)
    log.warning("connection %s: %s: %s", warning.subject, warning.about, warning.because)
    _pass_on()


def _pass_on() -> None:
    # Outside the lock: whoever is told may come back here.
    while True:
        with _lock:
            tell = _tell
            if tell is None or not _untold:
                return
            warning = _untold.pop(0)
        tell(warning)
