"""A run writes Parquet whose columns have keys of their own, and others read what they may."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.run_plan import Input, Output

FRAME = pd.DataFrame({"id": [1, 2, 3], "ssn": ["123-45-6789", "x", "y"], "age": [41, 17, 33]})
COLUMNS = {"ssn": "pii"}


def write(bench, plan, body=lambda path: FRAME.to_parquet(path), name="people.parquet", **how):
    output = Output(name="out", uri=bench.uri(name), **{"columns": COLUMNS, **how})
    made = plan(outputs=[output], task_id="put")
    return bench.run(made, lambda bound: body(bound["out"]))["out"]


def read(bench, plan, name="people.parquet", **how):
    found = []
    item = Input(name="table", uri=bench.uri(name), **how)
    bench.run(
        plan(inputs=[item], task_id="read"),
        lambda bound: found.append(pd.read_parquet(bound["table"])),
    )
    return found[0]


def refused(bench, plan, name="people.parquet", *, act="object.open", why, **how):
    item = Input(name="table", uri=bench.uri(name), **how)
    error, said = bench.refusal(plan(inputs=[item], task_id="read"))
    assert (act, why) in said
    return str(error)


def without_pii(bench):
    """Another deployment's keyring: the same but for one key."""
    bench.keyring.disable("pii", 1)


@pytest.fixture
def people(bench, plan):
    bench.keyring.create("pii", "wrap")
    return write(bench, plan)


def test_a_reader_with_all_keys_gets_every_column(bench, plan, people):
    assert read(bench, plan).equals(FRAME)


def test_what_lies_there_is_encrypted_parquet(bench, plan, people):
    data = bench.path("people.parquet").read_bytes()

    assert data[:4] == data[-4:] == b"PARE"
    assert b"123-45-6789" not in data
    assert people["key"] == "data/1"


def test_a_reader_without_a_key_gets_the_others_and_is_told(bench, plan, people):
    without_pii(bench)

    assert read(bench, plan).equals(FRAME.drop(columns="ssn"))
    assert "left out column ssn of table: it is under key pii" in bench.told


def test_a_reader_who_names_a_column_without_its_key_is_refused(bench, plan, people):
    without_pii(bench)

    said = refused(bench, plan, why="key_disabled", columns=("id", "ssn"))

    assert "column 'ssn' is under key pii" in said


def test_only_the_columns_that_are_named_are_opened(bench, plan, people):
    assert list(read(bench, plan, columns=("age",)).columns) == ["age"]
    opened = [
        event["key"]["name"]
        for event in bench.events()
        if event["act"] == "object.open" and event["phase"] == "outcome"
    ]
    assert opened == ["data"]


def test_the_trail_says_which_keys_columns_were_opened_with(bench, plan, people):
    read(bench, plan)

    acts = [
        (event["act"], event["key"]["name"])
        for event in bench.events()
        if event["phase"] == "outcome" and event["act"] in ("object.seal", "object.open")
    ]
    assert acts == [
        ("object.seal", "data"),
        ("object.seal", "pii"),
        ("object.open", "data"),
        ("object.open", "pii"),
    ]


def test_one_byte_that_is_not_as_signed_stops_it_before_anything_is_parsed(bench, plan, people):
    place = bench.path("people.parquet")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)

    refused(bench, plan, why="digest_differs")


def test_the_byte_that_names_the_cipher_is_not_parsed_before_the_digest_is_compared(
    bench, plan, people
):
    place = bench.path("people.parquet")
    data = bytearray(place.read_bytes())
    algorithm = len(data) - 8 - int.from_bytes(data[-8:-4], "little") + 1
    assert data[algorithm - 1 : algorithm + 1] == b"\x1c\x1c"
    # AES_GCM_CTR_V1, whose pages nothing authenticates; whoever parses it first says so instead.
    data[algorithm] = 0x2C
    place.write_bytes(data)

    said = refused(bench, plan, why="digest_differs")

    assert "AES_GCM" not in said


def test_an_unsigned_file_with_column_keys_is_refused(bench, plan, people):
    bench.path("stray.parquet").write_bytes(bench.path("people.parquet").read_bytes())

    refused(bench, plan, "stray.parquet", act="object.verify", why="not_signed", sealed=False)


def test_a_directory_keeps_its_files_and_publishes_no_summaries(bench, plan):
    bench.keyring.create("pii", "wrap")

    def body(path):
        path.mkdir()
        (path / "_SUCCESS").write_text("")
        (path / ".part-0.parquet.crc").write_bytes(b"crc of plain data")
        for part in range(3):
            FRAME.to_parquet(path / f"part-{part}.parquet")

    write(bench, plan, body, name="people")

    assert read(bench, plan, "people")["ssn"].tolist() == FRAME["ssn"].tolist() * 3
    assert [name for name in bench.published() if name.startswith("people/")] == [
        f"people/part-{part}.parquet" for part in range(3)
    ]


def test_a_column_that_the_body_did_not_write_is_refused(bench, plan):
    bench.keyring.create("pii", "wrap")
    output = Output(name="out", uri=bench.uri("x.parquet"), columns={"snn": "pii"})

    error, said = bench.refusal(
        plan(outputs=[output]), lambda bound: FRAME.to_parquet(bound["out"])
    )

    assert ("object.seal", "output_missing") in said
    assert "'snn'" in str(error)


def test_a_column_key_that_is_missing_is_refused_before_the_body_runs(bench, plan):
    output = Output(name="out", uri=bench.uri("x.parquet"), columns=COLUMNS)

    _, said = bench.refusal(plan(outputs=[output]))

    assert ("object.seal", "key_missing") in said


def test_a_rule_says_which_dags_open_a_column(bench, plan, people):
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\n[data.column_keys]\npii = ["billing_*"]\n')

    assert read(bench, plan).equals(FRAME.drop(columns="ssn"))
    assert "DAG churn may not open" in refused(bench, plan, why="key_not_allowed", columns=("ssn",))


def test_a_rule_forbids_keys_for_columns_before_the_body_runs(bench, plan):
    bench.keyring.create("pii", "wrap")
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nkey = "data"\n')
    output = Output(name="out", uri=bench.uri("x.parquet"), columns=COLUMNS)

    _, said = bench.refusal(plan(outputs=[output]))

    assert ("object.seal", "key_not_allowed") in said


def test_a_rule_that_refuses_plain_data_takes_column_keys_for_sealed(bench, plan, people):
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nplain = "refuse"\n')

    assert read(bench, plan).equals(FRAME)


@pytest.mark.parametrize(
    ("how", "why"),
    [({"stream": True}, "not_sealed"), ({"quarantine": "bad.parquet"}, "key_not_allowed")],
    ids=["a stream", "a quarantine"],
)
def test_what_does_not_go_with_column_keys_is_refused(bench, plan, people, how, why):
    if "quarantine" in how:
        how = {"quarantine": bench.uri(how["quarantine"])}

    refused(bench, plan, act="object.verify", why=why, **how)


def test_columns_of_a_file_that_is_sealed_whole_are_refused(bench, plan):
    write(bench, plan, columns={})

    said = refused(bench, plan, act="object.verify", why="not_sealed", columns=("id",))

    assert "stream=True" in said


def test_keys_of_another_address_do_not_open_what_was_moved(bench, plan, people):
    bench.allow(f'[[data]]\nprefix = "{bench.data}/copy"\nsame_as = "{bench.data}/elsewhere"\n')
    (bench.data / "copy").mkdir()
    bench.path("copy/people.parquet").write_bytes(bench.path("people.parquet").read_bytes())

    refused(bench, plan, "copy/people.parquet", act="object.verify", why="not_signed")


def test_a_reader_of_another_keyring_is_told_that_the_key_is_missing(bench, plan, people, tmp_path):
    bench.keyring = LocalKeyring(bench.keyring.path)
    bench.keyring.destroy("pii", 1)

    said = refused(bench, plan, why="key_destroyed", columns=("ssn",))

    assert "pii/1" in said


def test_a_file_that_is_named_as_a_copy_of_another_would_be_is_not_lost(bench, plan):
    bench.keyring.create("pii", "wrap")

    def body(path):
        path.mkdir()
        for name in ("a.parquet", "a.parquet.sealed", "a.parquet.sealed-0"):
            FRAME.to_parquet(path / name)

    write(bench, plan, body, name="people")
    seen = []
    item = Input(name="table", uri=bench.uri("people"))

    bench.run(
        plan(inputs=[item], task_id="read"),
        lambda bound: seen.extend(sorted(each.name for each in bound["table"].parent.rglob("*"))),
    )

    assert seen == sorted(
        [*("a.parquet", "a.parquet.sealed", "a.parquet.sealed-0"), seen_folder(seen)]
    )


def seen_folder(names):
    """The input's own directory, whose name is neutral."""
    (folder,) = (name for name in names if not name.startswith("a.parquet"))
    return folder


def test_a_file_without_rows_does_not_bring_back_a_column_that_is_left_out(bench, plan):
    """Its footer says of no column that it has a key, and its readers take the others' from it."""
    bench.keyring.create("pii", "wrap")

    def body(path):
        path.mkdir()
        empty = pq.ParquetWriter(path / "part-0.parquet", pa.Schema.from_pandas(FRAME))
        empty.close()
        FRAME.to_parquet(path / "part-1.parquet")

    write(bench, plan, body, name="people")
    without_pii(bench)
    found = []
    item = Input(name="table", uri=bench.uri("people"))
    bench.run(
        plan(inputs=[item], task_id="read"),
        lambda bound: found.extend(
            sorted(pq.read_schema(file).names) for file in bound["table"].iterdir()
        ),
    )

    assert found == [["age", "id"], ["age", "id"]]


def test_a_column_wanted_from_a_file_without_rows_needs_its_key_too(bench, plan):
    bench.keyring.create("pii", "wrap")

    def body(path):
        path.mkdir()
        pq.ParquetWriter(path / "part-0.parquet", pa.Schema.from_pandas(FRAME)).close()
        FRAME.to_parquet(path / "part-1.parquet")

    write(bench, plan, body, name="people")
    without_pii(bench)

    refused(bench, plan, "people", columns=("ssn",), why="key_disabled")


def test_a_folder_named_by_values_of_a_keyed_column_is_refused(bench, plan):
    bench.keyring.create("pii", "wrap")

    def body(path):
        (path / "ssn=123-45-6789").mkdir(parents=True)
        FRAME.to_parquet(path / "ssn=123-45-6789" / "part-0.parquet")

    with pytest.raises(PolicyError, match="names of folders say") as refusal:
        write(bench, plan, body, name="people")

    assert refusal.value.why == "output_unexpected"


def test_an_address_that_says_values_of_a_keyed_column_is_refused(bench, plan):
    bench.keyring.create("pii", "wrap")

    with pytest.raises(PolicyError, match="names of folders say"):
        write(bench, plan, name="ssn=123/people.parquet")
