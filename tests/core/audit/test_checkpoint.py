"""Checkpoints and signed notes: AUDIT_TRAIL's worked example, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    LogKey,
    open_checkpoint,
    parse_checkpoint,
    parse_log_keys,
    parse_note,
    parse_vkey,
    sign_checkpoint,
)
from airflow_secure_ml.core.audit.tree import inclusion_path, leaf_hash, root_from_path, root_of
from airflow_secure_ml.errors import FormatError, PolicyError, SecureMLError, SignatureError

ORIGIN = "example.org/asml-trail/7f3a9c20"
VKEY = f"{ORIGIN}+677f7721+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
ROOT = bytes.fromhex("8d45fdcea534e62e36c252a2684b527a1084a0c2a0150bc36a0a1a56b7bfc19d")
NOTE = (
    f"{ORIGIN}\n10\njUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ0=\n\n"
    f"— {ORIGIN} Z393IXtQ1s55i69rtC9QfKac3Th+j2xO+M0CrJ21Fe8B9FjhbHQh7GKsNXtZu7JqYcpOxalNl0fy"
    "Zi56gkzRLf9pFQc=\n"
)
SEED = bytes(range(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
LEAVES = Path(__file__).parents[2] / "vectors" / "v1" / "trail" / "leaves.txt"


def read_leaves():
    return [line.encode("utf-8") for line in LEAVES.read_text("utf-8").splitlines()]


def sign(checkpoint, key):
    return sign_checkpoint(checkpoint, key.public_key().public_bytes_raw(), key.sign)


def test_the_worked_example_s_leaves_have_its_root_and_its_path():
    hashes = [leaf_hash(leaf) for leaf in read_leaves()]

    path = inclusion_path(3, 10, lambda level, n: root_of(hashes[n << level : (n + 1) << level]))

    assert hashes[4].hex() == "b198816de683aefdf1c78dccb37b00d2883982ed255f76c478be8fa895eb8679"
    assert root_of(hashes) == ROOT
    assert [step.hex() for step in path] == [
        "28bbf348f15c6047b607da4d7946120c259df2dc2389b2c9212c1f23251963bf",
        "97b5062f861234d48e8f325f74902e667da376b171772aca523c4e5ff799f7be",
        "75d9f7273ea442866188936b8227787eac0d48a2f30df4de1a5eea3c24e550d9",
        "3d317b213d2b113ccf0fa8f9d63938ef348b61bdefa89a062e06466f7e14eb42",
    ]
    assert root_from_path(3, 10, hashes[3], path) == ROOT


def test_the_worked_example_is_signed_byte_for_byte():
    key = Ed25519PrivateKey.from_private_bytes(SEED)

    note = sign(Checkpoint(origin=ORIGIN, size=10, root=ROOT), key)

    assert note == NOTE
    assert LogKey(name=ORIGIN, public_key=key.public_key().public_bytes_raw()).vkey() == VKEY


def test_the_worked_example_verifies():
    found = open_checkpoint(NOTE, [parse_vkey(VKEY)], origin=ORIGIN)

    assert found == Checkpoint(origin=ORIGIN, size=10, root=ROOT)
    assert parse_note(NOTE).encode() == NOTE


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_note_is_refused(at, flip):
    changed = bytearray(NOTE.encode("utf-8"))
    changed[at] ^= flip

    with pytest.raises(SecureMLError):
        open_checkpoint(changed.decode("utf-8", "replace"), [parse_vkey(VKEY)], origin=ORIGIN)


def test_a_note_signed_again_by_another_key_is_refused():
    forged = sign(Checkpoint(origin=ORIGIN, size=10, root=b"\x01" * 32), OTHER)

    with pytest.raises(PolicyError, match="signed by no key known"):
        open_checkpoint(forged, [parse_vkey(VKEY)])


def test_another_key_under_a_known_key_s_id_is_refused():
    note = parse_note(NOTE)
    body = note.text.replace("\n10\n", "\n11\n")
    line = (
        f"— {ORIGIN} "
        + base64.b64encode(bytes.fromhex("677f7721") + OTHER.sign(body.encode("utf-8"))).decode()
    )

    with pytest.raises(SignatureError, match="fails"):
        open_checkpoint(f"{body}\n{line}\n", [parse_vkey(VKEY)])


def test_a_second_signature_of_a_stranger_is_kept_and_says_nothing():
    stranger = f"— witness.example/w1 {base64.b64encode(b'1234' + bytes(72)).decode()}\n"

    found = open_checkpoint(NOTE + stranger, [parse_vkey(VKEY)])

    assert found.size == 10
    assert parse_note(NOTE + stranger).signatures[1].name == "witness.example/w1"


@pytest.mark.parametrize(
    ("span", "is_known"),
    [("0 -", True), ("10 10", True), ("0 9", False), ("11 -", False)],
    ids=["still in use", "exactly", "retired before", "new after"],
)
def test_a_key_is_unknown_outside_its_range(span, is_known):
    keys = parse_log_keys(f"# kept by the audit office\n{VKEY} {span}\n")

    if is_known:
        assert open_checkpoint(NOTE, keys).size == 10
    else:
        with pytest.raises(PolicyError):
            open_checkpoint(NOTE, keys)
    assert keys[0].line() == f"{VKEY} {span}\n"


@pytest.mark.parametrize(
    "text",
    [
        "x\n1\n",
        f"{ORIGIN}\n01\njUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ0=\n",
        f"{ORIGIN}\n-1\njUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ0=\n",
        f"{ORIGIN}\n1\nAAAA\n",
        f"{ORIGIN}\n1\njUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ1=\n",
        f"{ORIGIN}\n1\njUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ0=\nextension\n",
    ],
    ids=["two lines", "padded size", "negative", "short root", "spare bits", "extension"],
)
def test_what_is_not_a_checkpoint_is_refused(text):
    with pytest.raises(FormatError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text",
    ["", "a+b", VKEY.replace("677f7721", "677f7722"), VKEY.replace("+AQ", "+AA"), f"{VKEY} 0"],
    ids=["empty", "two parts", "another id", "another algorithm", "trailing"],
)
def test_what_is_not_a_verifier_key_is_refused(text):
    with pytest.raises(FormatError):
        parse_vkey(text)


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_raise_anything_else(text):
    for parse in (parse_note, parse_checkpoint, parse_vkey, parse_log_keys):
        try:
            parse(text)
        except FormatError:
            continue
