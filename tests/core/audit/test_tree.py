"""RFC 6962 hashes and proofs, held against the RFC's own recursive definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.tiles import build_tiles, node_reader
from airflow_secure_ml.core.audit.tree import (
    EMPTY_ROOT,
    Edge,
    check_consistency,
    consistency_proof,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_from_path,
    root_of,
)
from airflow_secure_ml.errors import AuditLogError, FormatError

LEAVES = [leaf_hash(bytes([n % 256, n // 256])) for n in range(700)]


def naive_root(hashes):
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return node_hash(naive_root(hashes[:half]), naive_root(hashes[half:]))


def naive_path(index, hashes):
    if len(hashes) == 1:
        return []
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    if index < half:
        return [*naive_path(index, hashes[:half]), naive_root(hashes[half:])]
    return [*naive_path(index - half, hashes[half:]), naive_root(hashes[:half])]


def node(level, n):
    return naive_root(LEAVES[n << level : (n + 1) << level])


def test_the_rfc_s_prefixes_tell_a_leaf_from_a_node():
    assert leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


@given(st.integers(0, 700), st.integers(0, 700))
def test_a_root_is_the_same_however_the_leaves_arrived(cut, size):
    cut = min(cut, size)

    edge = Edge().append(LEAVES[:cut]).append(LEAVES[cut:size])

    assert edge.root() == naive_root(LEAVES[:size]) == root_of(LEAVES[:size])
    assert Edge.from_bytes(size, edge.to_bytes()) == edge == Edge.read(size, node)


@given(st.integers(1, 300), st.data())
def test_a_path_leads_to_the_root(size, data):
    index = data.draw(st.integers(0, size - 1))

    path = inclusion_path(index, size, node)

    assert list(path) == naive_path(index, LEAVES[:size])
    assert root_from_path(index, size, LEAVES[index], path) == naive_root(LEAVES[:size])


@given(st.integers(2, 200), st.data())
def test_a_path_of_another_leaf_place_or_size_does_not_lead_there(size, data):
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
    path = inclusion_path(index, size, node)
    root = naive_root(LEAVES[:size])

    assert leads(index, size, LEAVES[other], path) != root
    assert leads(other, size, LEAVES[index], path) != root
    assert leads(index, size, LEAVES[index], path[:-1]) != root
    assert leads(index, size, LEAVES[index], [*path, LEAVES[0]]) != root


def leads(index, size, leaf, path):
    try:
        return root_from_path(index, size, leaf, path)
    except AuditLogError:
        return None


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_grown_log_proves_that_it_grew(first, second):
    old, new = sorted((first, second))
    roots = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])

    proof = consistency_proof(old, new, node)

    check_consistency(old, roots[0], new, roots[1], proof)


@given(st.integers(1, 200), st.integers(1, 200), st.data())
def test_another_history_never_proves_that_it_grew(first, second, data):
    old, new = sorted((first, second))
    changed = data.draw(st.integers(0, old - 1))
    forged = [*LEAVES[:changed], leaf_hash(b"forged"), *LEAVES[changed + 1 : new]]
    proof = consistency_proof(
        old, new, lambda level, n: naive_root(forged[n << level :][: 1 << level])
    )

    with pytest.raises(AuditLogError):
        check_consistency(old, naive_root(LEAVES[:old]), new, naive_root(forged), proof)


def test_a_log_that_became_smaller_is_named():
    with pytest.raises(AuditLogError, match="5 leaves, a checkpoint over 9 exists"):
        check_consistency(9, root_of(LEAVES[:9]), 5, root_of(LEAVES[:5]), ())


def test_an_edge_that_does_not_fit_its_size_is_refused():
    with pytest.raises(FormatError, match="2 subtrees"):
        Edge(size=4, nodes=(LEAVES[0], LEAVES[1]))


def test_proofs_read_tiles_and_the_leaves_beyond_them():
    size = 256 * 258 + 7
    hashes = [leaf_hash(n.to_bytes(4, "big")) for n in range(size)]
    tiles = {}

    def tile(level, n):
        return tiles.get((level, n))

    for start in range(0, size, 5000):
        batch = hashes[start : start + 5000]
        built = build_tiles(start, batch, lambda a, b: hashes[a:b], tile)
        tiles.update(built)
    read_leaves = []

    def leaf_hashes(start, stop):
        read_leaves.append(stop - start)
        return hashes[start:stop]

    read = node_reader(leaf_hashes, tile)
    root = root_of(hashes)

    assert sorted(tiles)[-1] == (1, 0)
    assert len(tiles) == 259
    assert Edge.read(size, read).root() == root
    for index in (0, 255, 256, 65535, 65536, 65900, size - 1):
        path = inclusion_path(index, size, read)
        assert root_from_path(index, size, hashes[index], path) == root
    proof = consistency_proof(70, size, read)
    check_consistency(70, root_of(hashes[:70]), size, root, proof)
    # Only the leaves of the last, unfinished tile were read one by one.
    assert max(read_leaves) <= 4
