from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.digest_memory import Memory, decode_memory, encode_memory
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "digest_memory"
IDENTITY = (2049, 131, 100, 1_700_000_000_000_000_001, 1_700_000_000_000_000_002, 0o100644)


def entry(path, core_id=None):
    digest = Digest(algorithm="sha256", hex="ab" * 32)
    return Entry(path=path, size_bytes=7, digest=digest, core_id=core_id)


MEMORY = Memory(
    uri="file:///data/m%20odel",
    boot_id=bytes(range(16)),
    algorithm="sha256",
    files={
        "a.csv": (IDENTITY, entry("a.csv")),
        "deep/größe": (IDENTITY, entry("deep/größe", "cd" * 32)),
    },
)


def test_the_vector_is_read_and_written_as_it_is():
    data = (VECTORS / "two_files.digests").read_bytes()

    assert decode_memory(data) == MEMORY
    assert encode_memory(MEMORY) == data


def test_a_memory_of_nothing_comes_back():
    empty = Memory(uri="file:///", boot_id=bytes(16), algorithm="blake3", files={})

    assert decode_memory(encode_memory(empty)) == empty


_PATHS = st.lists(st.text("ab/é \u2028😀", min_size=1, max_size=9), unique=True, max_size=20).map(
    lambda paths: [path for path in paths if all(path.split("/"))]
)


@given(_PATHS, st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))
def test_what_is_written_is_read(paths, inode, time_ns):
    identity = (1, inode, 2**64 - 1, time_ns, time_ns, 2**32 - 1)
    memory = Memory(
        uri="file:///d",
        boot_id=b"b" * 16,
        algorithm="sha256",
        files={path: (identity, entry(path)) for path in paths},
    )

    assert decode_memory(encode_memory(memory)) == memory


def test_any_flipped_byte_is_refused():
    data = encode_memory(MEMORY)

    for at in range(len(data)):
        with pytest.raises(FormatError):
            decode_memory(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])


@pytest.mark.parametrize("length", [0, 31, 63, 100, -1])
def test_a_shorter_one_is_refused(length):
    with pytest.raises(FormatError):
        decode_memory(encode_memory(MEMORY)[:length])
