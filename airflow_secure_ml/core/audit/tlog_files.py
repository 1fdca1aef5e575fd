"""Cut a log into the files that tlog-tiles serves: tiles, entry bundles, each with its path.

Everything is derived from the leaves; a log of any length passes through in order, and what is held
is one open tile a level.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from airflow_secure_ml.core.audit.tiles import TILE_WIDTH, tile_root
from airflow_secure_ml.core.audit.tree import Edge, leaf_hash
from airflow_secure_ml.errors import AuditLogError

CHECKPOINT_FILE = "checkpoint"
# Two bytes of length before each entry.
MAX_ENTRY_BYTES = 0xFFFF

# (path, its bytes)
NamedFile = tuple[str, bytes]


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """Where the tile (level, n) of so many hashes lies, such as `tile/0/x001/x234/067.p/8`."""
    return f"tile/{level}/{_numbered(n, width)}"


def entries_path(n: int, width: int = TILE_WIDTH) -> str:
    """Where the bundle of the leaves from 256·n on lies."""
    return f"tile/entries/{_numbered(n, width)}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Bundle leaves: each after its length, 2 bytes, big endian.

    Raises:
        AuditLogError: A leaf is longer than 65535 bytes: no event is.
    """
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise AuditLogError(f"audit log: a leaf of more than {MAX_ENTRY_BYTES} bytes is no event")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


@dataclass(slots=True)
class TileCutter:
    """Takes a log's leaves in order and gives the files that they fill.

    Attributes:
        edge: The tree so far, up to the last file given.
    """

    edge: Edge = field(default_factory=Edge)
    _entries: list[bytes] = field(default_factory=list)
    _open: list[list[bytes]] = field(default_factory=lambda: [[]])
    _done: list[int] = field(default_factory=lambda: [0])

    @property
    def size(self) -> int:
        """How many leaves were taken."""
        return self.edge.size + len(self._entries)

    def add(self, leaf: bytes) -> Iterator[NamedFile]:
        """Take a leaf; the files that are full with it, lower levels first."""
        self._entries.append(leaf)
        if len(self._entries) < TILE_WIDTH:
            return
        yield self._bundle()
        for level in range(len(self._open)):
            if len(self._open[level]) < TILE_WIDTH:
                return
            tile = b"".join(self._open[level])
            yield tile_path(level, self._done[level]), tile
            self._done[level] += 1
            self._open[level] = []
            if level + 1 == len(self._open):
                self._open.append([])
                self._done.append(0)
            self._open[level + 1].append(tile_root(tile))

    def finish(self) -> Iterator[NamedFile]:
        """The partial files at the log's end; nothing is added afterwards."""
        if self._entries:
            yield self._bundle()
        for level, hashes in enumerate(self._open):
            if hashes:
                yield tile_path(level, self._done[level], len(hashes)), b"".join(hashes)

    def _bundle(self) -> NamedFile:
        hashes = [leaf_hash(entry) for entry in self._entries]
        path = entries_path(self.edge.size // TILE_WIDTH, len(hashes))
        bundle = encode_bundle(self._entries)
        self.edge = self.edge.append(hashes)
        self._open[0] += hashes
        self._entries = []
        return path, bundle


def _numbered(n: int, width: int) -> str:
    digits = f"{n:03d}"
    # Three digits a path element, and an `x` before all but the last.
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    whole = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return whole if width == TILE_WIDTH else f"{whole}.p/{width}"
