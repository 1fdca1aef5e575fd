"""The text of a `.tlog-proof`: one spelling, bounded, and never two readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.tlog_proof import (
    MAX_PROOF_BYTES,
    TlogProof,
    parse_tlog_proof,
)
from airflow_secure_ml.errors import FormatError

ROOT = "jUX9zqU05i42wlKiaEtSehCEoMKgFQvDagoaVre/wZ0="
NOTE = f"example.org/log\n2\n{ROOT}\n\n— example.org/log Z393IXtQ\n"
HASH = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
TEXT = f"c2sp.org/tlog-proof@v1\nextra bGVhZg==\nindex 1\n{HASH}\n\n{NOTE}"


def test_it_is_written_as_the_specification_says():
    proof = TlogProof(index=1, path=(bytes(32),), note=NOTE, extra=b"leaf")

    assert proof.encode() == TEXT
    assert parse_tlog_proof(TEXT) == proof


def test_extra_may_be_absent():
    proof = parse_tlog_proof(TEXT.replace("extra bGVhZg==\n", ""))

    assert proof.extra is None
    assert proof.encode() == TEXT.replace("extra bGVhZg==\n", "")


@given(
    index=st.integers(0, 10**15),
    path=st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    extra=st.none() | st.binary(max_size=400),
)
def test_what_was_written_is_read(index, path, extra):
    proof = TlogProof(index=index, path=tuple(path), note=NOTE, extra=extra)

    assert parse_tlog_proof(proof.encode()) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("index 1", "index 01"),
        TEXT.replace("index 1", "index -1"),
        TEXT.replace("index 1", "index ١"),
        TEXT.replace("index 1\n", ""),
        TEXT.replace("extra bGVhZg==\nindex 1", "index 1\nextra bGVhZg=="),
        TEXT.replace("bGVhZg==", "bGVhZh=="),
        TEXT.replace("bGVhZg==", "bGVhZg"),
        TEXT.replace(HASH, HASH[:-4]),
        TEXT.replace(HASH, "\n".join([HASH] * 64)),
        TEXT.replace(HASH, HASH + " "),
        TEXT.replace("\n\n", "\n", 1),
        TEXT.replace("\n", "\r\n"),
        TEXT.rpartition("\n\n")[0] + "\n",
        TEXT + "x" * MAX_PROOF_BYTES,
    ],
    ids=[
        *("empty", "version", "leading-zero", "negative", "other-digits", "no-index", "order"),
        *("spare-bits", "padding", "short-hash", "64-hashes", "space", "no-line", "carriage"),
        *("no-signature", "long"),
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(FormatError):
        parse_tlog_proof(text)
