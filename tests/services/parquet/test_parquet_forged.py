"""Footers that say anything at all, by a body or by a signer: read or refused, never a crash."""

from __future__ import annotations

import itertools

import pytest

from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.thrift import (
    BINARY,
    I64,
    LIST,
    STRUCT,
    Items,
    Struct,
    read_struct,
    write_struct,
)
from airflow_secure_ml.errors import SecureMLError
from tests.services.parquet.conftest import DATA, PII, people, written
from tests.services.parquet.test_parquet_attacks import Forger

NOTHING = (0, None)
LIES = [
    NOTHING,
    *((I64, number) for number in (-(1 << 63), -1, 0, 5, 1 << 31, (1 << 63) - 1, 1 << 69)),
    (BINARY, b"\xff"),
    (STRUCT, Struct()),
    (LIST, Items(I64, [1])),
    (LIST, Items(BINARY, [b"\xff"])),
    (LIST, Items(STRUCT, [Struct()])),
    (LIST, Items(STRUCT, [])),
]
# What lies are told of: its fields, and where it is in a footer.
PLACES = {
    "footer": (9, lambda footer: footer),
    "element": (10, lambda footer: footer.structs(layout.SCHEMA)[3]),
    "group": (7, lambda footer: footer.structs(layout.ROW_GROUPS)[0]),
    "chunk": (9, lambda footer: _chunk(footer)),
    "meta": (17, lambda footer: _chunk(footer).struct(layout.META)),
    "text": (2, lambda footer: footer.structs(layout.KEY_VALUES)[0]),
}


def _chunk(footer):
    return footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)[0]


def told(place):
    """Each lie about each field of what is there."""
    fields, find = PLACES[place]
    for field, (kind, value) in itertools.product(range(1, fields + 1), LIES):

        def lie(footer, field=field, kind=kind, value=value):
            at = find(footer)
            at.put(field, kind, value) if kind else at.drop(field)

        yield lie


def refused(act):
    """Whether it was; anything but one of our errors gets out."""
    try:
        act()
    except SecureMLError:
        return True
    return False


@pytest.mark.parametrize("place", PLACES)
def test_what_a_body_says_is_taken_or_refused(bench, place):
    data = written(people(20))
    size = int.from_bytes(data[-8:-4], "little")
    outcomes = set()

    for lie in told(place):
        footer, _ = read_struct(data[-8 - size : -8])
        lie(footer)
        made = write_struct(footer)
        forged = data[: -8 - size] + made + len(made).to_bytes(4, "little") + b"PAR1"
        outcomes.add(refused(lambda forged=forged: bench.seal(forged)))

    assert outcomes == {True, False}


@pytest.mark.parametrize("keys", [[DATA, PII], [DATA]], ids=["all keys", "one key"])
@pytest.mark.parametrize("place", PLACES)
def test_what_a_signer_says_is_taken_or_refused(bench, place, keys):
    sealed = bench.seal(written(people(20)))
    outcomes = set()

    for lie in told(place):
        forger = Forger(bench, sealed)
        lie(forger.footer)
        outcomes.add(refused(lambda forger=forger: bench.open(forger.written(), keys)))

    assert outcomes == {True, False}
