"""`inspect` counts what headers say, and names what it cannot read."""

from __future__ import annotations

import io
import json

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.inspecting import inspect_below
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.testing.memory_transit import MemoryTransit
from airflow_secure_ml.testing.ports import MemoryKeySystem
from tests.commands.test_rotation import Desk
from tests.services.sealing.test_sealing_below import FILES, Move


@pytest.fixture
def move(tmp_path):
    move = Move(tmp_path)
    move.write(FILES)
    move.seal(context={"purpose": "training"})
    return move


def seal(path, keys, data=b"hello"):
    store = LocalObjects()
    with store.create(store.canonical(str(path))) as writer:
        seal_object(
            io.BytesIO(data), writer, keys=keys, context={"a": "b"}, plaintext_bytes=len(data)
        )
        writer.commit(replace=True)


def inspect(path, **more):
    store = LocalObjects()
    return inspect_below(store, store.canonical(str(path)), threads=4, **more).as_record()


def test_a_sealed_folder_is_counted(move):
    seen = inspect(move.path / "sealed")

    (header,) = move.headers()
    identifier = header.removesuffix(".asmk")
    assert seen == {
        "sealed": 5,
        "plain": 0,
        "data_set_keys": 1,
        "statements": 0,
        "signed": 5,
        "unsigned": 0,
        "header_bytes": 512 * 3 + 4096 * 2,
        # Start and tag of each, and a tag more for the second segment.
        "payload_bytes": sum(map(len, FILES.values())) + 5 * (40 + 16) + 16,
        "plaintext_bytes": sum(map(len, FILES.values())),
        "broken": 0,
        "suites": {"aes256-gcm-1mb": 5},
        "slots": {"data-set-key": 5, "local": 1},
        "keys": {f"data-set-key {identifier}": 5, "local data/1": 1},
        "context": {"dataset": 5, "object": 5, "purpose": 5},
        "failures": [],
        "authenticated": False,
    }


def test_folders_above_count_statements_and_plain_files_apart(move):
    seen = inspect(move.path)

    # A data set's key is found below its own root alone.
    assert (seen["sealed"], seen["plain"], seen["statements"], seen["signed"]) == (5, 5, 1, 5)


def test_what_no_statement_lies_beside_is_unsigned(tmp_path):
    seal(tmp_path / "a", [MemoryKeySystem().wrapper("data")])
    (tmp_path / "b.sig").mkdir()
    (tmp_path / "b.sig" / "x").write_bytes(b"")

    seen = inspect(tmp_path)

    assert (seen["signed"], seen["unsigned"], seen["statements"]) == (0, 1, 1)


def test_versions_of_keys_are_told_where_slots_tell_them(tmp_path):
    keys, transit = MemoryKeySystem(), MemoryTransit({"health": "wrap"})
    seal(tmp_path / "a", [keys.wrapper("data")])
    keys.rotate("data")
    transit.rotate("health")
    seal(tmp_path / "b", [keys.wrapper("data"), transit.wrapper("health")])

    seen = inspect(tmp_path)

    slot = transit.wrapper("health").slot_id
    assert seen["keys"] == {"local data/1": 1, "local data/2": 1, f"vault {slot}/v2": 1}
    assert seen["slots"] == {"local": 2, "vault": 1}


def test_broken_files_are_counted_and_ten_are_named(tmp_path):
    key = MemoryKeySystem().wrapper("data")
    for number in range(12):
        path = tmp_path / f"{number:02}"
        seal(path, [key])
        data = bytearray(path.read_bytes())
        if number % 2:
            data[8] = 9
        path.write_bytes(data if number % 2 else data[: len(data) - 30])
    seal(tmp_path / "whole", [key])

    seen = inspect(tmp_path)

    assert (seen["broken"], seen["sealed"], len(seen["failures"])) == (12, 1, 10)
    assert f"{tmp_path}/00" in seen["failures"][0]


def test_it_says_how_far_it_is(move):
    steps = []

    inspect(move.path / "sealed", pace=lambda files, size: steps.append(files))

    assert sorted(steps) == steps
    assert steps[-1] >= 6


@pytest.fixture
def desk(tmp_path):
    LocalKeyring(tmp_path / "secure_ml" / "keyring.json").init()
    return Desk(tmp_path)


def test_the_command_says_it_in_words_and_to_programs(desk, move):
    answer = desk.run("inspect", "sealed")
    assert answer.returncode == 0, answer.stderr
    said = answer.stdout.splitlines()
    record = desk.done("inspect", "sealed")

    assert said[0].startswith("sealed   5 files, 1.4 MB (headers ")
    assert "signed   5 have a statement beside or above them, 0 have none" in said
    assert "slot     data-set-key: 5" in said
    assert said[-1].startswith("read without a key")
    assert record["prefix"] == f"file://{desk.path}/sealed"


def test_one_file_tells_how_much_it_holds(desk, move):
    assert desk.done("inspect", "sealed/a.csv")["plaintext_bytes"] == 5
    (header,) = move.headers()
    assert desk.done("inspect", f"sealed/_asml/{header}")["plaintext_bytes"] is None


def test_broken_files_give_status_1_and_all_the_counts(desk, move):
    path = desk.path / "sealed/a.csv"
    path.write_bytes(path.read_bytes()[:300])

    answer = desk.run("inspect", "sealed", "--json")

    assert answer.returncode == 1
    assert (json.loads(answer.stdout)["sealed"], json.loads(answer.stdout)["broken"]) == (4, 1)


def test_nothing_there_is_wrong_use(desk):
    assert "found nothing" in desk.refused(2, "inspect", "nowhere")["message"]
