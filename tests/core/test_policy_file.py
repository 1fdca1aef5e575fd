from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.policy import Rule
from airflow_secure_ml.core.policy_file import MAX_POLICY_BYTES, parse_rules
from airflow_secure_ml.errors import ConfigurationError


def canonical(address: str) -> str:
    """A machine on which /data is a link to /mnt/data."""
    path = address.removeprefix("file://")
    return "file://" + path.replace("/data", "/mnt/data", 1)


EXAMPLE = b"""
version = "2026-11-22.1"
default = "refuse"

[[data]]
prefix   = "s3://lake/health/"
key      = "health"
readers  = ["secure_training", "score_*"]
signers  = ["pipeline"]
plain    = "refuse"
plain_until = 2027-01-31

[[data]]
prefix  = "file:///data/"
plain   = "allow"

[[data]]
prefix  = "s3://lake-dr/"
same_as = "s3://lake/"
"""


def test_the_example_is_read():
    rules = parse_rules(EXAMPLE, canonical=canonical)

    assert (rules.version, rules.default) == ("2026-11-22.1", "refuse")
    assert rules.digest == "sha256:" + hashlib.sha256(EXAMPLE).hexdigest()
    assert rules.data == (
        Rule(
            prefix="s3://lake/health",
            key="health",
            readers=("secure_training", "score_*"),
            signers=("pipeline",),
            plain="refuse",
            plain_until=dt.date(2027, 1, 31),
        ),
        Rule(prefix="file:///mnt/data", plain="allow"),
        Rule(prefix="s3://lake-dr", same_as="s3://lake"),
    )


def test_a_file_without_rules_observes():
    rules = parse_rules(b'version = "1"', canonical=canonical)

    assert (rules.default, rules.data) == ("observe", ())


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/data/x", "file:///mnt/data/x"),
        ("/data/x/", "file:///mnt/data/x"),
        ("file:///models", "file:///models"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("file:///", "file://"),
        ("/", "file://"),
    ],
)
def test_a_prefix_gets_its_canonical_form(prefix, expected):
    text = f'version = "1"\n[[data]]\nprefix = "{prefix}"'

    (rule,) = parse_rules(text.encode(), canonical=canonical).data

    assert rule.prefix == expected


def test_a_rule_for_everything_local_covers_it():
    rules = parse_rules(b'version = "1"\n[[data]]\nprefix = "/"', canonical=canonical)

    assert rules.rule_for("file:///any/thing") is rules.data[0]
    assert rules.rule_for("s3://any/thing") is None


A = '[[data]]\nprefix = "s3://a/"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (A, "version is missing"),
        ("version = 1", "version"),
        ('version = ""', "version"),
        ('version = "1"\nversion = "2"', "not TOML"),
        ("version = ", "not TOML"),
        ('version = "1"\ndefault = "allow"', "default: expected observe or warn or refuse"),
        ('version = "1"\ndefault = true', "default"),
        ('version = "1"\n[[connection]]\nconn_id = "x"', "'connection' is not known"),
        ('version = "1"\n[[task]]\nmode = "warn"', "'task' is not known"),
        ('version = "1"\nowner = "me"', "'owner' is not known"),
        ('version = "1"\ndata = 1', r"expected \[\[data\]\]"),
        ('version = "1"\ndata = [1]', r"expected \[\[data\]\]"),
        ('version = "1"\n[data]\nprefix = "s3://a/"', r"expected \[\[data\]\]"),
        ('version = "1"\n[[data]]', r"\[\[data\]\] 1: prefix is missing"),
        ('version = "1"\n' + A + 'reader = ["x"]', r"\[\[data\]\] 1: 'reader' is not known"),
        ('version = "1"\n' + A + 'retention = "1d"', "'retention' is not known"),
        ('version = "1"\n' + A + "key = 1", "key: expected a text"),
        ('version = "1"\n' + A + 'key = ""', "key: expected a text"),
        ('version = "1"\n' + A + 'readers = "x"', "readers: expected a list"),
        ('version = "1"\n' + A + "readers = []", "readers: expected a list of at least one"),
        ('version = "1"\n' + A + "readers = [1]", "readers: expected names"),
        ('version = "1"\n' + A + 'signers = [""]', "signers: expected names"),
        ('version = "1"\n' + A + 'plain = "warn"', "plain: expected allow or refuse"),
        ('version = "1"\n' + A + "plain = false", "plain: expected a text"),
        ('version = "1"\n' + A + "plain_until = 2027-01-31", "plain_until needs plain"),
        ('version = "1"\n' + A + 'plain = "refuse"\nplain_until = "2027-01-31"', "expected a day"),
        (
            'version = "1"\n' + A + 'plain = "refuse"\nplain_until = 2027-01-31T00:00:00',
            "expected a day",
        ),
        ('version = "1"\n' + A + 'same_as = "s3://a"', "another address"),
        ('version = "1"\n' + A + A, r"2 \(s3://a\) is never reached: number 1"),
        ('version = "1"\n' + A + '[[data]]\nprefix = "s3://a/b/"', "never reached"),
    ],
    ids=lambda value: value.replace("\n", " ")[:60],
)
def test_a_file_that_says_something_else_is_refused_by_name(text, named):
    with pytest.raises(ConfigurationError, match=named):
        parse_rules(text.encode(), canonical=canonical)


@pytest.mark.parametrize(
    "prefix",
    [
        "lake/health",
        "s3:/lake",
        "s3://",
        "s3:///lake",
        "S3://lake/",
        "s3://conn@lake/",
        "s3://lake/*",
        "s3://lake/a?",
        "s3://lake/[ab]",
        "s3://lake//a",
        "s3://lake/../b",
        "s3://lake/./b",
        "file://host/a",
        "file://a",
        "/a/../b",
        "/a//b",
    ],
)
def test_a_prefix_that_no_object_has_is_refused(prefix):
    text = f'version = "1"\n[[data]]\nprefix = "{prefix}"'

    with pytest.raises(ConfigurationError, match="prefix: expected an address"):
        parse_rules(text.encode(), canonical=canonical)


def test_what_the_store_refuses_is_told_with_its_rule():
    def refuse(address: str) -> str:
        raise ConfigurationError("a loop of symlinks")

    with pytest.raises(ConfigurationError, match=r"\[\[data\]\] 1: prefix: a loop"):
        parse_rules(b'version = "1"\n[[data]]\nprefix = "/a"', canonical=refuse)


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"a = " + b"[" * 100_000, b" " * (MAX_POLICY_BYTES + 1)],
    ids=["latin", "deep", "huge"],
)
def test_bytes_that_are_no_policy_file_are_refused(data):
    with pytest.raises(ConfigurationError):
        parse_rules(data, canonical=canonical)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_read_or_refused(data):
    try:
        parse_rules(data, canonical=canonical)
    except ConfigurationError:
        return
    assert b"version" in data


values = st.sampled_from(
    ["true", "-1", '"x"', '"refuse"', '"s3://a/"', '"s3://b/"', "[]", "{}", '["x"]', "2027-01-31"]
)
fields = st.sampled_from(
    ["key", "readers", "signers", "same_as", "plain", "plain_until", "prefix", "more"]
)


@given(st.dictionaries(fields, values, max_size=3))
def test_any_table_is_read_whole_or_refused(others):
    table = {"prefix": '"s3://a/"', **others}
    lines = "\n".join(f"{name} = {value}" for name, value in table.items())

    try:
        rules = parse_rules(f'version = "1"\n[[data]]\n{lines}'.encode(), canonical=canonical)
    except ConfigurationError:
        return
    assert {name for name in table if getattr(rules.data[0], name) is not None} == set(table)
