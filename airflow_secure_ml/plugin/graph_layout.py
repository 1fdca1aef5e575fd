"""Place boxes in columns from left to right, and draw arrows between them that cross little.

Pure and deterministic: one graph gives one picture. Longest path, order by barycentres, then places
by least squares; what leads backwards is drawn backwards.

Source: Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
Structures", 1981; Kruskal's pooling of adjacent violators for the places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

COLUMN_GAP = 34
ROW_GAP = 12
MARGIN = 6
SWEEPS = 8
# An arrow that passes a column keeps so much room there.
PASSING = 4.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What is to be placed; lengths in pixels."""

    key: str
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A box's upper left corner."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A graph on paper.

    Attributes:
        placed: Where each box is.
        paths: The `d` of each arrow's path, in the order of the arrows.
        width: In pixels.
        height: In pixels.
    """

    placed: Mapping[str, Placed]
    paths: tuple[str, ...]
    width: float
    height: float


@dataclass(slots=True)
class _Grid:
    """Boxes and passing arrows in their columns."""

    columns: list[list[str]]
    sizes: dict[str, tuple[float, float]]
    before: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)

    def join(self, source: str, target: str) -> None:
        self.after.setdefault(source, []).append(target)
        self.before.setdefault(target, []).append(source)


def lay_out(boxes: Sequence[Box], arrows: Sequence[tuple[str, str]]) -> Layout:
    """Place boxes.

    Args:
        boxes: What to place; the order breaks ties.
        arrows: (source, target) by key; both are among the boxes, and differ.
    """
    keys = [box.key for box in boxes]
    backward = _backward(keys, arrows)
    forward = [pair[::-1] if pair in backward else pair for pair in arrows]
    ranks = _ranks(keys, forward)
    grid = _Grid(
        columns=[[] for _ in range(max(ranks.values(), default=-1) + 1)],
        sizes={box.key: (box.width, box.height) for box in boxes},
    )
    for key in keys:
        grid.columns[ranks[key]].append(key)
    chains = [_chain(grid, ranks, at, *pair) for at, pair in enumerate(forward)]
    _order(grid)
    lefts, widths = _lefts(grid)
    centres = _centres(grid)
    paths = []
    for pair, chain in zip(arrows, chains, strict=True):
        points = _points(chain, grid, lefts, widths, centres, ranks)
        paths.append(_path(points[::-1] if pair in backward else points))
    placed = {
        key: Placed(x=lefts[ranks[key]], y=round(centres[key] - grid.sizes[key][1] / 2, 1))
        for key in keys
    }
    bottom = max((placed[box.key].y + box.height for box in boxes), default=0.0)
    right = max((placed[box.key].x + box.width for box in boxes), default=0.0)
    return Layout(
        placed=placed, paths=tuple(paths), width=right + MARGIN, height=round(bottom + MARGIN, 1)
    )


def _backward(keys: Sequence[str], arrows: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that close a circle."""
    targets: dict[str, list[str]] = {}
    for source, target in arrows:
        targets.setdefault(source, []).append(target)
    found: set[tuple[str, str]] = set()
    done: set[str] = set()
    for start in keys:
        if start in done:
            continue
        # Not a recursion: a chain may be longer than the stack is deep.
        open_nodes, stack = {start}, [(start, iter(targets.get(start, ())))]
        while stack:
            node, rest = stack[-1]
            onward = next(rest, None)
            if onward is None:
                stack.pop()
                open_nodes.discard(node)
                done.add(node)
            elif onward in open_nodes:
                found.add((node, onward))
            elif onward not in done:
                open_nodes.add(onward)
                stack.append((onward, iter(targets.get(onward, ()))))
    return found


def _ranks(keys: Sequence[str], arrows: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each box: right of all that leads to it, and no farther left than need be."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for source, target in arrows:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    waiting = {key: len(before.get(key, ())) for key in keys}
    ready = [key for key in keys if not waiting[key]]
    ranks: dict[str, int] = {}
    for key in ready:
        ranks[key] = max((ranks[one] + 1 for one in before.get(key, ())), default=0)
        for target in after.get(key, ()):
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for key in reversed(ready):
        if after.get(key) and not before.get(key):
            ranks[key] = min(ranks[target] for target in after[key]) - 1
    return ranks


def _chain(grid: _Grid, ranks: Mapping[str, int], at: int, source: str, target: str) -> list[str]:
    """An arrow's stations: its ends, and one in every column that it passes."""
    chain = [source]
    for rank in range(ranks[source] + 1, ranks[target]):
        # No box has such a key: boxes' keys hold no line feed first.
        station = f"\n{at}/{rank}"
        grid.sizes[station] = (0.0, PASSING)
        grid.columns[rank].append(station)
        chain.append(station)
    chain.append(target)
    for left, right in itertools.pairwise(chain):
        grid.join(left, right)
    return chain


def _order(grid: _Grid) -> None:
    """Order each column by the middle of what its boxes are joined to."""
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        columns = grid.columns if forth else grid.columns[::-1]
        near = grid.before if forth else grid.after
        places: dict[str, float] = {}
        for column in columns:
            own = {key: float(at) for at, key in enumerate(column)}
            column.sort(key=lambda key: _mean(_known(near.get(key, ()), places), own[key]))
            middle = (len(column) - 1) / 2
            places |= {key: at - middle for at, key in enumerate(column)}


def _known(keys: Iterable[str], places: Mapping[str, float]) -> list[float]:
    return [places[key] for key in keys if key in places]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _lefts(grid: _Grid) -> tuple[list[float], list[float]]:
    widths = [max((grid.sizes[key][0] for key in column), default=0) for column in grid.columns]
    lefts, at = [], float(MARGIN)
    for width in widths:
        lefts.append(at)
        at += width + COLUMN_GAP
    return lefts, widths


def _centres(grid: _Grid) -> dict[str, float]:
    """Where each box's middle is: near those it is joined to, never on another."""
    centres: dict[str, float] = {}
    for column in grid.columns:
        centres |= _apart(column, [0.0] * len(column), grid)
    for sweep in range(SWEEPS):
        columns = grid.columns if sweep % 2 == 0 else grid.columns[::-1]
        for column in columns:
            wanted = [
                _mean(
                    _known((*grid.before.get(key, ()), *grid.after.get(key, ())), centres),
                    centres[key],
                )
                for key in column
            ]
            centres |= _apart(column, wanted, grid)
    tops = [centres[key] - grid.sizes[key][1] / 2 for key in centres]
    shift = MARGIN - min(tops, default=0.0)
    return {key: round(centre + shift, 1) for key, centre in centres.items()}


def _apart(column: Sequence[str], wanted: Sequence[float], grid: _Grid) -> dict[str, float]:
    """The middles nearest to those wanted that keep boxes apart, in the column's order."""
    heights = [grid.sizes[key][1] for key in column]
    steps = [(above + below) / 2 + ROW_GAP for above, below in itertools.pairwise(heights)]
    offsets = list(itertools.accumulate(steps, initial=0.0))[: len(column)]
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        total, count = place - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, number = pools.pop()
            total, count = total + more, count + number
        pools.append((total, count))
    bases = [total / count for total, count in pools for _ in range(count)]
    return {key: base + offset for key, base, offset in zip(column, bases, offsets, strict=True)}


def _points(
    chain: Sequence[str],
    grid: _Grid,
    lefts: Sequence[float],
    widths: Sequence[float],
    centres: Mapping[str, float],
    ranks: Mapping[str, int],
) -> list[Point]:
    """The points that an arrow goes through, two for every column in between."""
    first, last = ranks[chain[0]], ranks[chain[-1]]
    points = [(lefts[first] + grid.sizes[chain[0]][0], centres[chain[0]])]
    for rank, station in enumerate(chain[1:-1], first + 1):
        points.append((lefts[rank], centres[station]))
        points.append((lefts[rank] + widths[rank], centres[station]))
    points.append((lefts[last], centres[chain[-1]]))
    return points


def _path(points: Sequence[Point]) -> str:
    """Curves between columns, straight lines through them."""
    (x, y), rest = points[0], points[1:]
    parts = [f"M{x:g} {y:g}"]
    for at, (to_x, to_y) in enumerate(rest):
        middle = (x + to_x) / 2
        if at % 2 == 0:
            parts.append(f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}")
        else:
            parts.append(f"L{to_x:g} {to_y:g}")
        x, y = to_x, to_y
    return "".join(parts)
