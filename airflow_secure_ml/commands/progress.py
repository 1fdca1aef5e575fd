"""A progress bar on a terminal, for work that takes longer than a person waits gladly.

Where nobody watches, long work on many files says a line now and then, for whoever reads the log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

_PATIENCE_S = 2.0
_STEP_S = 0.2
_LINE_S = 60.0
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


class Counted(Protocol):
    """How much there is to do; known once work has begun."""

    @property
    def files(self) -> int:
        """Number of files."""

    @property
    def size_bytes(self) -> int:
        """Length of all of them."""


class TreeProgress:
    """How far work on many files is: a line that is drawn anew, or one a minute into a log.

    Args:
        word: What is done to them, as `sealed`.
        is_quiet: Whether nothing is said, terminal or not.
        stream: Where it is drawn.
        clock: Seconds.
    """

    def __init__(
        self,
        word: str,
        *,
        is_quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._word, self._is_quiet = word, is_quiet
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._watched = self._stream.isatty()
        self._next = self._began + (_PATIENCE_S if self._watched else _LINE_S)
        self._drawn = False
        self._all: Counted | None = None

    def watch(self, counted: Counted) -> None:
        """Say from now on of how much it is."""
        self._all = counted

    def __call__(self, files: int, done_bytes: int) -> None:
        """Take note of how much is done."""
        if self._is_quiet or (now := self._clock()) < self._next:
            return
        self._next = now + (_STEP_S if self._watched else _LINE_S)
        text = self._text(files, done_bytes, now - self._began)
        self._drawn = self._watched
        self._stream.write(f"\r{text}\x1b[K" if self._watched else f"{text}\n")
        self._stream.flush()

    def _text(self, files: int, done_bytes: int, took_s: float) -> str:
        rate = done_bytes / took_s
        total = 0 if self._all is None else self._all.size_bytes
        if self._all is None or not total:
            return f"{self._word} {files} files  {_size(done_bytes)}  {_size(rate)}/s"
        text = (
            f"{self._word} {files} of {self._all.files} files  {_size(done_bytes)} of "
            f"{_size(total)}  {_size(rate)}/s"
        )
        if rate:
            text += f"  {_span(max(0, total - done_bytes) / rate)} left"
        if not self._watched:
            return text
        bar = "#" * round(min(1.0, done_bytes / total) * _WIDTH)
        return f"[{bar:<{_WIDTH}}] {text}"

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


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
