from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core import dsse, statement
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.statement import Producer, Statement, Suite
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "statement"
ZERO = Digest(algorithm="sha256", hex="0" * 64)
MANIFEST = Manifest.of([Entry(path="", size_bytes=5, digest=ZERO, core_id="c" * 64)])
STATEMENT = Statement(
    object="file:///data/table.csv",
    manifest=MANIFEST,
    act="write",
    signed_ms=1795316400061,
    producer=Producer(dag_id="churn", task_id="train", run_id="manual__1"),
    context={"object": "file:///data/table.csv", "site": "4"},
    suites=(Suite(name="patients", digest=ZERO),),
)
FROZEN = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"act":"write",'
    '"context":{"object":"file:///data/table.csv","site":"4"},'
    '"manifest":[{"bytes":5,"core":"' + "c" * 64 + '","digest":"sha256:' + "0" * 64 + '",'
    '"path":""}],"object":"file:///data/table.csv","producer":{"dag_id":"churn","map_index":-1,'
    '"run_id":"manual__1","task_id":"train"},"sealed":true,"signed_ms":1795316400061,'
    '"suites":[{"digest":"sha256:' + "0" * 64 + '","name":"patients"}]},'
    '"predicateType":"urn:airflow-secure-ml:artifact:v1","subject":[{"digest":{"sha256":"'
    + MANIFEST.digest.removeprefix("sha256:")
    + '"},"name":"file:///data/table.csv"}]}'
).encode()


def test_the_statement_is_frozen():
    assert STATEMENT.encode() == FROZEN
    assert MANIFEST.digest == (
        "sha256:36ed71375b338dffdffadd760e23e8eeab2d210d442acedbb620228ea3c95479"
    )


def test_a_statement_comes_back_whole():
    assert statement.parse(FROZEN) == STATEMENT


def test_a_statement_without_a_task_comes_back_whole():
    alone = Statement(object="file:///x", manifest=MANIFEST, act="sign", signed_ms=0)

    assert statement.parse(alone.encode()) == alone


def edited(path: str, value: Any) -> bytes:
    """The statement with one field set (or, given `...`, removed)."""
    record = json.loads(FROZEN)
    *parents, last = path.split(".")
    part = record
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    if value is ...:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("extra", "1"),
        ("subject", []),
        ("subject.0.name", "file:///data/other.csv"),
        ("subject.0.digest.sha256", "0" * 64),
        ("subject.0.digest.sha512", "0" * 128),
        ("predicate", ...),
        ("predicate", 1),
        ("predicate.extra", "1"),
        ("predicate.object", "file:///data/other.csv"),
        ("predicate.object", ""),
        ("predicate.sealed", False),
        ("predicate.sealed", 1),
        ("predicate.manifest", []),
        ("predicate.manifest.0.path", "../../etc/passwd"),
        ("predicate.manifest.0.bytes", 6),
        ("predicate.manifest.0.core", ...),
        ("predicate.act", "read"),
        ("predicate.signed_ms", True),
        ("predicate.signed_ms", -1),
        ("predicate.signed_ms", "1"),
        ("predicate.context", []),
        ("predicate.context.site", 4),
        ("predicate.context.site", "x" * 8193),
        ("predicate.context", {f"k{n}": "v" for n in range(65)}),
        ("predicate.suites", {}),
        ("predicate.suites.0.name", 1),
        ("predicate.suites.0.extra", "1"),
        ("predicate.producer.map_index", True),
        ("predicate.producer.task_id", ...),
        ("predicate.producer.extra", "1"),
        ("predicate.producer", {}),
    ],
)
def test_an_edited_statement_is_refused(path, value):
    with pytest.raises(FormatError):
        statement.parse(edited(path, value))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"1",
        FROZEN + b" ",
        FROZEN[:-1] + b',"subject":[]}',
        FROZEN.replace(b'"act":"write"', b'"act":"sign","act":"write"'),
        b'{"a":' * 50_000,
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_bytes_that_are_no_statement_are_refused(payload):
    with pytest.raises(FormatError):
        statement.parse(payload)


def test_a_huge_statement_is_refused_by_its_length():
    with pytest.raises(FormatError, match="at most"):
        statement.parse(b" " * (statement.MAX_STATEMENT_BYTES + 1))


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(FormatError, match="UTF-8"):
        Statement(object="file:///\ud800", manifest=MANIFEST, act="sign", signed_ms=0)


def test_the_frozen_envelope_holds_for_any_ed25519_library():
    record = json.loads((VECTORS / "signed.dsse.json").read_bytes())
    public = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()

    payload = base64.b64decode(record["payload"])

    assert payload == FROZEN
    public.verify(
        base64.b64decode(record["signatures"][0]["sig"]),
        b"DSSEv1 28 application/vnd.in-toto+json %d " % len(FROZEN) + FROZEN,
    )
    assert dsse.parse((VECTORS / "signed.dsse.json").read_bytes()).signatures[0].key == "pipeline/3"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(
    context=st.dictionaries(texts, texts, max_size=4),
    names=st.lists(texts, max_size=3),
    signed_ms=st.integers(0, 2**53 - 1),
)
def test_any_statement_comes_back_whole(context, names, signed_ms):
    said = Statement(
        object="file:///x",
        manifest=MANIFEST,
        act="write",
        signed_ms=signed_ms,
        context=context,
        suites=tuple(Suite(name=name, digest=ZERO) for name in names),
    )

    assert statement.parse(said.encode()) == said


@given(st.integers(0, len(FROZEN) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_says_something_else(at, flip):
    edited = bytearray(FROZEN)
    edited[at] ^= flip

    try:
        said = statement.parse(bytes(edited))
    except FormatError:
        return
    assert said != STATEMENT


def test_the_frozen_statement_of_what_was_sealed_anew_is_read_and_written():
    record = json.loads((VECTORS / "resealed.dsse.json").read_bytes())
    payload = base64.b64decode(record["payload"])
    public = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()

    said = statement.parse(payload)

    assert (said.act, said.replaces) == ("write", MANIFEST.digest)
    assert said.encode() == payload
    public.verify(
        base64.b64decode(record["signatures"][0]["sig"]),
        b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload,
    )
    assert dsse.parse((VECTORS / "resealed.dsse.json").read_bytes()).signatures[0].value


@pytest.mark.parametrize("given", [None, 1, "", "sha256:1", "sha1:" + "0" * 40, ["x"]])
def test_what_it_replaces_is_a_digest_or_is_not_there(given):
    with pytest.raises(FormatError):
        statement.parse(edited("predicate.replaces", given))
