"""A log cut into the files of tlog-tiles: paths and sizes are those of the specification."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit.tlog_files import (
    TileCutter,
    encode_bundle,
    entries_path,
    tile_path,
)
from airflow_secure_ml.core.audit.tree import leaf_hash, root_of
from airflow_secure_ml.errors import AuditLogError


@pytest.mark.parametrize(
    ("n", "width", "path"),
    [
        (0, 256, "000"),
        (67, 8, "067.p/8"),
        (1234067, 256, "x001/x234/067"),
        (1000, 1, "x001/000.p/1"),
        (999, 255, "999.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(n, width, path):
    assert tile_path(2, n, width) == f"tile/2/{path}"
    assert entries_path(n, width) == f"tile/entries/{path}"


def test_a_bundle_is_entries_after_their_lengths():
    assert encode_bundle([b"a", b"", b"x" * 258]) == b"\x00\x01a\x00\x00\x01\x02" + b"x" * 258


def test_an_entry_that_no_length_fits_is_refused():
    with pytest.raises(AuditLogError, match="65535"):
        encode_bundle([b"x" * 65536])


def _files(size):
    cutter = TileCutter()
    made = [file for n in range(size) for file in cutter.add(n.to_bytes(4, "big"))]
    return cutter, dict([*made, *cutter.finish()])


def test_seventy_thousand_leaves_make_the_tiles_of_the_specifications_example():
    _, files = _files(70_000)

    level = lambda n: [path for path in files if path.startswith(f"tile/{n}/")]  # noqa: E731 - a table
    assert len(level(0)) == 274
    assert len(files["tile/0/273.p/112"]) == 112 * 32
    assert level(1) == ["tile/1/000", "tile/1/001.p/17"]
    assert level(2) == ["tile/2/000.p/1"]
    assert len(files["tile/entries/273.p/112"]) == 112 * 6


def test_a_log_of_one_full_tile_has_a_partial_one_above_it():
    _, files = _files(256)

    assert sorted(files) == ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_the_root_is_that_of_the_leaves(size):
    cutter, files = _files(size)

    hashes = [leaf_hash(n.to_bytes(4, "big")) for n in range(size)]
    assert cutter.edge.root() == root_of(hashes)
    tiles = [files[path] for path in files if path.startswith("tile/0/")]
    assert b"".join(tiles) == b"".join(hashes)
