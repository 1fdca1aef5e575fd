"""A progress bar on a terminal, for work that takes longer than a person waits gladly."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_PATIENCE_S = 2.0
_STEP_S = 0.2
_WIDTH = 24


class Progress:
    """Draws on standard error once `_PATIENCE_S` have passed; nothing where nobody watches.

    Args:
        total_bytes: All there is to do; None: unknown.
        stream: Where it is drawn.
        clock: Seconds.
        in_words: How an amount is written, where it is not of bytes.
    """

    def __init__(
        self,
        total_bytes: int | None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        in_words: Callable[[float], str] | None = None,
    ) -> None:
        self._total = total_bytes
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._in_words = in_words or _size
        self._began = clock()
        self._next = self._began + _PATIENCE_S
        self._drawn = False
        self._watched = self._stream.isatty()

    def __call__(self, done_bytes: int) -> None:
        """Take note of how much is done."""
        if not self._watched or (now := self._clock()) < self._next:
            return
        self._next = now + _STEP_S
        self._drawn = True
        rate = done_bytes / (now - self._began)
        text = f"{self._in_words(done_bytes)}  {self._in_words(rate)}/s"
        if self._total:
            part = min(1.0, done_bytes / self._total)
            bar = "#" * round(part * _WIDTH)
            text = f"[{bar:<{_WIDTH}}] {part:4.0%}  {text}"
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
