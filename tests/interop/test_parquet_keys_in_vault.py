"""Column keys in a real Vault: its policies say who reads a column, and it is asked once."""

from __future__ import annotations

import pytest

from airflow_secure_ml.errors import PolicyError
from tests.servers.transit_place import TransitPlace
from tests.services.parquet.conftest import ParquetBench, people, table_of, written

NAMES = ("data", "pii")


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        for name in NAMES:
            made.make(name)
        yield made


@pytest.fixture
def sealed(place):
    """A file that somebody wrote who may only encrypt."""
    writer = place.keys("encrypt/data", "encrypt/pii", "read keys/data", "read keys/pii")
    bench = ParquetBench()
    bench.data_key = writer.wrapper("data")
    with place.asked() as asked:
        data = bench.seal(
            written(people(), row_group_size=50), {"ssn": ("pii", writer.wrapper("pii"))}
        )
    assert [each for each in asked if "encrypt/" in each] == [
        "update encrypt/data",
        "update encrypt/pii",
    ]
    return bench, data


def reader(place, *rights):
    return place.keys(*rights, wraps=list(NAMES)).unwrappers(NAMES)


def test_who_may_decrypt_with_both_keys_reads_every_column(place, sealed):
    bench, data = sealed
    keys = reader(place, *(f"decrypt/{name}" for name in NAMES), "read keys/data", "read keys/pii")

    with place.asked() as asked:
        opened = bench.open(data, keys)

    assert table_of(opened).equals(people())
    assert [each for each in asked if "decrypt/" in each] == [
        "update decrypt/data",
        "update decrypt/pii",
    ]


def test_whom_vault_denies_a_key_reads_the_other_columns(place, sealed):
    bench, data = sealed
    keys = reader(place, "decrypt/data", "read keys/data", "read keys/pii")

    opened = bench.open(data, keys)
    with pytest.raises(PolicyError, match="column 'ssn' is under key pii"):
        bench.open(data, keys, wanted=["ssn"])

    assert table_of(opened).equals(people().drop(["ssn"]))


def test_a_rotated_key_still_opens_and_the_new_version_is_for_new_files(place, sealed):
    bench, data = sealed
    place.rotate("pii")
    keys = reader(place, *(f"decrypt/{name}" for name in NAMES), "read keys/data", "read keys/pii")

    assert table_of(bench.open(data, keys)).equals(people())
