"""Cosignatures: the vectors, C2SP's own example, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.add_checkpoint import (
    MAX_PROOF,
    AddCheckpoint,
    parse_add_checkpoint,
    parse_size,
)
from airflow_secure_ml.core.audit.checkpoint import open_checkpoint, parse_note, parse_vkey
from airflow_secure_ml.core.audit.cosignature import (
    CosignerKey,
    cosign,
    cosigned_note,
    cosigners,
    encode_lines,
    parse_cosigner,
    parse_lines,
    parse_witnesses,
)
from airflow_secure_ml.core.ed25519 import Ed25519Signer, public_of
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import ConfigurationError, FormatError, SignatureError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "cosignature"
ORIGIN = "example.org/asml-trail/7f3a9c20"
LOG = parse_vkey(f"{ORIGIN}+677f7721+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4")
TIME_S = 1_679_315_147
SEED = bytes(range(32, 64))
KEY = CosignerKey(name="witness.example/w1", public_key=public_of(SEED))
SIGN = Ed25519Signer(SEED, KeyRef(system="witness", name="w1", version="0")).sign
URL = "https://witness.example/add"
# The text of C2SP tlog-cosignature.
SPEC = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501 - as it stands there


def read(name):
    return (VECTORS / name).read_text("utf-8")


def test_the_vector_is_cosigned_by_its_witness_and_signed_by_its_log():
    note = read("note.txt")
    key = parse_cosigner(read("witness.vkey"))

    assert cosigners(note, [key]) == {key.vkey(): TIME_S}
    assert open_checkpoint(note, [LOG]).size == 10


def test_the_same_key_time_and_text_give_the_vectors_line():
    note = parse_note(read("note.txt"))

    line = cosign(note.text, KEY, SIGN, time_s=TIME_S)

    assert line == note.signatures[1]
    assert KEY.vkey() == read("witness.vkey").strip()


def test_the_vectors_request_is_read_and_written():
    body = (VECTORS / "request.txt").read_bytes()

    asked = parse_add_checkpoint(body)

    assert (asked.old, asked.proof) == (4, (b"\x01" * 32, b"\x02" * 32))
    assert asked.origin == ORIGIN
    assert asked.encode() == body


def test_the_line_of_the_specification_is_laid_out_as_ours():
    # The text names no public key, so its signature cannot be verified; its layout can be read.
    line = parse_note(SPEC).signatures[1]

    assert (line.name, line.key_id.hex()) == ("witness.example.com/w1", "8d66cf3f")
    assert len(line.signature) == 72
    assert int.from_bytes(line.signature[:8], "big") == TIME_S


@pytest.mark.parametrize("at", [0, 7, 8, 71], ids=["time", "last of time", "first", "last"])
def test_a_flipped_byte_is_refused(at):
    note = parse_note(read("note.txt"))
    packed = bytearray(note.signatures[1].signature)
    packed[at] ^= 1
    line = type(note.signatures[1])(name=KEY.name, key_id=KEY.key_id, signature=bytes(packed))

    with pytest.raises(SignatureError):
        KEY.verify(line, note.text)


@pytest.mark.parametrize("length", [0, 1, 64, 71, 73])
def test_a_signature_of_another_length_is_refused(length):
    line = type(parse_note(SPEC).signatures[0])(
        name=KEY.name, key_id=KEY.key_id, signature=b"\x00" * length
    )

    with pytest.raises(SignatureError, match="expected 72"):
        KEY.verify(line, parse_note(SPEC).text)


def test_a_cosignature_says_nothing_of_another_tree():
    note = read("note.txt")

    with pytest.raises(SignatureError):
        cosigners(note.replace("\n10\n", "\n11\n", 1), [KEY])


def test_a_log_signature_is_no_cosignature():
    # The same key, as a log's: another type byte, another id, another message.
    note = parse_note(read("note.txt"))
    line = type(note.signatures[0])(
        name=KEY.name, key_id=KEY.key_id, signature=b"\x00" * 8 + SIGN(note.text.encode())
    )

    with pytest.raises(SignatureError):
        KEY.verify(line, note.text)
    with pytest.raises(FormatError, match="type 0x01"):
        parse_cosigner(LOG.vkey())
    with pytest.raises(FormatError):
        parse_vkey(KEY.vkey())


@pytest.mark.parametrize(
    "lines",
    ["", "\n", "hello\n", "— w AAAA\n", "\n— witness.example/w1 AAAAAAAA\n"],
    ids=["nothing", "blank", "prose", "short", "blank first"],
)
def test_what_is_no_signature_line_is_refused(lines):
    with pytest.raises(FormatError):
        parse_lines(lines, parse_note(read("note.txt")).text)


def test_lines_are_added_once_and_the_logs_own_stay():
    note = read("note.txt")
    log_only = note.rsplit("—", 1)[0]
    line = encode_lines([parse_note(note).signatures[1]])

    assert cosigned_note(log_only, [line]) == note
    assert cosigned_note(note, [line, line]) == note


@given(old=st.integers(0, 10**15), count=st.integers(0, MAX_PROOF), seed=st.binary(min_size=32))
def test_a_request_is_read_as_it_was_written(old, count, seed):
    proof = tuple(seed[:31] + bytes([at]) for at in range(count))
    asked = AddCheckpoint(old=old, proof=proof, note=SPEC)

    assert parse_add_checkpoint(asked.encode()) == asked


def test_more_proof_than_a_tree_can_need_is_refused():
    asked = AddCheckpoint(old=1, proof=(b"\x00" * 32,) * (MAX_PROOF + 1), note=SPEC)

    with pytest.raises(FormatError, match="more than 63"):
        parse_add_checkpoint(asked.encode())


@pytest.mark.parametrize("body", [b"", b"01\n", b"-1\n", b"1\n\n", b"1 \n", b"9" * 30], ids=repr)
def test_an_answer_without_a_size_is_refused(body):
    with pytest.raises(FormatError):
        parse_size(body)


def test_witnesses_are_read_a_line_each():
    other = CosignerKey(name="w2", public_key=b"\x02" * 32)
    text = f"{KEY.vkey()} {URL}/\n\n  {other.vkey()} http://127.0.0.1:7380 /etc/ca.pem\n"

    first, second = parse_witnesses(text)

    assert (first.key, first.url, first.ca) == (KEY, URL, "")
    assert (second.key, second.url, second.ca) == (other, "http://127.0.0.1:7380", "/etc/ca.pem")


@pytest.mark.parametrize(
    "text",
    [
        KEY.vkey(),
        f"{KEY.vkey()} witness.example",
        f"{KEY.vkey()} http://witness.example",
        f"{KEY.vkey()} http://127.0.0.1.witness.example:80",
        f"{KEY.vkey()} ftp://witness.example",
        f"{KEY.vkey()} https://user:word@witness.example",
        f"{KEY.vkey()} https://witness.example?x=1",
        f"{KEY.vkey()} {URL} ca.pem",
        f"{LOG.vkey()} {URL}",
        f"{KEY.vkey()[:-2]}Aa {URL}",
        f"{KEY.vkey()} {URL}\n{KEY.vkey()} {URL}",
        f"{KEY.vkey()} {URL}\n{CosignerKey(name='x', public_key=KEY.public_key).vkey()} {URL}",
        f"{KEY.vkey()} {URL}\n{CosignerKey(name=KEY.name, public_key=bytes(32)).vkey()} {URL}",
    ],
    ids=[
        *("no address", "no scheme", "plain", "name like this machine", "ftp", "user", "query"),
        *("relative path", "key of a log", "damaged", "twice", "one key, two names"),
        "one name, two keys",
    ],
)
def test_what_is_no_list_of_witnesses_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse_witnesses(text)
