"""One key a DAG, whoever is first: several processes at once, and one that dies in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_xcom import key_context, key_folder
from airflow_secure_ml.errors import FormatError, PolicyError
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.rewrapping_below import rewrap_below
from airflow_secure_ml.services.sealed_values import CURRENT, OwnerKeys, open_value, seal_value
from airflow_secure_ml.testing.ports import MemoryAudit

MAKER = Path(__file__).with_name("key_maker.py")
FOLDER, CONTEXT = key_folder("churn"), key_context("churn")


class Place:
    """A keyring, and the folder that processes share."""

    def __init__(self, folder):
        self.keyring, self.keys = folder / "keyring.json", folder / "keys"
        self.local = LocalKeyring(self.keyring)
        self.local.init()

    def owner_keys(self):
        store = LocalObjects()
        return OwnerKeys(
            store,
            store.canonical(str(self.keys)),
            keys=self.local,
            wrap_key="data",
            open_keys=["data"],
        )

    def headers(self):
        return sorted(self.keys.glob("*/_asml/*.asmk"))

    def start(self, last="nothing"):
        process = subprocess.Popen(
            [sys.executable, str(MAKER), str(self.keyring), str(self.keys), last],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        return process


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def opened(keys, sealed):
    return open_value(sealed, name="value", keys=keys.of(FOLDER), expect=CONTEXT).plaintext


def test_processes_that_begin_at_once_share_one_key(place):
    processes = [place.start() for _ in range(6)]

    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    sealed = [bytes.fromhex(process.communicate(timeout=60)[0]) for process in processes]

    assert len(place.headers()) == 1
    keys = place.owner_keys()
    assert [opened(keys, value) for value in sealed] == [b"hello"] * 6


@pytest.mark.parametrize(("last", "headers"), [("header", 2), ("pointer", 1)])
def test_a_process_killed_while_it_makes_the_key_stops_nobody(place, last, headers):
    process = place.start(last)
    process.communicate("\n", timeout=60)
    assert process.returncode == -signal.SIGKILL

    keys = place.owner_keys()
    sealed = seal_value(b"hello", key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)

    assert opened(place.owner_keys(), sealed) == b"hello"
    assert len(place.headers()) == headers


def test_the_key_is_kept_by_the_process_and_found_by_the_next(place):
    first = place.owner_keys()

    key = first.sealing_key(FOLDER, CONTEXT)

    assert first.sealing_key(FOLDER, CONTEXT) is key
    assert place.owner_keys().sealing_key(FOLDER, CONTEXT).slot_id == key.slot_id
    assert place.headers()[0].stem == key.slot_id


def test_the_key_lies_wrapped_and_private(place):
    place.owner_keys().sealing_key(FOLDER, CONTEXT)

    (header,) = place.headers()
    assert header.stat().st_mode & 0o777 == 0o600
    assert header.stat().st_size == 512


def test_a_rotated_wrap_key_still_opens_what_it_wrapped(place):
    keys = place.owner_keys()
    sealed = seal_value(b"hello", key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)
    place.local.rotate("data")

    assert opened(place.owner_keys(), sealed) == b"hello"


def test_a_destroyed_wrap_key_takes_every_value_with_it(place):
    keys = place.owner_keys()
    sealed = seal_value(b"hello", key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)
    place.local.rotate("data")
    place.local.destroy("data", 1)

    with pytest.raises(PolicyError) as caught:
        opened(place.owner_keys(), sealed)

    assert caught.value.why == "key_destroyed"


def test_rewrapping_below_the_folder_renews_the_keys_and_no_value(place):
    keys = place.owner_keys()
    sealed = seal_value(b"hello", key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)
    place.local.rotate("data")
    store = LocalObjects()

    tally = rewrap_below(
        store,
        store.canonical(str(place.keys)),
        keys=place.local,
        name="data",
        trail=Journal(MemoryAudit(), None, lambda line: None),
    )
    place.local.destroy("data", 1)

    assert (tally.rewrapped, tally.failed) == (1, 0)
    again = place.owner_keys()
    assert opened(again, sealed) == b"hello"
    assert again.sealing_key(FOLDER, CONTEXT).ref.version == "2"


def test_a_new_key_begins_when_the_pointer_is_removed_and_old_values_open(place):
    keys = place.owner_keys()
    old = seal_value(b"hello", key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)
    (place.keys / FOLDER / CURRENT).unlink()

    again = place.owner_keys()
    new = seal_value(b"hello", key=again.sealing_key(FOLDER, CONTEXT), context=CONTEXT)

    assert (opened(again, old), opened(again, new)) == (b"hello", b"hello")
    assert len(place.headers()) == 2


@pytest.mark.parametrize("text", [b"", b"x", b"0" * 63, b"0" * 65, b"G" * 64], ids=repr)
def test_a_broken_pointer_is_an_error(place, text):
    place.owner_keys().sealing_key(FOLDER, CONTEXT)
    (place.keys / FOLDER / CURRENT).write_bytes(text)

    with pytest.raises(FormatError, match="64 hex digits"):
        place.owner_keys().sealing_key(FOLDER, CONTEXT)


def test_a_sealed_value_is_larger_by_its_header_and_56_bytes(place):
    keys = place.owner_keys()

    sealed = seal_value(b"x" * 100, key=keys.sealing_key(FOLDER, CONTEXT), context=CONTEXT)

    assert len(sealed) == 512 + 100 + 56


def test_an_opened_value_is_not_printed(place):
    keys = place.owner_keys()
    key = keys.sealing_key(FOLDER, CONTEXT)
    sealed = seal_value(b"canary-11", key=key, context=CONTEXT)

    found = open_value(sealed, name="value", keys=keys.of(FOLDER), expect=CONTEXT)

    assert "canary" not in repr(found)
