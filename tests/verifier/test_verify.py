"""The file that outsiders run: alone, on tiles and proofs, and agreeing with the package."""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import sqlite3
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.export_folder import LocalExportFolder
from airflow_secure_ml.adapters.sqlite_audit import schema
from airflow_secure_ml.core import canonical, ml_dsa
from airflow_secure_ml.core.audit.checkpoint import (
    LogKey,
    parse_checkpoint,
    parse_note,
    sign_with,
)
from airflow_secure_ml.core.audit.cosignature import CosignerKey
from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.log_key import ML_DSA_65
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import (
    check_consistency,
    consistency_proof,
    leaf_hash,
    root_of,
)
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import AuditLogError, FormatError
from airflow_secure_ml.services.exporting import export_tiles
from airflow_secure_ml.verifier import verify
from tests.services.audit.conftest import (  # noqa: F401 - a fixture
    ALICE,
    BOB,
    VECTORS,
    chain,
    event,
    site,
)
from tests.services.audit.test_verifying import attack, loosen, stolen_key
from tests.verifier.conftest import VERIFY

SIZE = 305


@pytest.fixture
def exported(site):  # noqa: F811
    """A log of a full tile and a rest, as tiles, and the log's keys."""
    site.put(ALICE, 0, chain(ALICE, 10))
    site.early = site.run()
    site.put(BOB, 0, chain(BOB, 290))
    site.run()
    give(site)
    (site.path / "keys").write_text(site.signer.public.line())
    site.keys = ("--keys", site.path / "keys")
    return site


def give(site):  # noqa: F811
    with site.reader().whole() as log:
        note = site.reader().checkpoint()
        export_tiles(log, note, [site.signer.public], LocalExportFolder(site.path / "tiles"))


def test_nothing_of_ours_is_in_reach(outsider):
    assert outsider.python_says("import cryptography; print('here')") == (0, "here\n")
    status, said = outsider.python_says("import airflow_secure_ml")
    assert (status, "No module named 'airflow_secure_ml'" in said) == (1, True)


def test_it_imports_the_standard_library_and_cryptography_alone():
    tree = ast.parse(VERIFY.read_text(encoding="utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }

    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"cryptography"}


def test_its_digests_of_the_schema_are_those_of_the_tables_we_make():
    found = {}
    for number in schema.STEPS:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            schema.make(connection, number)
            found[number] = verify.schema_digest(connection)

    assert found == verify.SCHEMAS


def test_tiles_are_whole(exported, outsider):
    report = outsider.report(exported.path / "tiles", *exported.keys)

    assert (report["verdict"], report["kind"], report["checked"]) == ("whole", "tlog-tiles", SIZE)
    assert report["root"] == exported.verify().root
    assert report["ends"] == {"whole": 2}


def test_what_it_says_is_for_people(exported, outsider):
    status, said, told = outsider.run(exported.path / "tiles", *exported.keys)

    assert (status, told) == (0, "")
    assert said.splitlines()[0] == f"{exported.origin}: whole (tlog-tiles)"


def test_a_log_with_two_kinds_of_keys_needs_both(exported, outsider):
    ref = KeyRef(system="log", name="log", version="1")
    seed = bytes(range(32))
    second = LogKey(name=exported.origin, public_key=ml_dsa.public_of(seed), algorithm=ML_DSA_65)
    first, sign = exported.signer.public, stolen_key(exported).sign
    found = parse_checkpoint(parse_note((exported.path / "tiles" / "checkpoint").read_text()).text)
    note = sign_with(found, [(first, sign), (second, ml_dsa.MlDsaSigner(seed, ref).sign)])
    (exported.path / "keys").write_text(first.line() + second.line())

    alone = outsider.report(exported.path / "tiles", *exported.keys)
    (exported.path / "tiles" / "checkpoint").write_text(note)
    both = outsider.report(exported.path / "tiles", *exported.keys)
    (exported.path / "tiles" / "checkpoint").write_text(note[:-9] + "AAAAAAA=\n")
    broken = outsider.report(exported.path / "tiles", *exported.keys)

    assert [alone["status"], both["status"], broken["status"]] == [1, 0, 1]


def test_a_kept_checkpoint_fits_tiles(exported, outsider):
    (exported.path / "kept").write_text(exported.early)

    report = outsider.report(
        exported.path / "tiles", *exported.keys, "--checkpoint", exported.path / "kept"
    )

    assert (report["status"], report["kept_size"]) == (0, 13)


def test_tiles_that_end_before_a_kept_checkpoint_are_incomplete(exported, outsider):
    exported.put("cc" * 16, 0, chain("cc" * 16, 6))
    (exported.path / "kept").write_text(exported.run())

    report = outsider.report(
        exported.path / "tiles", *exported.keys, "--checkpoint", exported.path / "kept"
    )

    assert (report["status"], report["first_bad"]) == (4, SIZE)


FILES = ("tile/entries/000", "tile/entries/001.p/49", "tile/0/000", "tile/0/001.p/49")


@pytest.mark.parametrize(
    ("path", "first"), zip((*FILES, "tile/1/000.p/1"), (0, 256, 0, 256, 0), strict=True)
)
def test_a_byte_changed_in_a_tile_is_named(exported, outsider, path, first):
    place = exported.path / "tiles" / path
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)

    report = outsider.report(exported.path / "tiles", *exported.keys)

    assert report["status"] == 1
    assert first <= report["first_bad"] < first + 256


@pytest.mark.parametrize(
    ("path", "first"),
    [*zip(FILES, (0, 256, 0, 256), strict=True), ("tile/1/000.p/1", 0), ("checkpoint", None)],
)
def test_a_tile_that_is_missing_is_no_lie(exported, outsider, path, first):
    (exported.path / "tiles" / path).unlink()

    report = outsider.report(exported.path / "tiles", *exported.keys)

    assert (report["status"], report["first_bad"]) == (4, first)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda note: note.replace(f"\n{SIZE}\n", "\n304\n"), 1, "signature"),
        (lambda note: note.replace("\u2014 example", "\u2014 exbmple"), 1, "signed by no key"),
        (lambda note: note.partition("\n\n")[0] + "\n", 1, "three lines"),
        (lambda note: "other" + note, 5, "no key of the log"),
    ],
    ids=["size", "signer", "no-signature", "another-log"],
)
def test_a_changed_checkpoint_is_caught(exported, outsider, change, status, reason):
    place = exported.path / "tiles" / "checkpoint"
    place.write_text(change(place.read_text()))

    report = outsider.report(exported.path / "tiles", *exported.keys)

    assert report["status"] == status
    assert reason in report["problem"]


def test_a_copy_in_a_folder_that_nobody_writes_to_is_read(exported, outsider):
    exported.close()
    exported.opened.clear()
    (exported.path / "copy").mkdir()
    shutil.copy(exported.database, exported.path / "copy" / "trail.db")

    report = outsider.report(exported.path / "copy" / "trail.db", *exported.keys)

    assert (report["status"], report["checked"]) == (0, SIZE)
    assert [path.name for path in (exported.path / "copy").iterdir()] == ["trail.db"]


@pytest.mark.parametrize(
    "options",
    [
        ("nowhere", "--keys", "{keys}"),
        ("{tiles}",),
        ("{tiles}", "--keys", "nowhere"),
        ("{tiles}", "--keys", "{tiles}/checkpoint"),
        ("{keys}", "--keys", "{keys}"),
    ],
    ids=["no-log", "no-keys", "keys-not-there", "keys-that-are-none", "something-else"],
)
def test_wrong_use_is_2(exported, outsider, options):
    places = {"keys": exported.path / "keys", "tiles": exported.path / "tiles"}

    status, said, told = outsider.run(*(option.format(**places) for option in options))

    assert (status, said) == (2, "")
    assert "Traceback" not in told


def test_a_database_that_is_in_use_is_3(exported, outsider):
    exported.close()
    exported.opened.clear()
    connection = sqlite3.connect(exported.database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    # Without its own file beside it a copy is read as one that nobody writes.
    (exported.path / "trail.db-wal").touch()

    status, said, told = outsider.run(exported.database, *exported.keys)

    connection.close()
    assert (status, said) == (3, "")
    assert "locked" in told


def test_the_leaves_of_an_activity_are_listed(exported, outsider):
    status, said, _ = outsider.run(
        exported.path / "tiles", *exported.keys, "--list", "emitter.close:ok"
    )

    assert status == 0
    assert said.splitlines()[0] == f"11 {ALICE}:9"
    assert len([line for line in said.splitlines() if line.endswith((":9", ":289"))]) == 2


@given(st.data())
def test_both_agree_on_what_grew_from_what(data):
    new = data.draw(st.integers(0, 40))
    old = data.draw(st.integers(0, new))
    hashes = [leaf_hash(bytes([n])) for n in range(new)]
    node = node_reader(lambda start, stop: hashes[start:stop], lambda level, n: None)
    proof = list(consistency_proof(old, new, node))
    spoilt = data.draw(st.sampled_from(["", "drop", "add", "swap", "older"]))
    older = root_of(hashes[:old]) if spoilt != "older" else bytes(32)
    proof = {"drop": proof[:-1], "add": [*proof, bytes(32)], "swap": proof[::-1]}.get(spoilt, proof)

    verdicts = []
    for check, error in (
        (check_consistency, AuditLogError),
        (verify.check_growth, verify.Fault),
    ):
        try:
            check(old, older, new, root_of(hashes), proof)
            verdicts.append(True)
        except error:
            verdicts.append(False)

    assert verdicts[0] == verdicts[1]
    assert verdicts[0] or spoilt


def _both(data):
    try:
        theirs = parse_event(data)
    except FormatError:
        theirs = None
    return verify.read_event(data), theirs


FULL = json.loads(
    event(
        ALICE, 3, b"x", "object.open", of=f"{BOB}:1", by={"h": "a" * 64, "n": 5},
        run={"dag": "d", "run": "r", "task": "t", "map": -1, "try": 1, "ti": "u"},
        object={"name": "n", "uri": {"h": "b" * 64, "n": 5}, "digest": f"sha256:{'c' * 64}"},
        key={"system": "local", "name": "data", "version": "3"},
        lease={"path": "p", "id": f"sha256:{'d' * 64}", "ttl_s": 60},
        rule={"id": "r", "digest": "d", "decision": "deny"}, more={"a": ["b", {"c": True}]},
    )
)  # fmt: skip
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.sampled_from(["ok", "intent", "refused", {}, {"h": "a" * 64, "n": 1}])
)  # fmt: skip
_PATHS = [(name,) for name in FULL] + [
    (name, inner)
    for name in ("object", "key", "lease", "rule", "run", "by")
    for inner in FULL[name]
]


@given(path=st.sampled_from([*_PATHS, ("why",), ("new",), ("run", "new")]), value=_SCALARS)
def test_both_agree_on_what_an_event_is(path, value):
    record = json.loads(json.dumps(FULL))
    target = record
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    data = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    ours, theirs = _both(data.encode("utf-8", "surrogatepass"))

    assert ours == theirs


@given(path=st.sampled_from([*_PATHS, ("result",), ("phase",)]))
def test_both_agree_on_events_with_something_left_out(path):
    record = json.loads(json.dumps(FULL))
    target = record
    for name in path[:-1]:
        target = target[name]
    del target[path[-1]]

    ours, theirs = _both(canonical.encode(record))

    assert ours == theirs


@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda text: text.encode("utf-8")))
def test_both_agree_on_bytes_that_are_none(data):
    assert _both(data) == (None, None)


@pytest.mark.parametrize("spelled", [b" ", b"\n", b'"v":1,', b'"zz":1.0,'], ids=repr)
def test_both_refuse_another_spelling(spelled):
    data = canonical.encode(FULL)
    at = data.index(b'"v":1')

    assert _both(data) == (FULL, FULL)
    assert _both(data[:at] + spelled + data[at:]) == (None, None)


def test_the_worked_examples_leaves_are_events():
    leaves = (VECTORS / "leaves.txt").read_bytes().splitlines()

    assert len(leaves) == 10
    assert all(_both(data)[0] == _both(data)[1] is not None for data in leaves)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET edge = 999999999999999",
        "UPDATE log SET edge = NULL",
        "UPDATE log SET size = 'many'",
        "UPDATE leaf SET hash = NULL WHERE idx = 7",
        "UPDATE tile SET hashes = 999999999999999",
        "UPDATE checkpoint SET note = NULL",
        "INSERT INTO aside VALUES ('aa', NULL, 999999999999999, 'v')",
    ],
    ids=["edge", "no edge", "size", "hash", "tile", "note", "salt"],
)
def test_a_value_of_another_type_is_tampering_and_no_crash(exported, outsider, statement):
    loosen(exported)
    attack(exported, (statement, ()))

    report = outsider.report(exported.database, *exported.keys)

    assert report["status"] == 1


def test_one_witness_under_two_names_is_not_two(exported, outsider):
    keys = [CosignerKey(name=f"witness.example/{n}", public_key=b"\x07" * 32) for n in (1, 2)]
    path = exported.path / "witnesses"
    path.write_text("".join(f"{key.vkey()}\n" for key in keys))

    status, _, told = outsider.run(
        exported.path / "tiles", *exported.keys, "--witness-keys", path, "--witnesses", 2
    )

    assert (status, "twice" in told) == (2, True)
