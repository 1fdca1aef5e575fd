"""An evidence pack: the same bytes each time, no markup from events, every change noticed."""

from __future__ import annotations

import html.parser
import io
import json
import re
import zipfile
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.core.audit.checkpoint import parse_note
from airflow_secure_ml.core.audit.cosignature import (
    CosignerKey,
    cosign,
    cosigned_note,
    encode_lines,
)
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.redaction import hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, PolicyError
from airflow_secure_ml.services import evidence
from airflow_secure_ml.services.evidence import Beside, Selection, write_pack
from airflow_secure_ml.services.evidence_report import MAX_LISTED, MAX_RANGES, EvidenceReport
from tests.services.audit.test_verifying import attack
from tests.verifier.conftest import VERIFY, outsider  # noqa: F401 - a fixture

from .conftest import ALICE, BOB, chain, event

HOSTILE = "<script>alert(1)</script>&\"'><img src=x onerror=y> \u202egnp.exe"
SELECTED = Selection(query=EventQuery(acts=("object.",)), words=f"act=object. {HOSTILE}")


@pytest.fixture
def signed(site):
    """A log of 23 leaves: ALICE's objects have hostile names, two of BOB's acts were refused."""
    hostile = {"uri": HOSTILE, "name": HOSTILE}
    site.put(ALICE, 0, chain(ALICE, 12, object=hostile, run={"dag": HOSTILE, "run": HOSTILE}))
    told = chain(BOB, 4, is_closed=False)
    for _ in range(2):
        refused = event(BOB, len(told), told[-1], result="refused", why="rule_denied")
        told.append(refused)
    site.put(BOB, 0, told)
    site.run()
    (site.path / "keys").write_text(site.signer.public.line())
    site.keys = ("--keys", site.path / "keys")
    return site


def pack(site, selection=SELECTED, *, note=None, path="pack.zip", kept=None):
    beside = Beside(
        note=note or site.reader().checkpoint(),
        keys=[site.signer.public],
        verifier=VERIFY.read_bytes(),
        kept=kept,
    )
    with (site.path / path).open("w+b") as stream:
        packed = write_pack(site.reader(), selection, beside, stream)
    return packed, site.path / path


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repack(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("selection", [SELECTED, Selection()], ids=["selected", "whole"])
def test_one_checkpoint_and_selection_are_one_file(signed, selection):
    note = signed.reader().checkpoint()
    first, one = pack(signed, selection, note=note, path="one.zip")
    signed.put("cc" * 16, 0, chain("cc" * 16, 9))
    signed.run()

    second, two = pack(signed, selection, note=note, path="two.zip")

    assert one.read_bytes() == two.read_bytes()
    assert first == second
    infos = zipfile.ZipFile(two).infolist()
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}


def test_what_is_in_a_pack(signed):
    packed, path = pack(signed)

    names = list(contents(path))
    front = ["README.txt", "pack.json", "checkpoint", "log_keys", "verify.py"]
    assert names[:5] == front
    proofs = [name for name in names if name.startswith("proofs/")]
    assert len(proofs) == packed.events == 15
    assert names[5:] == [*proofs, "report.html"]
    about = json.loads(contents(path)["pack.json"])
    assert (about["format"], about["events"], about["whole"]) == ("asml-evidence/1", 15, False)
    assert contents(path)["verify.py"] == VERIFY.read_bytes()


def test_the_packed_verifier_says_whole(signed, outsider):  # noqa: F811
    _, path = pack(signed)

    report = outsider.report(path, *signed.keys)

    assert (report["verdict"], report["checked"]) == ("whole", 15)


def _change_event(files):
    name = next(name for name in files if name.startswith("proofs/"))
    lines = files[name].split(b"\n")
    other = files[sorted(name for name in files if name.startswith("proofs/"))[1]].split(b"\n")
    lines[1] = other[1]
    return {**files, name: b"\n".join(lines)}


def _without(files, start):
    name = next(name for name in files if name.startswith(start))
    return {key: data for key, data in files.items() if key != name}


def _flip(files, name):
    data = bytearray(files[name])
    data[len(data) // 2] ^= 1
    return {**files, name: bytes(data)}


def _exchange(files):
    first, second = sorted(name for name in files if name.startswith("proofs/"))[:2]
    return {**files, first: files[second], second: files[first]}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (_change_event, 1),
        (_exchange, 1),
        (lambda files: _without(files, "proofs/"), 4),
        (lambda files: _without(files, "checkpoint"), 4),
        (lambda files: _flip(files, "checkpoint"), 1),
        (lambda files: {**files, "pack.json": b"{}"}, 1),
        (lambda files: {**files, "proofs/000000000000.tlog-proof": b"x"}, 1),
        (lambda files: {**files, "log_keys": b"nothing believes these"}, 0),
    ],
    ids=["event", "exchanged", "left-out", "no-note", "note", "about", "added", "keys-inside"],
)
def test_a_changed_pack_is_caught(signed, outsider, change, status):  # noqa: F811
    _, path = pack(signed)
    repack(path, change(contents(path)))

    assert outsider.report(path, *signed.keys)["status"] == status


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_proof_that_is_there_twice_does_not_stand_for_another(signed, outsider):  # noqa: F811
    _, path = pack(signed)
    files = contents(path)
    gone, kept = [name for name in files if name.startswith("proofs/")][:2]
    repack(path, {name: data for name, data in files.items() if name != gone})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(kept, files[kept])

    report = outsider.report(path, *signed.keys)

    assert report["status"] == 1
    assert "twice" in report["problem"]


def test_a_byte_changed_in_the_zip_is_caught(signed, outsider):  # noqa: F811
    _, path = pack(signed)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"tlog-proof@v1") + 60] ^= 1
    path.write_bytes(data)

    assert outsider.report(path, *signed.keys)["status"] == 1


def test_half_a_zip_is_caught(signed, outsider):  # noqa: F811
    _, path = pack(signed)
    path.write_bytes(path.read_bytes()[:-100])

    assert outsider.report(path, *signed.keys)["status"] == 1


@pytest.fixture
def grown(signed):
    """A log whose reader kept a checkpoint before it grew: (the log, what was kept)."""
    kept = signed.reader().checkpoint()
    (signed.path / "kept").write_text(kept)
    signed.put("cc" * 16, 0, chain("cc" * 16, 9))
    signed.run()
    return signed, kept


@pytest.mark.parametrize("selection", [SELECTED, Selection()], ids=["selected", "whole"])
def test_a_pack_shows_that_the_log_grew_from_what_was_kept(grown, selection, outsider):  # noqa: F811
    signed, kept = grown
    _, path = pack(signed, selection, kept=kept)

    report = outsider.report(path, *signed.keys, "--checkpoint", signed.path / "kept")

    assert (report["status"], report["kept_size"]) == (0, 23)


def test_without_that_a_selection_says_nothing_about_it(grown, outsider):  # noqa: F811
    signed, _ = grown
    _, path = pack(signed)

    report = outsider.report(path, *signed.keys, "--checkpoint", signed.path / "kept")

    assert (report["status"], "one history" in report["problem"]) == (5, True)


def test_a_changed_proof_of_growth_is_caught(grown, outsider):  # noqa: F811
    signed, kept = grown
    _, path = pack(signed, kept=kept)
    files = contents(path)
    (name,) = (name for name in files if name.startswith("consistency/"))
    lines = files[name].splitlines(keepends=True)
    repack(path, {**files, name: b"".join([lines[-1], *lines[:-1]])})

    report = outsider.report(path, *signed.keys, "--checkpoint", signed.path / "kept")

    assert report["status"] == 1


def test_a_log_that_did_not_grow_from_what_was_kept_is_not_packed(grown):
    signed, _ = grown
    older, newest = signed.reader().checkpoint(at_most=23), signed.reader().checkpoint()

    with pytest.raises(AuditLogError, match="cut or rolled back"):
        pack(signed, note=older, kept=newest)


def test_cosignatures_come_along_and_are_counted(signed, outsider):  # noqa: F811
    secret = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    witness = CosignerKey(
        name="witness.example/w1", public_key=secret.public_key().public_bytes_raw()
    )
    note = signed.reader().checkpoint()
    line = cosign(parse_note(note).text, witness, secret.sign, time_s=1_795_316_400)
    _, path = pack(signed, note=cosigned_note(note, [encode_lines([line])]))
    (signed.path / "witnesses").write_text(f"{witness.vkey()}\n")
    known = ("--witness-keys", signed.path / "witnesses", "--witnesses")

    one = outsider.report(path, *signed.keys, *known, 1)
    two = outsider.report(path, *signed.keys, *known, 2)

    assert (one["status"], one["cosigned_by"]) == (0, ["witness.example/w1"])
    assert (two["status"], "2 are asked for" in two["problem"]) == (5, True)


def test_a_known_witness_whose_line_does_not_hold_is_caught(signed, outsider):  # noqa: F811
    secret = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    witness = CosignerKey(name="w", public_key=secret.public_key().public_bytes_raw())
    note = signed.reader().checkpoint()
    line = cosign("another text\n", witness, secret.sign, time_s=1_795_316_400)
    _, path = pack(signed, note=cosigned_note(note, [encode_lines([line])]))
    (signed.path / "witnesses").write_text(f"{witness.vkey()}\n")

    report = outsider.report(path, *signed.keys, "--witness-keys", signed.path / "witnesses")

    assert report["status"] == 1


SALT = bytes(range(16))
NAME = hidden_hash("Ada", SALT)


@pytest.fixture
def named(signed):
    """A log in which DORA's five events name a person; two more values lie aside unnamed."""
    by = {"h": NAME, "n": 3}
    signed.put("d0" * 16, 0, chain("d0" * 16, 5, by=by, more={"list": [by]}))
    signed.run()
    for h, value in ((NAME, "Ada"), (hidden_hash("Bob", SALT), "Bob")):
        attack(signed, ("INSERT INTO aside(h, salt, value) VALUES (?, ?, ?)", (h, SALT, value)))
    return signed


WITH_VALUES = replace(SELECTED, with_values=True)


def test_hidden_values_are_given_out_only_if_asked(named, outsider):  # noqa: F811
    without, plain = pack(named)
    packed, path = pack(named, WITH_VALUES, path="values.zip")

    assert (without.values, b"Ada" in plain.read_bytes()) == (0, False)
    assert packed.values == 1
    assert json.loads(contents(path)["values.json"]) == [[NAME, SALT.hex(), "Ada"]]
    assert b"Bob" not in path.read_bytes()
    assert b"Ada" not in contents(path)["report.html"]
    report = outsider.report(path, *named.keys)
    assert (report["status"], report["values"]) == (0, 1)


def test_what_was_erased_is_not_there(named, outsider):  # noqa: F811
    attack(named, ("UPDATE aside SET salt = NULL, value = NULL", ()))

    packed, path = pack(named, replace(Selection(), with_values=True))

    assert packed.values == 0
    assert outsider.report(path, *named.keys)["status"] == 0


@pytest.mark.parametrize(
    "rows",
    [
        [[NAME, SALT.hex(), "Eve"]],
        [[hidden_hash("Bob", SALT), SALT.hex(), "Bob"]],
        [[NAME, (SALT + b"A").hex(), "da"]],
        {"no": "rows"},
    ],
    ids=["another-name", "of-no-event", "salt", "no-rows"],
)
def test_a_value_that_is_not_behind_an_event_is_caught(named, outsider, rows):  # noqa: F811
    _, path = pack(named, WITH_VALUES)
    repack(path, {**contents(path), "values.json": json.dumps(rows).encode()})

    assert outsider.report(path, *named.keys)["status"] == 1


def test_a_value_that_was_exchanged_is_not_packed(named):
    attack(named, ("UPDATE aside SET value = 'Eve'", ()))

    with pytest.raises(AuditLogError, match="exchanged"):
        pack(named, WITH_VALUES)


def test_a_selection_has_nothing_that_was_not_selected(signed):
    query = EventQuery(results=("refused",))

    packed, path = pack(signed, Selection(query=query, words="result=refused"))

    assert packed.events == 2
    assert ALICE.encode() not in path.read_bytes()


def test_events_that_the_checkpoint_does_not_cover_are_left_out(signed):
    note = signed.reader().checkpoint()
    signed.put("cc" * 16, 0, chain("cc" * 16, 9))
    signed.run()

    packed, _ = pack(signed, note=note)

    assert packed.events == 15


def test_a_store_that_was_changed_is_not_packed(signed):
    attack(signed, ("UPDATE leaf SET data = replace(data, 'object.open', 'object.seal')", ()))

    for selection in (SELECTED, Selection()):
        with pytest.raises(AuditLogError):
            pack(signed, selection)


def test_a_checkpoint_of_an_unknown_key_is_not_packed(signed):
    beside = Beside(note=signed.reader().checkpoint(), keys=[], verifier=b"")

    with pytest.raises(PolicyError):
        write_pack(signed.reader(), SELECTED, beside, io.BytesIO())


def test_a_selection_that_is_too_large_is_refused(signed, monkeypatch):
    monkeypatch.setattr(evidence, "MAX_SELECTED", 14)

    with pytest.raises(ConfigurationError, match="more than 14 events"):
        pack(signed)


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("selection", [SELECTED, Selection()], ids=["selected", "whole"])
def test_no_text_of_an_event_becomes_markup(signed, selection):
    _, path = pack(signed, selection)
    page = contents(path)["report.html"].decode("utf-8")

    found = _Tags()
    found.feed(page)

    known = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "pre", "span"}
    assert found.tags <= known | {"table", "tr", "th", "td"}
    assert found.attributes <= {"lang", "charset", "http-equiv", "content", "class", "id"}
    assert "\u202e" not in page
    assert "script-src" not in page
    assert "default-src 'none'" in page


def test_hostile_names_are_shown_as_they_are(signed):
    _, path = pack(signed)
    found = _Tags()
    found.feed(contents(path)["report.html"].decode("utf-8"))

    assert HOSTILE.replace("\u202e", "\\u202e") in "".join(found.text)


def test_every_figure_names_its_leaves(signed):
    _, path = pack(signed)
    page = contents(path)["report.html"].decode("utf-8")

    rows = re.findall(r"<tr><td>([^<]*)<td>([^<]*)<td>(\d+)<td>([^<]*)", page)
    with signed.reader().whole() as log:
        told = {index: json.loads(data) for index, data, _ in log.leaves()}
    for act, result, count, leaves in rows:
        spans = [span.split("–") for span in leaves.strip().split(", ")]
        named = [n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]
        assert len(named) == int(count)
        assert {(told[n]["act"], told[n]["result"]) for n in named} == {(act, result)}
    assert [(act, result, count) for act, result, count, _ in rows] == [
        ("object.open", "ok", "13"),
        ("object.open", "refused", "2"),
    ]


def test_a_report_on_millions_of_events_stays_small(signed):
    pack(signed)
    report = EvidenceReport(
        checkpoint=evidence.open_checkpoint(signed.reader().checkpoint(), [signed.signer.public]),
        note="",
        words="",
    )
    one = {"act": "object.open", "result": "refused", "time": 0, "emitter": ALICE, "seq": 1}
    for index in range(0, 3 * MAX_RANGES, 2):
        report.add(index, one, is_listed=False)

    page = report.render()

    assert page.count("<tr id=") == MAX_LISTED
    assert f"{3 * MAX_RANGES // 2 - MAX_LISTED} more were refused or failed" in page
    assert "more: verify.py --list" in page
