"""Time stamps of a real authority, `openssl ts`, and what an authority that lies is worth."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from airflow_secure_ml.adapters.relay import SqliteBook
from airflow_secure_ml.adapters.timestamps import AuthorityStamper
from airflow_secure_ml.core.audit.checkpoint import parse_checkpoint, parse_note
from airflow_secure_ml.core.audit.relaying import Stamped
from airflow_secure_ml.core.audit.tree import check_consistency
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.outgoing import HttpPoster
from airflow_secure_ml.services.evidence import Beside, Selection, write_pack
from airflow_secure_ml.services.kept_outside import kept_outside
from airflow_secure_ml.services.stamping import EVERY_MS, StampJob
from tests.interop.authority import POLICY, Authority, answering
from tests.interop.test_witnesses import grow, log, log_keys, signed, size_of  # noqa: F401 - a fixture
from tests.services.audit.conftest import site  # noqa: F401 - a fixture

NOTE = b"a note\n"
VECTOR = Path(__file__).parents[1] / "vectors" / "v1" / "timestamp"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa") / "good")


def stamper(authority, url, **more):
    return AuthorityStamper(HttpPoster("tsa", url), url, ca=authority.ca, **more)


def stamp(authority, answer, **more):
    with answering(answer) as url:
        return stamper(authority, url, **more).stamp(NOTE)


def now_ms():
    return time.time_ns() // 1_000_000


def test_a_stamp_says_when_and_is_verified_again_without_the_authority(authority):
    response, time_ms = stamp(authority, lambda query: (200, authority.reply(query)))

    assert abs(time_ms - now_ms()) < 60_000
    alone = AuthorityStamper(None, "tsa", ca=authority.ca, policy=POLICY)
    assert alone.check(response, NOTE) == time_ms
    with pytest.raises(SignatureError, match="messages"):
        alone.check(response, b"another note\n")


def of_another_note(authority, query):
    ours, other = (hashlib.sha256(data).digest() for data in (NOTE, b"another note\n"))
    assert query.count(ours) == 1
    return authority.reply(query.replace(ours, other))


def of_another_question(authority, query):
    # The nonce is the last integer before the flag that asks for certificates.
    assert query[-3:] == b"\x01\x01\xff"
    changed = bytearray(query)
    changed[-4] ^= 1
    return authority.reply(bytes(changed))


def for_servers(authority, query):
    return authority.reply_as(query, authority.certificate(usage=ExtendedKeyUsageOID.SERVER_AUTH))


def not_critical(authority, query):
    return authority.reply_as(query, authority.certificate(critical=False, name="signer+++"))


def two_signers(authority, query):
    # A SET is sorted in DER and openssl leaves the order as it is: the later date puts it behind.
    twin = authority.certificate(usage=ExtendedKeyUsageOID.SERVER_AUTH, days=(-1, 2))
    return authority.reply(query, more=[twin])


def damaged(authority, query):
    reply = authority.reply(query)
    return reply[:-1] + bytes([reply[-1] ^ 1])


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (of_another_note, "messages"),
        (of_another_question, "Nonce"),
        (for_servers, "time stamps"),
        (not_critical, "time stamps"),
        (two_signers, "one signer"),
        (damaged, "does not hold"),
    ],
    ids=["another note", "another nonce", "for servers", "not critical", "two", "damaged"],
)
def test_a_stamp_that_does_not_hold_is_refused(authority, lie, said):
    with pytest.raises(SignatureError, match=said):
        stamp(authority, lambda query: (200, lie(authority, query)))


def test_another_ca_is_refused(authority, tmp_path):
    other = Authority(tmp_path / "other")

    with pytest.raises(SignatureError, match="does not hold"):
        stamp(authority, lambda query: (200, other.reply(query)))


def test_a_certificate_that_had_expired_is_refused(tmp_path):
    expired = Authority(tmp_path / "expired")
    expired.use(expired.certificate(days=(-2, -1)))

    with pytest.raises(SignatureError, match="does not hold"):
        stamp(expired, lambda query: (200, expired.reply(query)))


def test_another_policy_is_refused(authority):
    with pytest.raises(SignatureError, match="Policy"):
        stamp(authority, lambda query: (200, authority.reply(query)), policy="1.2.3.4.2")


def test_a_time_far_from_ours_is_refused(authority):
    with pytest.raises(SignatureError, match="look at its clock"):
        stamp(
            authority,
            lambda query: (200, authority.reply(query)),
            now_ms=lambda: now_ms() + 7_200_000,
        )


def test_an_authority_that_refuses_is_told_apart(tmp_path):
    strict = Authority(tmp_path / "strict", digests="sha512")

    with pytest.raises(ServiceRefusedError, match="response status 2"):
        stamp(strict, lambda query: (200, strict.reply(query)))


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x30\x80", b"\x30\x03\x02\x01\x00", b"\xff" * 99]
)
def test_what_is_no_response_is_refused(authority, data):
    with pytest.raises((FormatError, SignatureError)):
        stamp(authority, lambda query: (200, data))


def test_every_cut_response_is_refused(authority):
    whole = []
    stamp(authority, lambda query: (whole.append(authority.reply(query)), (200, whole[0]))[1])
    alone = AuthorityStamper(None, "tsa", ca=authority.ca)

    for cut in range(0, len(whole[0]), 7):
        with pytest.raises((FormatError, SignatureError, ServiceRefusedError)):
            alone.check(whole[0][:cut], NOTE)


def test_an_endless_answer_is_not_read(authority):
    with pytest.raises(ServiceUnavailableError, match="more than 65536 bytes"):
        stamp(authority, lambda query: (200, b"\x30" * 10_000_000))


@pytest.mark.parametrize(
    ("status", "error"), [(503, ServiceUnavailableError), (302, ServiceRefusedError)]
)
def test_another_status_is_no_stamp(authority, status, error):
    with pytest.raises(error, match=str(status)):
        stamp(authority, lambda query: (status, authority.reply(query)))


@pytest.mark.parametrize("text", [None, "no certificate\n"], ids=["no file", "no certificate"])
def test_certificates_that_are_none_are_named(authority, tmp_path, text):
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)

    with (
        answering(lambda query: (200, authority.reply(query))) as url,
        pytest.raises(ConfigurationError, match="audit_timestamp_ca"),
    ):
        AuthorityStamper(HttpPoster("tsa", url), url, ca=tmp_path / "ca.pem").stamp(NOTE)


def test_checkpoints_are_stamped_each_hour_and_told_of(authority, log):  # noqa: F811 - fixture
    book, now = SqliteBook(log.path / "book.db"), [now_ms()]
    with answering(lambda query: (200, authority.reply(query))) as url:
        asked = stamper(authority, url)
        job = StampJob(
            stamper=asked, reader=log.reader(), log_keys=lambda: log_keys(log), book=book,
            now_ms=lambda: now[0],
        )  # fmt: skip
        sizes = []
        for later in (0, 1, EVERY_MS * 2):
            now[0] += later
            job.step()
            sizes.append([each.size for each in book.stamps(9)])
            newest = size_of(grow(log) if later == 0 else log.reader().checkpoint())

    first = sizes[0][0]
    assert sizes == [[first], [first], [newest, first]]
    told = kept_outside(
        book, anchor="", stamper=lambda: asked, log_keys=log_keys(log), origin=log.origin
    )
    assert f"a checkpoint over {newest} events was there by 20" in told[0]


def test_a_stamp_in_the_book_is_not_believed(authority, log):  # noqa: F811 - fixture
    book, note = SqliteBook(log.path / "book.db"), log.reader().checkpoint()
    with answering(lambda query: (200, authority.reply(query))) as url:
        asked = stamper(authority, url)
        StampJob(
            stamper=asked, reader=log.reader(), log_keys=lambda: log_keys(log), book=book,
            now_ms=now_ms,
        ).step()  # fmt: skip
    (kept,) = book.stamps(9)
    larger = grow(log)
    book.keep_stamped(replace(kept, size=size_of(larger), note=larger))

    told = kept_outside(
        book, anchor="", stamper=lambda: asked, log_keys=log_keys(log), origin=log.origin
    )

    assert kept.note == note
    assert told[0].startswith("the newest time stamp does not hold")


def test_a_stamp_of_long_ago_is_read():
    stamped = VECTOR / "response.tsr"
    alone = AuthorityStamper(None, "tsa", ca=VECTOR / "ca.pem", policy=POLICY)

    time_ms = alone.check(stamped.read_bytes(), (VECTOR / "note").read_bytes())

    # Its signer's certificate ended two days later: the time in the stamp is what counts.
    assert time_ms == 1_795_848_052_000


def test_a_pack_carries_a_stamp_that_openssl_verifies(authority, log, tmp_path):  # noqa: F811
    note = log.reader().checkpoint()
    with answering(lambda query: (200, authority.reply(query))) as url:
        response, time_ms = stamper(authority, url).stamp(note.encode())
    stamped = Stamped(size=size_of(note), note=note, response=response, time_ms=time_ms)
    newer = grow(log)
    beside = Beside(note=newer, keys=log_keys(log), verifier=b"", stamp=stamped)
    with (tmp_path / "pack.zip").open("w+b") as stream:
        write_pack(log.reader(), Selection(), beside, stream)

    with zipfile.ZipFile(tmp_path / "pack.zip") as packed:
        packed.extractall(tmp_path / "pack")

    folder = tmp_path / "pack" / "timestamp"
    command = ["openssl", "ts", "-verify", "-data", str(folder / "note"), "-CAfile"]
    command += [str(authority.ca), "-in", str(folder / "response.tsr")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.stdout == "Verification: OK\n", said.stderr
    old, new = (parse_checkpoint(parse_note(each).text) for each in (note, newer))
    proof = [base64.b64decode(line) for line in (folder / "consistency").read_text().split()]
    check_consistency(old.size, old.root, new.size, new.root, proof)


def test_a_stamp_over_another_history_is_not_packed(authority, log, tmp_path):  # noqa: F811
    newest = log.reader().checkpoint()
    other = signed(log, size_of(newest) - 1, b"\x07" * 32)
    stamped = Stamped(size=size_of(other), note=other, response=b"", time_ms=0)
    beside = Beside(note=newest, keys=log_keys(log), verifier=b"", stamp=stamped)

    with (tmp_path / "pack.zip").open("w+b") as stream, pytest.raises(AuditLogError):
        write_pack(log.reader(), Selection(), beside, stream)
