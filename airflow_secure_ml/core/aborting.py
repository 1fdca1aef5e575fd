"""What every writer does alike: leaving its block without a commit aborts."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Aborting:
    """A context manager over its own `abort`, which does nothing after a commit."""

    __slots__ = ()

    def abort(self) -> None:
        """Throw away what was not committed."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()
