"""`audit export`, `prove`, `check-proof`, as people run them; an outsider checks what comes out."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_note
from airflow_secure_ml.core.audit.cosignature import CosignerKey, cosign, encode_lines
from airflow_secure_ml.core.audit.relaying import Cosigned
from tests.test_cli import home, made  # noqa: F401 - fixtures
from tests.verifier.conftest import outsider  # noqa: F401 - a fixture


@pytest.fixture
def recorded(home):  # noqa: F811
    """A deployment that made two keys, and its log's keys in a file."""
    home.done("keys", "create", "another", "--for", "wrap")
    home.sequence()
    home.keys = home.path / "secure_ml" / "audit_signer" / "log_keys"
    if not home.keys.exists():
        (home.keys,) = home.path.rglob("log_keys")
    return home


def exported(home):  # noqa: F811
    """Every trail.export in the log, outcomes last."""
    return home.events("trail.export")


def test_tiles_are_given_out_and_that_is_recorded(recorded, outsider):  # noqa: F811
    said = json.loads(recorded.done("audit", "export", "--tiles", "out", "--json"))

    report = outsider.report(recorded.path / "out", "--keys", recorded.keys)
    assert (report["status"], report["size"], report["root"]) == (0, said["size"], said["root"])
    intent, outcome = exported(recorded)
    assert intent["phase"] == "intent"
    assert intent["more"] == {"format": "tlog-tiles"}
    note = (recorded.path / "out" / "checkpoint").read_bytes()
    digest = f"sha256:{hashlib.sha256(note).hexdigest()}"
    assert outcome["more"] == {"digest": digest, "events": said["size"], "format": "tlog-tiles"}


def test_a_pack_of_selected_events_is_checked_by_an_outsider(recorded, outsider):  # noqa: F811
    said = json.loads(
        recorded.done("audit", "export", "--pack", "x.zip", "--act", "key.", "--json")
    )

    report = outsider.report(recorded.path / "x.zip", "--keys", recorded.keys)
    assert (report["status"], report["kind"]) == (0, "evidence pack")
    assert report["checked"] == said["events"] == 2
    _, outcome = exported(recorded)
    found = hashlib.sha256((recorded.path / "x.zip").read_bytes()).hexdigest()
    assert outcome["more"]["digest"] == said["digest"] == f"sha256:{found}"
    assert outcome["more"]["query"] == "act=key."


def test_that_hidden_values_leave_is_recorded_before(recorded, outsider):  # noqa: F811
    recorded.done("audit", "export", "--pack", "x.zip", "--act", "key.", "--values")

    report = outsider.report(recorded.path / "x.zip", "--keys", recorded.keys)
    assert (report["status"], report["values"]) == (0, 1)  # who made the keys
    intent, outcome = exported(recorded)
    assert intent["phase"] == "intent"
    assert (intent["more"]["values"], outcome["more"]["values"]) == (True, True)


def test_one_checkpoint_gives_one_pack_whatever_came_after(recorded):
    size = json.loads(recorded.done("audit", "export", "--pack", "a.zip", "--json"))["size"]
    recorded.done("keys", "create", "third", "--for", "wrap")
    recorded.sequence()

    recorded.done("audit", "export", "--pack", "b.zip", "--size", size)

    first, second = ((recorded.path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second


def test_what_witnesses_brought_back_comes_along(recorded, outsider):  # noqa: F811
    secret = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    key = CosignerKey(name="witness.example/w1", public_key=secret.public_key().public_bytes_raw())
    note = SqliteAuditReader(recorded.audit / "trail.db").checkpoint()
    text = parse_note(note).text
    line = encode_lines([cosign(text, key, secret.sign, time_s=1_795_316_400)])
    size = int(text.split("\n")[1])
    book = SqliteBook(recorded.audit / BOOK_FILE)
    book.keep_cosigned(Cosigned(size=size, witness=key.vkey(), line=line, time_s=1_795_316_400))

    recorded.done("audit", "export", "--pack", "x.zip", "--size", size)

    with zipfile.ZipFile(recorded.path / "x.zip") as archive:
        (recorded.path / "witnesses").write_bytes(archive.read("witness_keys"))
    known = ("--witness-keys", recorded.path / "witnesses", "--witnesses", 1)
    report = outsider.report(recorded.path / "x.zip", "--keys", recorded.keys, *known)
    assert (report["status"], report["cosigned_by"]) == (0, ["witness.example/w1"])


def test_the_whole_log_is_packed_without_filters(recorded, outsider):  # noqa: F811
    recorded.done("audit", "export", "--pack", "x.zip")

    report = outsider.report(recorded.path / "x.zip", "--keys", recorded.keys)
    assert (report["status"], report["checked"]) == (0, report["size"])
    with zipfile.ZipFile(recorded.path / "x.zip") as archive:
        assert b"verify.py PACK.zip --keys" in archive.read("README.txt")
        (recorded.path / "unpacked").mkdir()
        archive.extractall(recorded.path / "unpacked")
    assert outsider.report(recorded.path / "unpacked", "--keys", recorded.keys)["status"] == 0


def test_an_event_is_proved_and_the_proof_checked(recorded, outsider):  # noqa: F811
    (event, *_) = recorded.events("key.create")
    name = f"{event['emitter']}:{event['seq']}"

    proof = recorded.done("audit", "prove", name)

    (recorded.path / "x.tlog-proof").write_text(proof)
    assert "is in" in recorded.done("audit", "check-proof", "x.tlog-proof")
    report = outsider.report(recorded.path / "x.tlog-proof", "--keys", recorded.keys)
    assert (report["status"], report["kind"], report["checked"]) == (0, "proof", 1)
    intent, outcome = exported(recorded)
    assert intent["more"] == {"format": "tlog-proof", "query": name}
    digest = f"sha256:{hashlib.sha256(proof.encode()).hexdigest()}"
    assert outcome["more"]["digest"] == digest


def test_a_changed_proof_is_refused_by_both(recorded, outsider):  # noqa: F811
    lines = recorded.done("audit", "prove", "1").split("\n")
    lines[2] = "index 2"
    (recorded.path / "x.tlog-proof").write_text("\n".join(lines))

    assert recorded.refused(1, "audit", "check-proof", "x.tlog-proof")["why"] == "digest_differs"
    report = outsider.report(recorded.path / "x.tlog-proof", "--keys", recorded.keys)
    assert (report["status"], report["first_bad"]) == (1, 2)


WRONG = (
    ("export",),
    ("export", "--tiles", "a", "--pack", "b"),
    ("export", "--tiles", "a", "--dag", "x"),
    ("export", "--tiles", "a", "--values"),
    ("export", "--pack", "a.zip", "--since", "yesterday"),
    ("prove", "nothing"),
    ("prove", "99999999"),
    ("check-proof", "nowhere"),
)


def test_wrong_use_is_said(recorded):
    said = {words: recorded.refused(2, "audit", *words)["why"] for words in WRONG}

    assert said == dict.fromkeys(WRONG, "misconfigured")
    assert not (recorded.path / "a.zip").exists()


def test_what_cannot_be_recorded_is_not_given_out(recorded):
    recorded.close()
    spool = recorded.audit / "spool"
    spool.rename(spool.with_name("elsewhere"))
    spool.write_text("no folder")

    answer = recorded.run("audit", "export", "--pack", "x.zip")

    assert answer.returncode == 3
    assert not (recorded.path / "x.zip").exists()
    spool.unlink()
    spool.with_name("elsewhere").rename(spool)
