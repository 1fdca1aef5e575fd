"""What someone who can write to the store tries on encrypted Parquet; all of it is refused."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.adapters.parquet import decryption_properties
from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.key_material import KeyMaterial, WrappedKek
from airflow_secure_ml.core.parquet.modules import Kind, ModuleCipher, module_aad
from airflow_secure_ml.core.parquet.thrift import (
    LIST,
    STRUCT,
    Items,
    Struct,
    read_struct,
    write_struct,
)
from airflow_secure_ml.errors import CiphertextError, FormatError, SecureMLError
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import read_columns
from tests.services.parquet.conftest import DATA, PII, URI, kek, people, table_of, written

NUMBERS = pa.table(
    {"id": pa.array(range(64), pa.int64())}, schema=pa.schema([pa.field("id", pa.int64(), False)])
)


class Forger:
    """Holds the keys of a file and writes its footer anew: a signer who turned bad."""

    def __init__(self, bench, sealed):
        self.bench, self.sealed = bench, bytes(sealed)
        size = int.from_bytes(self.sealed[-8:-4], "little")
        self.head, footer = self.sealed[: -8 - size], self.sealed[-8 - size : -8]
        self.crypto, end = layout.CryptoFooter.parse(footer)
        with ReaderKeys(URI, [DATA]) as keys:
            material = KeyMaterial.parse(self.crypto.key_metadata, column="")
            cipher = keys.cipher(material)
            self._dek = _dek(keys, material)
        plain = cipher.open(footer[end:], self._aad, "it")
        self.footer, _ = read_struct(plain)

    @property
    def _aad(self):
        return module_aad(self.crypto.file_id, Kind.FOOTER)

    @property
    def chunks(self):
        return self.footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)

    def chunk(self, name):
        paths = layout.leaf_paths(self.footer)
        return self.chunks[[path[0] for path in paths].index(name)]

    def written(self):
        cipher = ModuleCipher(self._dek, lambda count: bytes(count))
        sealed = cipher.seal(write_struct(self.footer), self._aad)
        footer = self.crypto.as_bytes() + sealed
        return self.head + footer + len(footer).to_bytes(4, "little") + b"PARE"


def _dek(keys, material):
    from airflow_secure_ml.core.parquet.key_material import unwrap_dek

    return bytes(unwrap_dek(keys.kek(material).key, material))


def lent_to_all(bench, sealed):
    with ReaderKeys(URI, [DATA, PII]) as held:
        columns = read_columns(bench.put(sealed), held)
        every = (columns.footer_key, *columns.own.values())
        return {one.kek.as_text(): bytes(held.kek(one).key) for one in every}


def test_the_byte_that_makes_pyarrow_take_altered_pages_is_refused_here(bench):
    options = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    sealed = bench.seal(written(NUMBERS, **options), {})
    lent = lent_to_all(bench, sealed)
    algorithm = len(sealed) - 8 - int.from_bytes(sealed[-8:-4], "little") + 1
    assert sealed[algorithm - 1 : algorithm + 1] == b"\x1c\x1c"
    altered = bytearray(sealed)
    altered[algorithm] = 0x2C

    properties = decryption_properties(lent)
    forged = pq.ParquetFile(io.BytesIO(altered), decryption_properties=properties).read()
    with pytest.raises(FormatError, match="not AES_GCM_V1"):
        bench.open(altered)

    assert forged.num_rows == 64
    assert forged != NUMBERS, "pyarrow, left alone, read other numbers and found nothing wrong"


@pytest.mark.parametrize("end", [0, -1], ids=["beginning", "end"])
def test_the_magic_must_stand_at_both_ends(bench, end):
    altered = bytearray(bench.seal(written(people())))
    place = 3 if end == 0 else len(altered) - 1
    altered[place] = ord("1")

    with pytest.raises(FormatError, match="expected the magic PARE"):
        bench.open(altered)


def test_no_byte_can_be_changed_anywhere(bench):
    table = pa.table({"id": [1, 2], "ssn": ["a", "b"]})
    sealed = bench.seal(written(table, compression="none"))

    opened = []
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x01
        try:
            bench.open(altered)
        except SecureMLError:
            continue
        opened.append(at)

    # The field says what follows; base64 and JSON have no second form; tags do the rest.
    assert opened == []


@pytest.mark.parametrize("cut", [1, 8, 9, 100, 1000])
def test_a_file_that_was_cut_is_refused(bench, cut):
    sealed = bench.seal(written(people()))

    with pytest.raises(SecureMLError):
        bench.open(sealed[:-cut])


def test_keys_moved_to_another_address_open_nothing(bench):
    sealed = bench.seal(written(people()), uri="file:///lake/secret.parquet")

    with pytest.raises(CiphertextError):
        bench.open(sealed)


def test_a_columns_key_does_not_open_it_under_another_name(bench):
    forger = Forger(bench, bench.seal(written(people())))
    elements = forger.footer.structs(layout.SCHEMA)
    place = next(e for e in elements if e.binary(layout.NAME) == b"ssn")
    place.put(layout.NAME, place.fields[layout.NAME][0], b"nickname")
    how = forger.chunk("nickname").struct(layout.CRYPTO).struct(layout.WITH_COLUMN_KEY)
    how.fields[layout.KEY_PATH][1].items[:] = [b"nickname"]

    with pytest.raises(FormatError, match="is of another column"):
        bench.open(forger.written())


def test_the_column_in_a_wrapped_key_cannot_be_rewritten(bench):
    forger = Forger(bench, bench.seal(written(people())))
    how = forger.chunk("ssn").struct(layout.CRYPTO).struct(layout.WITH_COLUMN_KEY)
    material = KeyMaterial.parse(how.binary(layout.KEY_METADATA), column="ssn")
    renamed = WrappedKek(
        slot_type=material.kek.slot_type,
        slot_id=material.kek.slot_id,
        column="nickname",
        body=material.kek.body,
    )
    moved = KeyMaterial(
        key_name="pii", kek_id=material.kek_id, kek=renamed, wrapped_dek=material.wrapped_dek
    )

    with ReaderKeys(URI, [PII]) as keys, pytest.raises(CiphertextError):
        keys.kek(moved)


def test_a_column_in_clear_is_refused(bench):
    forger = Forger(bench, bench.seal(written(people())))
    forger.chunk("age").drop(layout.CRYPTO)

    with pytest.raises(FormatError, match="'age' lies there in clear"):
        bench.open(forger.written())


def test_chunks_of_two_columns_swapped_are_refused(bench):
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    forger = Forger(bench, bench.seal(written(table), {}))
    chunks = [chunk.copy() for chunk in forger.chunks]
    first, second = (chunk.struct(layout.META).copy() for chunk in chunks)
    for number in (layout.DATA_AT, layout.DICTIONARY_AT, layout.COMPRESSED):
        first.fields[number], second.fields[number] = second.fields[number], first.fields[number]
    chunks[0].put(layout.META, STRUCT, first)
    chunks[1].put(layout.META, STRUCT, second)
    forger.footer.structs(layout.ROW_GROUPS)[0].put(layout.COLUMNS, LIST, Items(STRUCT, chunks))

    with pytest.raises(CiphertextError, match="does not verify"):
        bench.open(forger.written())


def test_a_key_that_the_reader_was_not_given_is_never_called(bench):
    sealed = bench.seal(written(people()))
    calls = []

    class Other:
        slot_type, slot_id, ref = DATA.slot_type, "data/2", DATA.ref

        def unwrap(self, body, core_id):
            calls.append(body)

    bench.open(sealed, [DATA, Other()])

    assert calls == []


def test_a_key_of_the_same_name_with_other_bytes_is_an_alarm_and_leaves_nothing_out(bench):
    with pytest.raises(CiphertextError):
        bench.open(bench.seal(written(people())), [DATA, kek("pii", 9)])


@pytest.mark.parametrize(
    "change",
    [
        {"masterKeyID": "../x"},
        {"doubleWrapping": False},
        {"doubleWrapping": 1},
        {"internalStorage": False},
        {"kmsInstanceURL": "https://evil.example"},
        {"extra": "x"},
        {"wrappedKEK": "asml1.1.x"},
        {"wrappedKEK": "asml1.01.ZGF0YS8x..AAAA"},
        {"wrappedDEK": "AAAA"},
        {"keyEncryptionKeyID": "AAAA"},
    ],
    ids=str,
)
def test_key_material_that_is_not_ours_is_refused(change):
    material = KeyMaterial(
        key_name="data",
        kek_id=bytes(16),
        kek=WrappedKek(slot_type=1, slot_id="data/1", column="", body=b"x"),
        wrapped_dek=bytes(60),
    )
    fields = {**json.loads(material.as_json()), **change}

    with pytest.raises(FormatError, match="not written by airflow-secure-ml"):
        KeyMaterial.parse(json.dumps(fields, separators=(",", ":")).encode(), column="")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x1c" * 100, b"\x19\xfc\xff\xff\xff\xff\x0f", b"\x18\xff\xff\xff\xff\x0f", b"\x1b\x00"],
    ids=["empty", "nested", "a huge list", "a huge text", "a map"],
)
def test_metadata_that_would_exhaust_memory_or_stack_is_refused(data):
    with pytest.raises(FormatError):
        read_struct(data)


def test_metadata_reads_back_as_it_was(bench):
    footer = people().schema
    data = written(people())
    size = int.from_bytes(data[-8:-4], "little")
    struct, end = read_struct(data[-8 - size : -8])

    assert end == size
    assert read_struct(write_struct(struct))[0] == struct
    assert isinstance(struct, Struct)
    assert table_of(data).schema.equals(footer)
