"""Several sources of segments as one, such as a spool and an inbox.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from airflow_secure_ml.core.audit.ports import Segment, SegmentSource


class Source(Protocol):
    """Where segments appear, as `core.audit.ports.SegmentSource` says."""

    def scan(self) -> Sequence[Segment]:
        """Every segment, by emitter and part."""

    def read(self, token: str, at: int, length: int) -> bytes:
        """Up to `length` bytes of a segment from `at`."""

    def remove(self, tokens: Collection[str]) -> None:
        """Let go of segments that are whole in the log, durably."""


class JoinedSegments:
    """A SegmentSource over others; refused bytes are kept by the first.

    Args:
        first: One that keeps what is refused.
        others: More of them.
    """

    def __init__(self, first: SegmentSource, *others: Source) -> None:
        self._first = first
        self._sources: tuple[Source, ...] = (first, *others)

    def scan(self) -> Sequence[Segment]:
        """Every segment of every source, by emitter and part."""
        found = [
            replace(segment, token=f"{number}/{segment.token}")
            for number, source in enumerate(self._sources)
            for segment in source.scan()
        ]
        return sorted(found, key=lambda segment: (segment.emitter, segment.part, segment.token))

    def read(self, token: str, at: int, length: int) -> bytes:
        """Up to `length` bytes of a segment from `at`."""
        number, _, own = token.partition("/")
        return self._sources[int(number)].read(own, at, length)

    def remove(self, tokens: Collection[str]) -> None:
        """Let each source let go of its own."""
        for number, source in enumerate(self._sources):
            prefix = f"{number}/"
            own = [token.removeprefix(prefix) for token in tokens if token.startswith(prefix)]
            if own:
                source.remove(own)

    def keep_refused(self, leaf_hash: str, data: bytes) -> bool:
        """Keep refused bytes for inspection; False: there is no room for them."""
        return self._first.keep_refused(leaf_hash, data)
