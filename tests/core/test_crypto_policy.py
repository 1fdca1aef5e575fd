"""The option crypto_policy: what it says, what it refuses, and what two of them allow together."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.core.crypto_policy import (
    DEFAULT,
    UNGOVERNED,
    CryptoPolicy,
    governing,
    parse_crypto_policy,
    slot_name,
)
from airflow_secure_ml.errors import ConfigurationError, PolicyError

BOTH = {"suites": ["cobblestone-256", "aes256-gcm-1mb"]}


class Key:
    def __init__(self, policy):
        self.crypto_policy = policy


def parse(**parts):
    return parse_crypto_policy(json.dumps(parts))


def test_without_the_option_files_are_of_suite_1_and_everything_is_read():
    assert parse_crypto_policy("") == DEFAULT == CryptoPolicy()
    assert DEFAULT.suite_to_write == 0x01
    assert DEFAULT.digest_to_write == "sha256"
    assert DEFAULT.write.suites == ("aes256-gcm-1mb",)
    assert DEFAULT.read.suites == ("aes256-gcm-1mb", "cobblestone-256")
    assert DEFAULT.write.slots == DEFAULT.read.slots
    assert DEFAULT.write.signatures == DEFAULT.read.signatures == ("ed25519", "ml-dsa-65")


def test_the_first_suite_and_digest_are_written():
    policy = parse(write={**BOTH, "digests": ["blake3", "sha256"]})

    assert (policy.suite_to_write, policy.digest_to_write) == (0x02, "blake3")
    assert policy.read == DEFAULT.read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "it is not an object"),
        ("nonsense", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"wirte": {}}', "it is not an object with write, read"),
        ('{"write": {"suite": ["cobblestone-256"]}}', "write is not an object"),
        ('{"write": {}, "write": {}}', "stands twice"),
        ('{"read": {"slots": ["local"], "slots": ["vault"]}}', "stands twice"),
        ('{"read": {"slots": []}}', "read.slots is not a list of one or more of local"),
        ('{"read": {"slots": "local"}}', "read.slots is not a list"),
        ('{"read": {"slots": [1]}}', "read.slots is not a list"),
        ('{"read": {"slots": [["local"]]}}', "read.slots is not a list"),
        ('{"write": {"signatures": ["rsa"]}}', "write.signatures is not a list"),
        ('{"write": {"digests": ["sha256", "sha256"]}}', "write.digests has a name twice"),
        ('{"write": {"digests": ["blake3"]}, "read": {"digests": ["sha256"]}}', "read.digests"),
        ('{"read": {"suites": ["cobblestone-256"]}}', "write.suites has aes256-gcm-1mb, which"),
    ],
)
def test_what_is_no_policy_is_refused_and_the_option_named(text, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_crypto_policy(text)

    assert str(caught.value).startswith("[secure_ml] crypto_policy: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("act", "check", "found"),
    [
        ("write", lambda p: p.check_suite(1, "write"), "aes256-gcm-1mb"),
        ("read", lambda p: p.check_suite(1, "read"), "aes256-gcm-1mb"),
        ("write", lambda p: p.check_slot(2, bytes.fromhex("0020"), "write"), "hpke-x25519"),
        ("read", lambda p: p.check_slot(3, b"", "read"), "vault"),
        ("read", lambda p: p.check_slot(9, b"", "read"), "type 9"),
        ("write", lambda p: p.check_signature("ed25519", "write"), "ed25519"),
        ("read", lambda p: p.check_digest("sha256", "read"), "sha256"),
    ],
)
def test_a_refusal_names_what_was_found_what_is_allowed_and_the_option(act, check, found):
    only = {
        "suites": ["cobblestone-256"],
        "slots": ["local"],
        "signatures": ["ml-dsa-65"],
        "digests": ["blake3"],
    }

    with pytest.raises(PolicyError) as caught:
        check(parse(write=only, read=only))

    assert caught.value.why == "rule_denied"
    assert str(caught.value).startswith(f"{found}: [secure_ml] crypto_policy ({act}.")
    assert "lets only " in str(caught.value)


def test_a_data_set_keys_header_is_of_no_suite_that_a_policy_knows():
    parse(write={"suites": ["cobblestone-256"]}).check_suite(0x10, "write")


@pytest.mark.parametrize(
    ("kind", "body", "name"),
    [
        (1, "", "local"),
        (2, "0020", "hpke-x25519"),
        (2, "647a", "hpke-mlkem768-x25519"),
        (2, "0010", "hpke of kem 0010"),
        (2, "", "hpke of kem 0000"),
        (3, "", "vault"),
        (4, "", "aws-kms"),
        (5, "", "data-set-key"),
        (6, "", "pkcs11"),
    ],
)
def test_each_slot_has_a_name(kind, body, name):
    assert slot_name(kind, bytes.fromhex(body)) == name


def test_keys_of_no_deployment_are_under_no_policy():
    policy = governing([object(), object()])

    assert policy is UNGOVERNED
    policy.check_suite(2, "write")
    policy.check_slot(65535, b"", "write")
    assert policy.suite_to_write == 1


def test_one_key_under_a_policy_puts_the_others_under_it():
    policy = parse(write=BOTH)

    assert governing([object(), Key(UNGOVERNED), Key(policy)]) == policy


def test_under_two_policies_what_both_allow_is_allowed():
    one = parse(write=BOTH, read={"slots": ["local", "vault"]})
    other = parse(read={"slots": ["vault", "aws-kms"]})

    both = governing([Key(one), Key(other)])

    assert both.write.suites == ("aes256-gcm-1mb",)
    assert both.read.slots == ("vault",)


def test_where_two_policies_have_nothing_in_common_nothing_is_written():
    one, other = parse(), parse(write={"suites": ["cobblestone-256"]})

    both = governing([Key(one), Key(other)])

    with pytest.raises(PolicyError, match="lets only nothing be written"):
        _ = both.suite_to_write
