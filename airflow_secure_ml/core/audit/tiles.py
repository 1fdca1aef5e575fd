"""Cut a log's hashes into full tiles, 256 hashes wide, and find a node by them.

Tile (level, n) holds the hashes of 256 neighbouring subtrees of 256^level leaves each. Partial
tiles are not kept: what they would hold follows from the leaves and the tiles below.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from airflow_secure_ml.core.audit.tree import HASH_BYTES, NodeReader, node_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError

TILE_WIDTH = 256
TILE_HEIGHT = 8
TILE_BYTES = TILE_WIDTH * HASH_BYTES

# (level, n) → the full tile's 8192 bytes; None: there is none.
TileReader = Callable[[int, int], bytes | None]
# (start, stop) → leaf hashes of indices start … stop-1.
HashesReader = Callable[[int, int], Sequence[bytes]]


def full_tiles(old: int, new: int) -> Iterator[tuple[int, int]]:
    """(level, n) of each tile that becomes full as a log grows, lower levels first.

    Args:
        old: Number of leaves before.
        new: Number of leaves after.
    """
    level, width = 0, TILE_WIDTH
    while new >= width:
        for n in range(old // width, new // width):
            yield level, n
        level, width = level + 1, width * TILE_WIDTH


def tile_root(tile: bytes) -> bytes:
    """The root over a full tile's 256 hashes.

    Raises:
        AuditLogError: The tile is not full.
    """
    if len(tile) != TILE_BYTES:
        raise AuditLogError(f"log tile: {len(tile)} bytes, a full one has {TILE_BYTES}")
    return _root_within([tile[at : at + HASH_BYTES] for at in range(0, TILE_BYTES, HASH_BYTES)])


def build_tiles(
    old: int, hashes: Sequence[bytes], leaf_hashes: HashesReader, tile: TileReader
) -> Mapping[tuple[int, int], bytes]:
    """The tiles that become full when leaf hashes are appended.

    Args:
        old: Number of leaves before.
        hashes: The new leaf hashes, oldest first.
        leaf_hashes: Reads older leaf hashes.
        tile: Reads older tiles.

    Returns:
        (level, n) → 8192 bytes.

    Raises:
        AuditLogError: A tile or a hash below is missing.
    """
    built: dict[tuple[int, int], bytes] = {}

    def known(level: int, n: int) -> bytes:
        found = built.get((level, n)) or tile(level, n)
        if found is None:
            raise AuditLogError(f"log tile {level}/{n} is missing", index=n * TILE_WIDTH)
        return found

    for level, n in full_tiles(old, old + len(hashes)):
        first = n * TILE_WIDTH
        if level:
            parts = [tile_root(known(level - 1, first + k)) for k in range(TILE_WIDTH)]
        else:
            before = list(leaf_hashes(first, old)) if first < old else []
            start = max(first - old, 0)
            parts = before + list(hashes[start : start + TILE_WIDTH - len(before)])
        built[level, n] = b"".join(parts)
    return built


def node_reader(leaf_hashes: HashesReader, tile: TileReader) -> NodeReader:
    """Read any full subtree's hash from tiles, and from leaves where no tile is full yet."""

    def node(level: int, n: int) -> bytes:
        tile_level, within = divmod(level, TILE_HEIGHT)
        # A subtree as high as a tile is one hash of the tile above, or the root of its own.
        if within == 0 and tile_level:
            own = tile(tile_level - 1, n)
            return tile_root(own) if own is not None else _join(node, level, n)
        first, count = n << within, 1 << within
        found = tile(tile_level, first // TILE_WIDTH)
        if found is None:
            return _unfinished(node, leaf_hashes, level, n)
        at = (first % TILE_WIDTH) * HASH_BYTES
        steps = range(at, at + count * HASH_BYTES, HASH_BYTES)
        return _root_within([found[step : step + HASH_BYTES] for step in steps])

    return node


def _unfinished(node: NodeReader, leaf_hashes: HashesReader, level: int, n: int) -> bytes:
    if level >= TILE_HEIGHT:
        return _join(node, level, n)
    first, count = n << level, 1 << level
    hashes = leaf_hashes(first, first + count)
    if len(hashes) != count:
        raise AuditLogError(
            f"log: {len(hashes)} leaf hashes from {first}, expected {count}",
            index=first + len(hashes),
        )
    return _root_within(hashes)


def _join(node: NodeReader, level: int, n: int) -> bytes:
    return node_hash(node(level - 1, 2 * n), node(level - 1, 2 * n + 1))


def _root_within(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def hashes_in(tile: Callable[[int], bytes | None], start: int, stop: int) -> Iterator[bytes]:
    """Leaf hashes of indices start … stop-1 out of full tiles of level 0; ends where one is not."""
    for n in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
        found, first = tile(n) or b"", n * TILE_WIDTH
        if len(found) != TILE_BYTES:
            return
        for at in range(max(start - first, 0), min(stop - first, TILE_WIDTH)):
            yield found[at * HASH_BYTES :][:HASH_BYTES]


def prune_steps(first: int, below: int) -> Iterator[int]:
    """Where each part of a pruning ends, of at most 256 tiles; leaves `first` … `below`-1 go.

    Args:
        first: The first leaf whose bytes are there.
        below: The first leaf that is to keep them.

    Raises:
        ConfigurationError: `below` is no multiple of 256.
    """
    if below % TILE_WIDTH:
        raise ConfigurationError(
            f"prune below {below}: expected a multiple of {TILE_WIDTH}, since only full tiles keep "
            "the hashes of leaves that are gone"
        )
    part = TILE_WIDTH * TILE_WIDTH
    yield from range(first + part, below, part)
    if first < below:
        yield below
