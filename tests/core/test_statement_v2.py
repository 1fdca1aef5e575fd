from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core import dsse, statement
from airflow_secure_ml.core.manifest import (
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Commitment,
    Manifest,
)
from airflow_secure_ml.core.statement import MAX_INLINE_BYTES, Producer, Statement
from airflow_secure_ml.errors import FormatError
from tests.signing_keys import PIPELINE

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "statement_v2"
DIGEST = "d4e8364c7d2807e721ac2888a627b8f3b40a29e058980c79a6e8f1f0288c4136"
FROZEN = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"act":"write",'
    '"context":{"object":"file:///data/set","site":"4"},'
    '"manifest":{"algorithm":"sha256","bytes":4780,"digest":"sha256:' + DIGEST + '",'
    '"files":40,"length":7691},"object":"file:///data/set","producer":{"dag_id":"churn",'
    '"map_index":-1,"run_id":"manual__1","task_id":"train"},"sealed":true,'
    '"signed_ms":1795316400061,"suites":[{"digest":"sha256:' + "0" * 64 + '","name":"patients"}]},'
    '"predicateType":"urn:airflow-secure-ml:artifact:v2","subject":[{"digest":{"sha256":"'
    + DIGEST
    + '"},"name":"file:///data/set"}]}'
).encode()


def manifest_bytes() -> bytes:
    return (VECTORS / f"sha256-{DIGEST}.manifest").read_bytes()


def test_the_frozen_envelope_holds_for_any_ed25519_library():
    record = json.loads((VECTORS / "signed.dsse.json").read_bytes())
    public = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()

    payload = base64.b64decode(record["payload"])

    assert payload == FROZEN
    public.verify(
        base64.b64decode(record["signatures"][0]["sig"]),
        b"DSSEv1 28 application/vnd.in-toto+json %d " % len(FROZEN) + FROZEN,
    )


def test_the_frozen_manifest_is_the_one_that_was_signed():
    data = manifest_bytes()

    manifest = Manifest.parse(data)

    assert hashlib.sha256(data).hexdigest() == DIGEST
    assert manifest.canonical == data
    assert manifest.entries[7].path == "part-07.csv"
    assert manifest.commitment == statement.parse(FROZEN).manifest


def test_the_frozen_statement_is_written_again_alike():
    said = statement.parse(FROZEN)
    whole = Statement(
        object="file:///data/set",
        manifest=Manifest.parse(manifest_bytes()),
        act="write",
        signed_ms=1795316400061,
        producer=Producer(dag_id="churn", task_id="train", run_id="manual__1"),
        context={"object": "file:///data/set", "site": "4"},
        suites=said.suites,
    )

    envelope = dsse.sign(whole.shortened().encode(), [PIPELINE])

    assert envelope.encode() == (VECTORS / "signed.dsse.json").read_bytes()
    assert whole.shortened() == said
    assert whole.commitment == said.commitment


def test_a_statement_is_short_up_to_the_last_byte():
    one = Manifest.of(Manifest.parse(manifest_bytes()).entries[:1])

    def of(length: int) -> Statement:
        return Statement(
            object="o" * length,
            manifest=one,
            act="sign",
            signed_ms=0,
        )

    # The address stands in it twice.
    room = (MAX_INLINE_BYTES - len(of(1).encode())) // 2

    assert of(1 + room).shortened() == of(1 + room)
    assert of(2 + room).shortened().manifest == one.commitment


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
        part[last] = value
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("predicateType", "urn:airflow-secure-ml:artifact:v1"),
        ("predicateType", "urn:airflow-secure-ml:artifact:v3"),
        ("predicate.manifest", json.loads(manifest_bytes())["files"]),
        ("predicate.manifest", []),
        ("predicate.manifest", "sha256:" + DIGEST),
        ("predicate.manifest", ...),
        ("predicate.manifest.digest", "sha256:" + "0" * 64),
        ("predicate.manifest.digest", "blake3:" + DIGEST),
        ("predicate.manifest.digest", DIGEST),
        ("predicate.manifest.digest", ...),
        ("predicate.manifest.algorithm", "md5"),
        ("predicate.manifest.algorithm", ...),
        ("predicate.manifest.files", 0),
        ("predicate.manifest.files", -1),
        ("predicate.manifest.files", True),
        ("predicate.manifest.files", "40"),
        ("predicate.manifest.files", MAX_FILES + 1),
        ("predicate.manifest.files", ...),
        ("predicate.manifest.bytes", -1),
        ("predicate.manifest.bytes", True),
        ("predicate.manifest.bytes", ...),
        ("predicate.manifest.length", 0),
        ("predicate.manifest.length", MAX_MANIFEST_BYTES + 1),
        ("predicate.manifest.length", ...),
        ("predicate.manifest.more", "1"),
        ("predicate.sealed", "true"),
        ("predicate.sealed", ...),
        ("subject.0.digest.sha256", "0" * 64),
    ],
)
def test_another_shape_is_refused(path, value):
    with pytest.raises(FormatError):
        statement.parse(edited(path, value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"files":[]}',
        b'{"files":{}}',
        b'{"files":[{}]}',
        b'{"file":[]}',
        manifest_bytes()[:-1] + b',"more":1}',
        manifest_bytes() + b"\n",
        manifest_bytes().replace(b"part-07", b"part-99"),
        manifest_bytes().replace(b"part-07", b"part-06"),
        manifest_bytes().replace(b"part-07", b"../x-07"),
    ],
    ids=[
        "empty",
        "list",
        "no_files",
        "object",
        "entry",
        "name",
        "more",
        "newline",
        "unsorted",
        "twice",
        "out",
    ],
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(FormatError):
        Manifest.parse(data)


@given(
    st.builds(
        Commitment,
        digest=st.just(f"sha256:{DIGEST}"),
        length_bytes=st.integers(1, MAX_MANIFEST_BYTES),
        files=st.integers(1, MAX_FILES),
        size_bytes=st.integers(0, 2**53 - 1),
        algorithm=st.sampled_from(["sha256", "blake3"]),
        is_sealed=st.booleans(),
    )
)
def test_any_commitment_comes_back_whole(commitment):
    said = Statement(object="file:///x", manifest=commitment, act="write", signed_ms=1)

    assert statement.parse(said.encode()) == said


@given(st.integers(0, len(FROZEN) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_says_something_else(at, flip):
    data = bytearray(FROZEN)
    data[at] ^= flip

    try:
        said = statement.parse(bytes(data))
    except FormatError:
        return
    assert said != statement.parse(FROZEN)
