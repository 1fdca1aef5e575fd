"""Everything that must be caught: an attacker with the store, with the key, with the spool."""

from __future__ import annotations

import base64
import shutil
import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, parse_vkey, sign_checkpoint
from airflow_secure_ml.core.audit.tiles import build_tiles
from airflow_secure_ml.core.audit.tree import Edge, leaf_hash
from airflow_secure_ml.errors import AuditLogError, FormatError, PolicyError, SecureMLError
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.verifying import verify_log

from .conftest import ALICE, BOB, chain, event

# trail.start, trail.emitter found, then ALICE's 20 events from index 2 on, trail.emitter whole.
FIRST = 2


def attack(site, *statements):
    """What somebody with write access to the file can do."""
    connection = sqlite3.connect(site.database, isolation_level=None)
    for statement, values in statements:
        connection.execute(statement, values)
    connection.close()


def leaves(site):
    with site.reader().whole() as log:
        return [data for _, data, _ in log.leaves()]


def stolen_key(site):
    """The log's private key, out of its file."""
    packed = (site.signer_path / "log.key").read_text("utf-8").strip().split("+", 4)[-1]
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(packed)[1:])


def rewrite(site, stored, *, sign=None):
    """Put another history in the log, with everything that follows from it made anew."""
    hashes = [leaf_hash(data) for data in stored]
    edge = Edge().append(hashes)
    connection = sqlite3.connect(site.database, isolation_level=None)
    connection.execute("DELETE FROM leaf")
    connection.execute("DELETE FROM tile")
    connection.executemany(
        "INSERT INTO leaf(idx, data, hash) VALUES (?, ?, ?)",
        [
            (n, data.decode(), found)
            for n, (data, found) in enumerate(zip(stored, hashes, strict=True))
        ],
    )
    for (level, n), tile in build_tiles(0, hashes, lambda a, b: (), lambda lv, k: None).items():
        connection.execute("INSERT INTO tile VALUES (?, ?, ?)", (level, n, tile))
    connection.execute("UPDATE log SET size = ?, edge = ?", (edge.size, edge.to_bytes()))
    if sign is not None:
        connection.execute("DELETE FROM checkpoint")
        public = sign.public_key().public_bytes_raw()
        checkpoint = Checkpoint(origin=site.origin, size=edge.size, root=edge.root())
        note = sign_checkpoint(checkpoint, public, sign.sign)
        connection.execute("INSERT INTO checkpoint VALUES (?, ?, 0)", (edge.size, note))
    connection.close()


def relinked(stored, at, replacement):
    """Exchange a leaf and mend the chain of every later event of its emitter."""
    import json

    from airflow_secure_ml.core import canonical

    changed = [*stored[:at], replacement]
    newest = {json.loads(data)["emitter"]: data for data in changed}
    for data in stored[at + 1 :]:
        record = json.loads(data)
        if "prev" in record:
            record["prev"] = leaf_hash(newest[record["emitter"]]).hex()
        data = canonical.encode(record)
        newest[record["emitter"]] = data
        changed.append(data)
    return changed


def test_an_untouched_log_is_whole(signed):
    done = []

    report = signed.verify(kept=signed.early, progress=lambda at, total: done.append((at, total)))

    assert (report.status, report.problem, report.first_bad) == (0, "", None)
    assert report.checkpoints == 3
    assert report.signed_size == report.size == report.checked
    assert report.ends == {"whole": 2}
    assert report.kept_size == 23
    assert done[-1] == (report.size, report.size)
    report.raise_for_status()


def test_an_edited_leaf_is_named(signed):
    attack(
        signed,
        ("UPDATE leaf SET data = replace(data, 'object.open', 'object.seal') WHERE idx = 7", ()),
    )

    report = signed.verify()

    assert (report.status, report.first_bad) == (1, 7)
    with pytest.raises(AuditLogError) as caught:
        report.raise_for_status()
    assert caught.value.index == 7


def test_an_edited_leaf_whose_hash_was_made_anew_is_named(signed):
    forged = event(ALICE, 5, leaves(signed)[FIRST + 4], act="object.seal")
    attack(
        signed,
        (
            "UPDATE leaf SET data = ?, hash = ? WHERE idx = ?",
            (forged.decode(), leaf_hash(forged), FIRST + 5),
        ),
    )

    report = signed.verify()

    assert (report.status, report.first_bad) == (1, FIRST + 5)


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        ([("DELETE FROM leaf WHERE idx = 9", ())], 9),
        (
            [
                ("DELETE FROM leaf WHERE idx = 9", ()),
                ("UPDATE leaf SET idx = idx - 1 WHERE idx > 9", ()),
            ],
            9,
        ),
        (
            [
                ("UPDATE leaf SET idx = 1000 WHERE idx = 5", ()),
                ("UPDATE leaf SET idx = 5 WHERE idx = 6", ()),
                ("UPDATE leaf SET idx = 6 WHERE idx = 1000", ()),
            ],
            5,
        ),
        ([("DELETE FROM leaf WHERE idx >= 12", ())], 12),
        ([("DELETE FROM leaf WHERE idx >= 12", ()), ("UPDATE log SET size = 12", ())], None),
        ([("UPDATE log SET edge = zeroblob(length(edge))", ())], None),
        ([("DELETE FROM checkpoint WHERE size > 23", ()), ("DELETE FROM log", ())], None),
    ],
    ids=["deleted", "deleted and closed up", "swapped", "cut", "cut, size too", "edge", "no row"],
)
def test_a_change_of_the_store_is_caught(signed, statements, first_bad):
    attack(signed, *statements)

    report = signed.verify()

    assert report.status == 1
    if first_bad is not None:
        assert report.first_bad in {first_bad, first_bad - 1}


def test_an_inserted_leaf_is_named(signed):
    extra = event("cc" * 16, 0, None, "emitter.open")
    stored = leaves(signed)

    rewrite(signed, [*stored[:10], extra, *stored[10:]])

    report = signed.verify()
    assert report.status == 1
    # No single leaf is out of its chain: the first checkpoint tells that it is one of these.
    assert report.first_bad == 0
    assert "a leaf from 0 to 22" in report.problem


def test_a_leaf_changed_after_a_checkpoint_is_looked_for_after_it(signed):
    stored = leaves(signed)
    at = next(n for n, data in enumerate(stored) if BOB.encode() in data and b'"seq":2' in data)

    rewrite(signed, relinked(stored, at, stored[at].replace(b"object.open", b"object.seal")))

    report = signed.verify()
    assert (report.status, report.first_bad) == (1, 23)


def test_the_whole_log_made_anew_below_a_kept_checkpoint_is_caught(signed):
    stored = leaves(signed)
    forged = relinked(stored, 6, stored[6].replace(b"object.open", b"object.seal"))
    rewrite(signed, forged, sign=stolen_key(signed))

    unaware, aware = signed.verify(), signed.verify(kept=signed.early)

    # Whoever has the log's key and the signer's record can do this: only a kept note shows it.
    assert unaware.status == 0
    assert (aware.status, aware.checked) == (1, 23)
    assert "the checkpoint brought along has another root" in aware.problem


def test_a_log_signed_again_by_another_key_is_caught(signed):
    stored = leaves(signed)
    forged = relinked(stored, 6, stored[6].replace(b"object.open", b"object.seal"))

    rewrite(signed, forged, sign=Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))

    report = signed.verify()
    assert report.status == 1
    assert "signed by no key known" in report.problem


def test_a_retired_key_is_not_believed(signed):
    key = signed.signer.public
    retired = LogKey(name=key.name, public_key=key.public_key, from_size=0, to_size=23)

    with signed.reader().whole() as log:
        report = verify_log(log, [retired])

    assert report.status == 1
    assert "signed by no key known" in report.problem


def test_a_store_rolled_back_is_refused_by_the_signer(site):
    site.put(ALICE, 0, chain(ALICE, 6))
    site.run()
    site.close()
    shutil.copy(site.database, site.path / "old.db")
    site.put(BOB, 0, chain(BOB, 6))
    site.start()
    site.run()
    site.close()

    shutil.copy(site.path / "old.db", site.database)
    site.start()

    with pytest.raises(AuditLogError, match="cut or rolled back"):
        site.run()


def test_a_store_rolled_back_with_its_signer_shows_against_a_kept_checkpoint(site):
    site.put(ALICE, 0, chain(ALICE, 6))
    site.run()
    site.close()
    for name in ("trail.db", "signer/last"):
        shutil.copy(site.path / name, site.path / (name.replace("/", "_") + ".old"))
    site.put(BOB, 0, chain(BOB, 6))
    site.start()
    kept = site.run()
    site.close()

    shutil.copy(site.path / "trail.db.old", site.database)
    shutil.copy(site.path / "signer_last.old", site.signer_path / "last")

    assert site.verify().status == 0
    report = site.verify(kept=kept)
    assert (report.status, report.first_bad) == (1, report.size)


def test_a_history_told_anew_gets_no_signature(signed):
    stored = leaves(signed)
    rewrite(signed, relinked(stored, 6, stored[6].replace(b"object.open", b"object.seal")))
    signed.put("cc" * 16, 0, chain("cc" * 16, 3))
    signed.start()

    with pytest.raises(AuditLogError, match="not those that were signed"):
        signed.run()


def test_leaves_changed_before_they_were_signed_get_no_signature(signed):
    signed.put("cc" * 16, 0, chain("cc" * 16, 6))
    signed.start()
    signed.sequencer.step(is_last=True)
    size = signed.log.edge().size
    forged = event("cc" * 16, 3, b"x", act="object.seal")
    attack(signed, ("UPDATE leaf SET data = ? WHERE idx = ?", (forged.decode(), size - 4)))

    with pytest.raises(AuditLogError, match="no checkpoint is signed") as caught:
        signed.checkpointer.make()
    assert caught.value.index == size - 4


def test_two_events_of_one_name_cannot_stand_in_the_log(signed):
    stored = leaves(signed)

    with pytest.raises(sqlite3.IntegrityError):
        rewrite(signed, [*stored, stored[5]])


def test_a_weakened_schema_is_caught(signed):
    attack(signed, ("DROP INDEX leaf_event", ()))

    report = signed.verify()

    assert report.status == 1
    assert "index leaf_event is not as this release makes it" in report.problem


def test_a_view_in_a_table_s_place_is_caught(signed):
    attack(
        signed,
        ("ALTER TABLE tally RENAME TO elsewhere", ()),
        ("CREATE VIEW tally AS SELECT * FROM elsewhere", ()),
    )

    assert signed.verify().status == 1


def test_without_a_key_it_cannot_be_told(signed):
    with signed.reader().whole() as log:
        report = verify_log(log, [])

    assert report.status == 5
    with pytest.raises(PolicyError):
        report.raise_for_status()


def test_a_log_that_nobody_signed_yet_is_incomplete(site):
    site.start()
    site.sequencer.step()

    assert site.verify().status == 4


@pytest.mark.parametrize("note", ["", "nonsense", "a\n1\nb\n\nc\n"])
def test_a_kept_checkpoint_that_is_none_tells_nothing(signed, note):
    assert signed.verify(kept=note).status == 5


def test_a_file_that_is_no_database_is_tampered(signed):
    signed.database.write_bytes(b"not a database" * 1000)

    report = signed.verify()

    assert report.status == 1
    assert "file is not a database" in report.problem


def test_bytes_flipped_in_the_file_never_go_unnoticed(signed):
    whole = signed.database.read_bytes()
    stored = leaves(signed)
    for at in range(0, len(whole), 509):
        signed.database.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        try:
            is_caught = signed.verify().status != 0
        except SecureMLError:
            is_caught = True
        # What is not caught is not in the log: free space, and what SQLite never looks at.
        assert is_caught or leaves(signed) == stored, at


@pytest.mark.parametrize(
    ("seq", "before"), [(3, b"another history"), (7, None), (2, None), (0, None)]
)
def test_what_an_emitter_adds_after_its_end_must_follow_what_it_said(site, seq, before):
    events = chain(ALICE, 3)
    site.put(ALICE, 0, events)
    site.run()
    site.put(ALICE, 1, [event(ALICE, 3, events[-1])])
    site.run()
    sound = site.verify()
    site.close()
    site.opened.clear()
    stored = leaves(site)
    at = next(n for n, data in enumerate(stored) if b'"seq":3' in data and ALICE.encode() in data)
    stored[at] = event(ALICE, seq, before if before or not seq else events[-1])
    if seq < 3:
        # Two events of one name: the store itself would not take them.
        attack(site, ("DROP INDEX leaf_event", ()))
    rewrite(site, stored, sign=stolen_key(site))

    report = site.verify()

    assert (sound.status, sum(sound.ends.values())) == (0, 1)
    assert report.status == 1
    if seq >= 3:
        # Either the one before was changed, or this one; a hole is before this one.
        assert report.first_bad == (at - 2 if seq == 3 else at)


def test_a_proof_holds_and_a_changed_one_does_not(signed):
    proof = prove(signed.reader(), 7)

    found = check_proof(proof, [parse_vkey(signed.signer.public.vkey())], origin=signed.origin)

    assert found.size == signed.reader().size() == proof["size"]
    assert (proof["index"], proof["origin"]) == (7, signed.origin)
    for name, value in [
        ("leaf", proof["leaf"].replace("object.open", "object.seal")),
        ("index", 8),
        ("path", proof["path"][:-1]),
        ("path", [*proof["path"][1:], proof["path"][0]]),
        ("checkpoint", proof["checkpoint"].replace("\n", " ", 1)),
        ("checkpoint", None),
    ]:
        with pytest.raises((AuditLogError, FormatError)):
            check_proof({**proof, name: value}, [signed.signer.public])


def test_a_proof_of_a_leaf_that_no_checkpoint_covers_says_so(site):
    site.start()
    site.sequencer.step()

    proof = prove(site.reader(), 0)

    assert (proof["size"], proof["path"], proof["checkpoint"]) == (0, [], None)
    with pytest.raises(AuditLogError):
        prove(site.reader(), 99)


def test_a_log_of_several_tiles_is_proved_and_a_changed_tile_is_caught(site):
    site.put(ALICE, 0, chain(ALICE, 700))
    site.run()

    for index in (0, 255, 256, 600, 702):
        check_proof(prove(site.reader(), index), [site.signer.public])
    assert site.verify().status == 0
    attack(
        site,
        (
            "UPDATE tile SET hashes = CAST(zeroblob(64) || substr(hashes, 65) AS BLOB) WHERE n = 1",
            (),
        ),
    )

    report = site.verify()
    assert (report.status, report.first_bad) == (1, 256)


def loosen(site):
    """Let every table hold NULL and values of any type."""
    connection = sqlite3.connect(site.database, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), ') STRICT', ')') "
        "WHERE type = 'table'"
    )
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoint SET note = NULL WHERE size = 23",
        "UPDATE checkpoint SET note = 7 WHERE size = 23",
        "UPDATE checkpoint SET note = x'00ff' WHERE size = 23",
        "UPDATE leaf SET data = NULL WHERE idx = 7",
        "UPDATE leaf SET data = 7 WHERE idx = 7",
        "UPDATE leaf SET hash = NULL WHERE idx = 7",
        "UPDATE leaf SET hash = 'text' WHERE idx = 7",
        "UPDATE leaf SET hash = 999999999999 WHERE idx = 7",
        "UPDATE log SET edge = NULL",
        "UPDATE log SET edge = 'text'",
        "UPDATE log SET edge = 999999999999",
        "UPDATE log SET edge = -1",
        "UPDATE log SET size = NULL",
        "UPDATE log SET size = 'many'",
        "UPDATE log SET size = 3.5",
        "UPDATE log SET size = 9e999",
        "UPDATE log SET size = -1",
        "UPDATE log SET origin = NULL",
        "UPDATE log SET origin = x'00ff'",
        "INSERT INTO tile VALUES (0, 0, NULL)",
        "INSERT INTO tile VALUES (0, 0, 999999999999)",
        "INSERT INTO tile VALUES (NULL, 'x', 'y')",
        "INSERT INTO aside VALUES ('aa', NULL, 999999999999, 'v')",
        "INSERT INTO aside VALUES ('aa', NULL, 'text', 'v')",
        "INSERT INTO aside VALUES (NULL, NULL, -1, x'ff')",
        "INSERT INTO aside VALUES ('aa', 7, NULL, 8)",
        "INSERT INTO emitter(id, state) VALUES (NULL, 'gap'), (x'00', 'gap')",
    ],
)
def test_a_value_of_another_type_gives_a_verdict_and_no_crash(signed, statement):
    loosen(signed)
    attack(signed, (statement, ()))

    report = signed.verify()

    assert report.status == 1
    assert report.problem
