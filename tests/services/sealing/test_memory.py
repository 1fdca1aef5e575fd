"""Peak memory is the same at any size: sealing, opening, reading, digests, rewrapping."""

from __future__ import annotations

import subprocess
import sys

import pytest

MIB = 1 << 20

PROGRAM = """
import os, resource, sys
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import digest_payload, open_object, seal_object

folder, size_bytes, suite = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
plain = os.path.join(folder, "plain")
with open(plain, "wb") as file:
    file.truncate(size_bytes)
key = KekWrapper(bytes(32), slot_id="data/1", ref=KeyRef(system="t", name="data", version="1"))
store = LocalObjects()
uri = store.canonical(os.path.join(folder, "sealed"))
with store.create(uri) as writer:
    seal_object(plain, writer, keys=[key], context={"a": "b"}, threads=2, suite=suite)
    writer.commit(replace=True)

class Nowhere:
    def write_at(self, offset, data):
        pass

with store.open(uri) as obj:
    opened = open_object(obj, Nowhere(), keys=[key], expect=ANY_CONTEXT, digest_algorithm=None)
    assert opened.plaintext_bytes == size_bytes
    if suite == 1:
        reader = SealedReader(obj, keys=[key], expect=ANY_CONTEXT)
        for offset in range(0, size_bytes, size_bytes // 40):
            reader.seek(offset)
            reader.read(1000)
    else:
        with open("/dev/null", "wb") as nowhere:
            open_object(obj, nowhere, keys=[key], expect=ANY_CONTEXT)
    rewrap_object(obj, Nowhere(), readers=[key], keys=[key], expect=ANY_CONTEXT)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(folder, size_bytes, suite):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(size_bytes), str(suite)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return int(done.stdout)


@pytest.mark.parametrize(("suite", "large_mib"), [(1, 2048), (2, 768)], ids=["0x01", "0x02"])
def test_peak_memory_does_not_grow_with_the_file(tmp_path, suite, large_mib):
    small = peak_bytes(tmp_path, 64 * MIB, suite)

    large = peak_bytes(tmp_path, large_mib * MIB, suite)
    for path in tmp_path.iterdir():
        path.unlink()

    assert large - small <= 8 * MIB
