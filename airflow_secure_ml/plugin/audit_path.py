"""Draw the way from one event to the root that a checkpoint signs, as a tree of hashes.

Pure, and a picture only: which hash belongs where follows from the event's place and the tree's
size. Whether the hashes are right is for the check to say, here in the browser or elsewhere.

Source: RFC 9162, 2.1.3.1 (which siblings a path holds, the lowest first).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Pixels. A row holds one line of text beside the drawing.
ROW = 26
SPINE_X, SIDE = 34, 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """A hash of the path.

    Attributes:
        hash: Hex.
        side: `left` or `right` of the way up.
        covers: The events below it, in words.
        x: Where it is drawn, pixels.
        y: Likewise; it and the way's node of this row meet one row higher.
    """

    hash: str
    side: str
    covers: str
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The tree from its root, at the top, to the event.

    Attributes:
        siblings: The path, the highest first.
        height: Of the whole, pixels; root and event lie half a row from its ends.
    """

    siblings: tuple[Sibling, ...]
    height: int

    @property
    def root_y(self) -> int:
        """Where the root lies."""
        return ROW // 2

    @property
    def leaf_y(self) -> int:
        """Where the event's leaf lies: beside its sibling, or as the root of a tree of one."""
        return self.root_y + ROW * len(self.siblings)

    @property
    def event_y(self) -> int:
        """Where the event lies, whose bytes give the leaf."""
        return self.leaf_y + ROW


def drawing(index: int, size: int, path: Sequence[str]) -> Drawing:
    """Draw an audit path.

    Args:
        index: The event's place, from 0.
        size: How many events the tree has; more than `index`.
        path: The siblings' hashes, hex, the lowest first. One of another length, as a damaged
            store may hold, is drawn as far as it goes.
    """
    top_down = zip(_sides(index, size), reversed(path), strict=False)
    siblings = tuple(
        Sibling(
            hash=found,
            side=side,
            covers=_covers(start, stop),
            x=SPINE_X - SIDE if side == "left" else SPINE_X + SIDE,
            y=ROW // 2 + ROW * number,
        )
        for number, ((side, start, stop), found) in enumerate(top_down, start=1)
    )
    return Drawing(siblings=siblings, height=ROW * (len(siblings) + 2))


def _sides(index: int, size: int) -> Iterator[tuple[str, int, int]]:
    """Side, first event and end of each sibling on the way down from the root."""
    start, stop = 0, size
    while stop - start > 1:
        # RFC 9162, 2.1.1: the left part is the largest power of two that is less than all.
        middle = start + (1 << (stop - start - 1).bit_length() - 1)
        if index < middle:
            yield "right", middle, stop
            stop = middle
        else:
            yield "left", start, middle
            start = middle


def _covers(start: int, stop: int) -> str:
    return f"event {start:,}" if stop - start == 1 else f"events {start:,} to {stop - 1:,}"
