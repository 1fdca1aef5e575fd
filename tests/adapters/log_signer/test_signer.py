"""The log's key file and the record of what it signed last."""

from __future__ import annotations

import os

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner, init_log, read_log_keys
from airflow_secure_ml.core.audit.checkpoint import open_checkpoint, parse_log_keys
from airflow_secure_ml.core.audit.tree import (
    EMPTY_ROOT,
    consistency_proof,
    leaf_hash,
    root_of,
)
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, FormatError

LEAVES = [leaf_hash(bytes([n])) for n in range(9)]


def proof(old, new):
    return consistency_proof(old, new, lambda lv, n: root_of(LEAVES[n << lv : (n + 1) << lv]))


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "signer"
    init_log(path, "example.org")
    return path


def test_a_log_gets_a_name_a_key_and_an_empty_checkpoint(tmp_path):
    origin = init_log(tmp_path / "signer", "example.org", random_bytes=lambda n: bytes(range(n)))

    signer = LogSigner(tmp_path / "signer")
    assert signer.origin == origin == "example.org/asml-trail/00010203"
    assert signer.last() == (0, EMPTY_ROOT)
    # The public key of the seed 00 01 … 1f, as in AUDIT_TRAIL's worked example.
    assert signer.public.public_key.hex() == (
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    )
    assert parse_log_keys(read_log_keys(tmp_path / "signer" / "log_keys")) == (signer.public,)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "signer").iterdir()}
    assert modes == {"log.key": 0o600, "last": 0o600, "log_keys": 0o600}
    assert (tmp_path / "signer").stat().st_mode & 0o777 == 0o700


def test_a_log_key_is_never_replaced(directory):
    before = (directory / "log.key").read_bytes()

    with pytest.raises(ConfigurationError, match="never replaced"):
        init_log(directory, "example.org")
    assert (directory / "log.key").read_bytes() == before


def test_two_logs_of_one_name_have_different_origins(tmp_path):
    assert init_log(tmp_path / "a", "example.org") != init_log(tmp_path / "b", "example.org")


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak"])
def test_a_name_that_no_checkpoint_can_carry_is_refused(tmp_path, name):
    if not name:
        assert init_log(tmp_path / "signer", "x").startswith("x/asml-trail/")
        return
    with pytest.raises(FormatError):
        init_log(tmp_path / "signer", name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(directory, mode):
    (directory / "log.key").chmod(mode)

    with pytest.raises(ConfigurationError, match="for uid"):
        LogSigner(directory)


@pytest.mark.parametrize("kind", ["missing", "symlink", "fifo"])
def test_a_key_that_is_no_plain_file_is_refused(directory, kind):
    key = directory / "log.key"
    key.rename(directory / "real")
    if kind == "symlink":
        key.symlink_to(directory / "real")
    elif kind == "fifo":
        os.mkfifo(key, 0o600)

    with pytest.raises(ConfigurationError):
        LogSigner(directory)


def test_a_damaged_key_is_refused_without_showing_it(directory):
    text = (directory / "log.key").read_text()
    secret = text.split("+", 4)[-1].strip()  # base64, which may hold a + of its own
    other = "A" if text[-9] != "A" else "B"
    (directory / "log.key").write_text(text[:-9] + other + text[-8:])

    with pytest.raises(FormatError) as caught:
        LogSigner(directory)
    assert len(secret) == 44
    assert not any(secret[at : at + 8] in str(caught.value) for at in range(len(secret) - 7))
    assert caught.value.__cause__ is None


def test_a_growing_log_is_signed_and_remembered(directory):
    signer = LogSigner(directory)

    first = signer.sign(3, root_of(LEAVES[:3]), proof(0, 3))
    second = LogSigner(directory).sign(9, root_of(LEAVES), proof(3, 9))

    assert open_checkpoint(first, [signer.public]).size == 3
    assert open_checkpoint(second, [signer.public]).root == root_of(LEAVES)
    assert (directory / "last").read_text("utf-8") == second
    assert signer.sign(9, root_of(LEAVES), ()) == second


@pytest.mark.parametrize(
    ("size", "root", "path"),
    [
        (4, root_of(LEAVES[:4]), ()),
        (5, root_of(LEAVES[:4]), ()),
        (9, b"\x01" * 32, proof(5, 9)),
        (9, root_of(LEAVES), ()),
        (9, root_of(LEAVES), proof(4, 9)),
    ],
    ids=["smaller", "same size, other root", "other root", "no proof", "another proof"],
)
def test_what_does_not_extend_the_last_one_is_not_signed(directory, size, root, path):
    signer = LogSigner(directory)
    before = signer.sign(5, root_of(LEAVES[:5]), proof(0, 5))

    with pytest.raises(AuditLogError):
        signer.sign(size, root, path)
    assert (directory / "last").read_text("utf-8") == before


def test_without_the_last_one_nothing_is_signed_until_it_is_adopted(directory):
    signer = LogSigner(directory)
    (directory / "last").unlink()

    with pytest.raises(AuditLogError, match="secure-ml audit adopt"):
        signer.sign(5, root_of(LEAVES[:5]), proof(0, 5))
    signer.adopt(5, root_of(LEAVES[:5]))

    assert signer.last() == (5, root_of(LEAVES[:5]))
    with pytest.raises(ConfigurationError, match="only without it"):
        signer.adopt(4, root_of(LEAVES[:4]))


@pytest.mark.parametrize("text", ["", "nonsense", "a\n0\n\n\n"])
def test_a_damaged_last_one_is_refused(directory, text):
    (directory / "last").write_text(text)

    with pytest.raises(AuditLogError):
        LogSigner(directory).last()
