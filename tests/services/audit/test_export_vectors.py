"""What is given out is forever: the worked example as tiles, proof and pack, byte for byte.

`python -m tests.services.audit.test_export_vectors` writes the files anew; a release never does.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.adapters.export_folder import LocalExportFolder
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, sign_checkpoint
from airflow_secure_ml.core.audit.ports import Batch, NewLeaf
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.tlog_proof import parse_tlog_proof
from airflow_secure_ml.core.audit.tree import Edge, leaf_hash
from airflow_secure_ml.services.evidence import Beside, Selection, write_pack
from airflow_secure_ml.services.exporting import export_tiles
from airflow_secure_ml.services.proving import check_leaf_proof, prove_leaf
from tests.verifier.conftest import outsider  # noqa: F401 - a fixture

from .conftest import VECTORS

ORIGIN = "example.org/asml-trail/7f3a9c20"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = LogKey(name=ORIGIN, public_key=KEY.public_key().public_bytes_raw())
PLACE = VECTORS.parent / "tlog"
PROOF, PACK = PLACE / "leaf-4.tlog-proof", PLACE / "pack.zip"
EMITTER = "00112233445566778899aabbccddeeff"
SELECTED = Selection(query=EventQuery(emitter=EMITTER), words=f"emitter={EMITTER}")


class Example:
    """The worked example's log, signed with its seed."""

    def __init__(self, folder):
        leaves = (VECTORS / "leaves.txt").read_bytes().splitlines()
        new = [NewLeaf(data=d, hash=leaf_hash(d), event=json.loads(d)) for d in leaves]
        edge = Edge().append(leaf.hash for leaf in new)
        log = SqliteAuditWriter(folder / "trail.db", ORIGIN)
        log.append(Batch(old_size=0, leaves=new, edge=edge))
        checkpoint = Checkpoint(origin=ORIGIN, size=edge.size, root=edge.root())
        self.note = sign_checkpoint(checkpoint, PUBLIC.public_key, KEY.sign)
        log.publish(self.note, size=edge.size, signed_ms=0)
        log.close()
        self.reader = SqliteAuditReader(folder / "trail.db")

    def tiles(self, folder):
        with self.reader.whole() as log:
            export_tiles(log, self.note, [PUBLIC], LocalExportFolder(folder))

    def proof(self):
        with self.reader.whole() as log:
            return prove_leaf(log, 4, self.reader.leaf(4).data, self.note).encode()

    def pack(self, path):
        beside = Beside(note=self.note, keys=[PUBLIC], verifier=b"# verify.py\n")
        with path.open("w+b") as stream:
            write_pack(self.reader, SELECTED, beside, stream)


@pytest.fixture
def example(tmp_path):
    return Example(tmp_path)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_tiles_are_those_of_the_vector(example, tmp_path):
    example.tiles(tmp_path / "tiles")

    assert files(tmp_path / "tiles") == files(PLACE / "tiles")
    assert len(files(PLACE / "tiles")) == 3


def test_a_proof_is_that_of_the_vector(example):
    assert example.proof() == PROOF.read_text(encoding="utf-8")


def test_the_vectors_proof_is_read_and_holds():
    proof = parse_tlog_proof(PROOF.read_text(encoding="utf-8"))

    assert (proof.index, len(proof.path)) == (4, 4)
    assert check_leaf_proof(proof, [PUBLIC], origin=ORIGIN).size == 10


def test_what_a_verifier_reads_of_a_pack_is_that_of_the_vector(example, tmp_path):
    example.pack(tmp_path / "pack.zip")

    read = ("pack.json", "checkpoint", "proofs/")
    with zipfile.ZipFile(tmp_path / "pack.zip") as ours, zipfile.ZipFile(PACK) as vector:
        names = [name for name in vector.namelist() if name.startswith(read)]
        assert {n: ours.read(n) for n in names} == {n: vector.read(n) for n in names}
        assert [n for n in ours.namelist() if n.startswith(read)] == names
        assert len(names) == 9


@pytest.mark.parametrize(
    ("what", "checked"), [("tiles", 10), ("leaf-4.tlog-proof", 1), ("pack.zip", 7)]
)
def test_the_vectors_are_whole_to_an_outsider(outsider, tmp_path, what, checked):  # noqa: F811
    (tmp_path / "keys").write_text(PUBLIC.vkey())

    report = outsider.report(PLACE / what, "--keys", tmp_path / "keys")

    assert (report["status"], report["checked"], report["size"]) == (0, checked, 10)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        made = Example(Path(name))
        made.tiles(PLACE / "tiles")
        PROOF.write_text(made.proof(), encoding="utf-8")
        made.pack(PACK)
