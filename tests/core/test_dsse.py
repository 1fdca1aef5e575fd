from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core import dsse
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError
from tests.signing_keys import MALLORY, PIPELINE, RELEASE, Key


def test_what_is_signed_is_the_published_example():
    encoded = dsse.pre_authentication("http://example.com/HelloWorld", b"hello world")

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_envelope_is_frozen():
    envelope = dsse.sign(b"{}", [PIPELINE])

    signature = PIPELINE.sign(b"DSSEv1 28 application/vnd.in-toto+json 2 {}")
    assert envelope.encode() == (
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json",'
        b'"signatures":[{"keyid":"pipeline/3","sig":"%b"}]}' % base64.b64encode(signature)
    )


@given(st.binary(max_size=200))
def test_an_envelope_comes_back_whole(payload):
    envelope = dsse.parse(dsse.sign(payload, [PIPELINE, RELEASE]).encode())

    assert dsse.verify(envelope, [RELEASE]) == (payload, (RELEASE.ref,))


def test_every_accepted_signer_is_named():
    envelope = dsse.sign(b"x", [PIPELINE, RELEASE])

    _, signers = dsse.verify(envelope, [PIPELINE, RELEASE])

    assert signers == (PIPELINE.ref, RELEASE.ref)


def test_a_forged_signature_under_our_name_is_refused():
    with pytest.raises(SignatureError) as caught:
        dsse.verify(dsse.sign(b"x", [MALLORY]), [PIPELINE])

    assert caught.value.why == "signature_invalid"


def test_an_unknown_key_is_not_accepted():
    with pytest.raises(PolicyError, match=r"signed by release/1; accepted .* pipeline/3") as caught:
        dsse.verify(dsse.sign(b"x", [RELEASE]), [PIPELINE])

    assert caught.value.why == "signer_not_accepted"


def test_nobody_accepted_means_nobody():
    with pytest.raises(PolicyError, match="nobody"):
        dsse.verify(dsse.sign(b"x", [PIPELINE]), [])


def test_a_key_id_of_ours_on_anothers_signature_is_refused():
    record = json.loads(dsse.sign(b"x", [RELEASE]).encode())
    record["signatures"][0]["keyid"] = "pipeline/3"

    with pytest.raises(SignatureError):
        dsse.verify(dsse.parse(canonical(record)), [PIPELINE, RELEASE])


def test_a_forged_signature_beside_a_good_one_is_not_counted():
    record = json.loads(dsse.sign(b"x", [PIPELINE, RELEASE]).encode())
    record["signatures"][1]["sig"] = base64.b64encode(b"\0" * 64).decode()

    _, signers = dsse.verify(dsse.parse(canonical(record)), [PIPELINE, RELEASE])

    assert signers == (PIPELINE.ref,)


def test_an_edited_payload_is_refused():
    record = json.loads(dsse.sign(b"x", [PIPELINE]).encode())
    record["payload"] = base64.b64encode(b"y").decode()

    with pytest.raises(SignatureError):
        dsse.verify(dsse.parse(canonical(record)), [PIPELINE])


def canonical(record: Any) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


GOOD: dict[str, Any] = json.loads(dsse.sign(b"x", [PIPELINE]).encode())
ONE = GOOD["signatures"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "text/plain"},
        {"payloadType": 1},
        {"payload": "eA"},
        {"payload": "eB=="},
        {"payload": "e A=="},
        {"payload": "-_8="},
        {"signatures": []},
        {"signatures": [ONE] * 17},
        {"signatures": ONE},
        {"signatures": [{**ONE, "sig": base64.b64encode(b"\0" * 63).decode()}]},
        {"signatures": [{**ONE, "keyid": ""}]},
        {"signatures": [{**ONE, "keyid": "a\nb"}]},
        {"signatures": [{**ONE, "keyid": "k" * 257}]},
        {"signatures": [{**ONE, "extra": "1"}]},
        {"signatures": [{"sig": ONE["sig"]}]},
        {"more": "1"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_an_envelope_of_another_shape_is_refused(change):
    with pytest.raises(FormatError):
        dsse.parse(canonical({**GOOD, **change}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        canonical(GOOD) + b"\n",
        json.dumps(GOOD, sort_keys=True).encode(),
        canonical(GOOD)[:-1] + b',"signatures":[]}',
        b'{"payload":"eA==",' + canonical(GOOD)[1:],
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_bytes_that_are_no_canonical_envelope_are_refused(data):
    with pytest.raises(FormatError):
        dsse.parse(data)


@given(st.data())
def test_a_flipped_byte_never_passes(data):
    encoded = bytearray(dsse.sign(b"payload", [PIPELINE]).encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises((FormatError, SignatureError, PolicyError)):
        dsse.verify(dsse.parse(bytes(encoded)), [PIPELINE])


def test_a_signer_is_called_by_our_name_for_it_whatever_its_signatures_say():
    class Partner(Key):
        key_id = "pipeline/3"

    theirs, ours = Partner("partner", "1", 66), PIPELINE

    _, signers = dsse.verify(dsse.sign(b"x", [MALLORY]), [ours, theirs])

    assert [str(each) for each in signers] == ["partner/1"]
