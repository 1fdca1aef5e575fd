"""Say what is being done and for how long: one line that is rewritten on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Without a terminal, a line now and then shows that it is alive.
QUIET_S = 15.0
REWRITE_S = 0.2


class Progress:
    """Where the demo says what it does.

    Args:
        out: Standard output.
    """

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._began_s = self._said_s = time.monotonic()
        self._doing = ""
        self._width = 0

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Something that takes a while; its line stays, with the seconds that it took."""
        self._doing, self._began_s = doing, time.monotonic()
        self._said_s = self._began_s if self._is_terminal else 0.0
        self.tick("")
        try:
            yield
        except BaseException:
            self._line(f"{doing} …", end="\n")
            raise
        self._line(f"{doing}: {time.monotonic() - self._began_s:.0f} s", end="\n")

    def tick(self, detail: str) -> None:
        """It goes on; `detail` is what it waits for."""
        now = time.monotonic()
        if now - self._said_s < (REWRITE_S if self._is_terminal else QUIET_S):
            return
        self._said_s = now
        shown = f" ({detail})" if detail else ""
        text = f"{self._doing} … {now - self._began_s:.0f} s{shown}"
        self._line(text, end="" if self._is_terminal else "\n")

    def _line(self, text: str, *, end: str) -> None:
        if self._is_terminal:
            text = text[:110]
            padded = text.ljust(self._width)
            self._width = 0 if end else len(text)
            self._out.write(f"\r{padded}{end}")
        else:
            self._out.write(f"{text}{end}")
        self._out.flush()
