"""Pair points in time with the spans that may hold them, as many as can be paired.

Pure. Of equal choices a point goes to the span that began last: an act is recorded right after what
it did, so what is left over is what nobody recorded.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Times, ms, both ends included, and how many points it takes."""

    from_ms: int
    to_ms: int
    takes: int


def paired(points: Sequence[int], spans: Sequence[Span]) -> list[int | None]:
    """For each point the index of its span; None: none is left for it.

    Greedy from the latest point on, which pairs the greatest number: spans are intervals.
    """
    found: list[int | None] = [None] * len(points)
    left = [span.takes for span in spans]
    waiting = sorted(range(len(spans)), key=lambda i: spans[i].to_ms)
    open_now: list[tuple[int, int, int]] = []
    for at in sorted(range(len(points)), key=lambda i: -points[i]):
        time_ms = points[at]
        while waiting and spans[waiting[-1]].to_ms >= time_ms:
            index = waiting.pop()
            if left[index] > 0:
                span = spans[index]
                heapq.heappush(open_now, (-span.from_ms, span.to_ms, index))
        # Points only get earlier: a span that begins after this one holds none that is left.
        while open_now and -open_now[0][0] > time_ms:
            heapq.heappop(open_now)
        if open_now:
            index = open_now[0][2]
            found[at] = index
            left[index] -= 1
            if not left[index]:
                heapq.heappop(open_now)
    return found
