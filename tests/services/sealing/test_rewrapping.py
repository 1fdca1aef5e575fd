"""Rewrap: other slots, the same core and payload; concurrent readers and writers see no halves."""

from __future__ import annotations

import os
import threading

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    IntegrityError,
    PolicyError,
)
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import digest_payload, seal_object


def rewrap(bench, data, *, readers=None, keys, expect=ANY_CONTEXT):
    obj = bench.put(data)
    with bench.store.create(bench.uri) as writer:
        bench.rewrapped = rewrap_object(
            obj, writer, readers=readers or [bench.kek], keys=keys, expect=expect
        )
        writer.commit(replace=True, if_version=bench.rewrapped.replaces)
    return bench.store.objects[bench.uri]


@pytest.mark.parametrize("length", [0, 5, 65535, 65536, 3_000_000])
def test_a_rewrapped_file_opens_with_its_new_keys_only(bench, kek, pattern, length):
    file, newer = bench.seal(pattern(length)), kek("team/4", b"n" * 32)
    before = digest_payload(bench.put(file))

    again = rewrap(bench, file, keys=[newer])

    assert digest_payload(bench.put(again)) == before
    assert bench.open(again, keys=[newer]) == pattern(length)
    with pytest.raises(PolicyError):
        bench.open(again)
    assert bench.rewrapped.slots == ((1, "team/4"),)
    assert str(bench.rewrapped.opened_by) == "team/3"


def test_many_slots_move_the_payload_and_back(bench, kek, pattern):
    keys = [kek(f"team/{i}", bytes([i]) * 32) for i in range(64)]
    file = bench.seal(pattern(2_000_000))

    grown = rewrap(bench, file, keys=keys)
    shrunk = rewrap(bench, grown, readers=[keys[63]], keys=[bench.kek])

    assert bench.open(grown, keys=[keys[40]]) == pattern(2_000_000)
    assert len(shrunk) == len(file)
    assert bench.open(shrunk) == pattern(2_000_000)


def test_rewrapping_is_reading_first(bench, kek):
    file = bench.seal(b"hello")

    with pytest.raises(PolicyError):
        rewrap(bench, file, readers=[kek("other/1")], keys=[bench.kek])
    with pytest.raises(PolicyError):
        rewrap(bench, file, keys=[bench.kek], expect={"dataset": "d2"})
    with pytest.raises(ConfigurationError):
        rewrap(bench, file, keys=[bench.kek], expect={})
    with pytest.raises(ConfigurationError):
        rewrap(bench, file, keys=[bench.kek, bench.kek])
    altered = file[:480] + bytes([file[480] ^ 1]) + file[481:]
    with pytest.raises(CiphertextError):
        rewrap(bench, altered, keys=[bench.kek])
    assert bench.store.objects[bench.uri] == altered


def test_a_writer_that_copies_ranges_is_used(bench, pattern):
    file, calls = bench.seal(pattern(3_000_000)), []
    obj = bench.put(file)

    class Copier:
        data = bytearray(len(file))

        def write_at(self, offset, data):
            self.data[offset : offset + len(data)] = data

        def copy_range(self, source, source_offset, offset, length):
            calls.append(length)
            if len(calls) > 2:
                return 0
            self.write_at(offset, source.read_at(source_offset, 1_000_000))
            return 1_000_000

    writer = Copier()
    rewrap_object(obj, writer, readers=[bench.kek], keys=[bench.kek], expect=ANY_CONTEXT)

    assert writer.data[4096:] == file[4096:]
    assert len(calls) == 3


@pytest.fixture
def local(tmp_path, bench, pattern):
    """A sealed file on a disk: (store, uri, path)."""
    store, path = LocalObjects(), tmp_path / "object.asml"
    uri = store.canonical(str(path))
    with store.create(uri) as writer:
        writer.write_at(0, bench.seal(pattern(1_200_000)))
        writer.commit(replace=False)
    os.chmod(path, 0o640)
    return store, uri, path


class Stepwise:
    """A pinned object or writer that replaces the file at the n-th call."""

    def __init__(self, target, clock):
        self._target, self._clock = target, clock

    def __getattr__(self, name):
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args, **kwargs):
            self._clock()
            return value(*args, **kwargs)

        return call


def clock(at, act):
    calls = iter(range(10_000))
    return lambda: act() if next(calls) == at else None


@pytest.mark.parametrize("at", range(9))
def test_an_object_replaced_between_any_two_calls_is_left_whole(local, bench, at, tmp_path):
    store, uri, path = local
    other = tmp_path / "other"
    other.write_bytes(b"somebody else's")
    tick = clock(at, lambda: os.replace(other, path))

    def rewrap_and_publish(obj, writer):
        done = rewrap_object(obj, writer, readers=[bench.kek], keys=[bench.kek], expect=ANY_CONTEXT)
        writer.commit(replace=True, if_version=done.replaces)

    with store.open(uri) as obj, store.create(uri) as writer, pytest.raises(IntegrityError):
        rewrap_and_publish(Stepwise(obj, tick), Stepwise(writer, tick))

    assert path.read_bytes() == b"somebody else's"
    assert sorted(os.listdir(tmp_path)) == ["object.asml"]


def test_the_mode_is_kept(local, bench):
    store, uri, path = local

    with store.open(uri) as obj, store.create(uri) as writer:
        done = rewrap_object(obj, writer, readers=[bench.kek], keys=[bench.kek], expect=ANY_CONTEXT)
        writer.commit(replace=True, if_version=done.replaces)

    assert path.stat().st_mode & 0o777 == 0o640


def test_a_thousand_reads_beside_rewraps_raise_no_alarm(tmp_path, bench, kek):
    store, path = LocalObjects(), tmp_path / "object.asml"
    uri = store.canonical(str(path))
    with store.create(uri) as writer:
        seal_object(
            store.open(make_plain(tmp_path, store)),
            writer,
            keys=[bench.kek],
            context=bench.context,
        )
        writer.commit(replace=False)
    more = [kek(f"other/{i}", bytes([i]) * 32) for i in range(40)]
    stop, failures, versions = threading.Event(), [], []

    def keep_rewrapping():
        try:
            while not stop.is_set():
                keys = [bench.kek, *more[: 40 * (len(versions) % 2)]]
                with store.open(uri) as obj, store.create(uri) as writer:
                    done = rewrap_object(
                        obj, writer, readers=[bench.kek], keys=keys, expect=ANY_CONTEXT
                    )
                    versions.append(writer.commit(replace=True, if_version=done.replaces))
        except Exception as error:
            failures.append(error)

    rewrapper = threading.Thread(target=keep_rewrapping)
    rewrapper.start()
    reads = 0
    try:
        # A busy disk makes rewraps slow; reading goes on until there were enough of them.
        while not failures and (reads < 1000 or len(versions) < 20):
            with store.open(uri) as obj:
                reader = SealedReader(obj, keys=[bench.kek], expect=bench.context)
                assert reader.read() == b"hello" * 100
            reads += 1
    finally:
        stop.set()
        rewrapper.join()

    assert failures == []


def make_plain(tmp_path, store):
    (tmp_path / "plain").write_bytes(b"hello" * 100)
    return store.canonical(str(tmp_path / "plain"))
