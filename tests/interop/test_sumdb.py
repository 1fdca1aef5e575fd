"""Go's own note and tlog packages accept our checkpoints and proofs, and nothing else."""

from __future__ import annotations

import base64
import subprocess

import pytest

from airflow_secure_ml.core.audit.checkpoint import parse_checkpoint, parse_note
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import consistency_proof
from airflow_secure_ml.services.proving import prove_leaf
from tests.services.audit.conftest import ALICE, BOB, chain, site  # noqa: F401 - a fixture

OLD, NEW = 13, 313


@pytest.fixture
def signed(site):  # noqa: F811
    """A log of 313 leaves with two checkpoints, in files `older` and `newer`."""
    site.put(ALICE, 0, chain(ALICE, 10))
    (site.path / "older").write_text(site.run())
    site.put(BOB, 0, chain(BOB, 298))
    (site.path / "newer").write_text(site.run())
    return site


@pytest.fixture
def check(signed, sumdb_binary):
    def run(what, *words):
        done = subprocess.run(
            [str(sumdb_binary), what, signed.signer.public.vkey(), *map(str, words)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        return done.returncode, done.stdout.strip() or done.stderr.strip()

    return run


def prove(signed, index):
    note = (signed.path / "newer").read_text()
    with signed.reader().whole() as log:
        return prove_leaf(log, index, signed.reader().leaf(index).data, note)


def consistency(signed):
    with signed.reader().whole() as log:
        proof = consistency_proof(OLD, NEW, node_reader(log.leaf_hashes, log.tile))
    return [base64.b64encode(step).decode() for step in proof]


def test_a_checkpoint_is_a_note(signed, check):
    note = (signed.path / "newer").read_text()
    root = base64.b64encode(parse_checkpoint(parse_note(note).text).root).decode()

    assert check("note", signed.path / "newer") == (0, f"{NEW} {root}")


@pytest.mark.parametrize("line", [0, 1, 2, 4])
def test_a_changed_checkpoint_is_refused(signed, check, line):
    lines = (signed.path / "newer").read_text().split("\n")
    lines[line] = lines[line][:-3] + ("0" if lines[line][-3] != "0" else "1") + lines[line][-2:]
    (signed.path / "changed").write_text("\n".join(lines))

    assert check("note", signed.path / "changed")[0] == 1


@pytest.mark.parametrize("index", [0, 1, 255, 256, NEW - 1])
def test_an_inclusion_proof_holds(signed, check, index):
    (signed.path / "x.tlog-proof").write_text(prove(signed, index).encode())

    assert check("inclusion", signed.path / "x.tlog-proof") == (0, f"{index} {NEW}")


@pytest.mark.parametrize(
    ("old", "new"), [("index 7", "index 8"), ("extra ", "extra AAAA")], ids=["index", "event"]
)
def test_a_changed_inclusion_proof_is_refused(signed, check, old, new):
    text = prove(signed, 7).encode()
    assert old in text
    (signed.path / "x.tlog-proof").write_text(text.replace(old, new, 1))

    assert check("inclusion", signed.path / "x.tlog-proof")[0] == 1


def test_a_consistency_proof_holds(signed, check):
    found = check("consistency", signed.path / "older", signed.path / "newer", *consistency(signed))

    assert found == (0, f"{OLD} {NEW}")


def test_a_consistency_proof_of_another_history_is_refused(signed, check):
    steps = consistency(signed)
    places = signed.path / "older", signed.path / "newer"

    assert check("consistency", *places, *steps[:-1])[0] == 1
    assert check("consistency", *places, *steps[:-1], steps[0])[0] == 1
    assert check("consistency", *reversed(places), *steps)[0] == 1
