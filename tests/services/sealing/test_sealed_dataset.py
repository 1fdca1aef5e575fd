"""Data-set keys: made once, found below the reader's root only, bound to their context."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, FormatError, PolicyError
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key

ROOT = "file:///data/set"
PAIRS = {"dataset": "d1"}


@pytest.fixture
def dataset_key(bench):
    return create_dataset_key(bench.store, ROOT, keys=[bench.kek], context=PAIRS)


@pytest.fixture
def root(bench):
    return DataSetRoot(bench.store, ROOT, keys=[bench.kek])


def header_uri(key):
    return f"{ROOT}/_asml/{key.slot_id}.asmk"


def test_a_file_whose_only_slot_is_the_data_sets_is_opened(bench, dataset_key, root):
    file = bench.seal(b"hello", keys=[dataset_key])

    assert bench.open(file, keys=[root]) == b"hello"
    assert str(bench.opened.key) == "team/3"
    with pytest.raises(PolicyError):
        bench.open(file, keys=[bench.kek])


def test_the_header_is_small_and_durable_before_the_first_file(bench, dataset_key):
    assert len(bench.store.objects[header_uri(dataset_key)]) == 512


def test_a_key_is_looked_up_once(bench, dataset_key, root):
    file = bench.seal(b"hello", keys=[dataset_key])
    bench.open(file, keys=[root])
    bench.store.delete(header_uri(dataset_key))

    assert bench.open(file, keys=[root]) == b"hello"
    root.wipe()
    with pytest.raises(PolicyError) as caught:
        bench.open(file, keys=[root])
    assert caught.value.why == "key_not_allowed"


def test_another_data_sets_root_opens_nothing(bench, dataset_key):
    other = DataSetRoot(bench.store, "file:///data/other", keys=[bench.kek])

    with pytest.raises(PolicyError):
        bench.open(bench.seal(b"hello", keys=[dataset_key]), keys=[other])


def test_a_key_that_the_reader_was_not_given_does_not_open_the_header(bench, dataset_key, kek):
    file = bench.seal(b"hello", keys=[dataset_key])
    stranger = DataSetRoot(bench.store, ROOT, keys=[kek("other/1")])

    with pytest.raises(PolicyError, match="team/3") as caught:
        bench.open(file, keys=[stranger])

    assert caught.value.why == "key_not_allowed"


def test_every_file_must_have_the_data_sets_pairs(bench, dataset_key):
    with pytest.raises(PolicyError) as caught:
        bench.seal(b"hello", keys=[dataset_key], context={"dataset": "d2"})
    assert caught.value.why == "context_differs"


def test_a_file_without_the_data_sets_pairs_is_not_opened(bench, dataset_key, root, reference):
    file_key = bytes(range(32))
    core = reference.core(file_key, {"dataset": "d2"})
    body = dataset_key.wrap(file_key, reference.core_id(core))
    header = reference.header(file_key, core, [(5, dataset_key.slot_id, body)], 512)
    forged = header + reference.payload(file_key, core, b"hello", bytes(32), bytes(7))

    with pytest.raises(PolicyError) as caught:
        bench.open(forged, keys=[root], expect=ANY_CONTEXT)

    assert caught.value.why == "context_differs"


def test_a_header_under_another_name_is_refused(bench, dataset_key, root):
    other = create_dataset_key(bench.store, ROOT, keys=[bench.kek], context=PAIRS)
    bench.store.put(header_uri(dataset_key), bench.store.objects[header_uri(other)])

    with pytest.raises(CiphertextError, match="another data-set key"):
        bench.open(bench.seal(b"hello", keys=[dataset_key]), keys=[root])


def test_every_byte_of_the_header_flipped_is_refused(bench, dataset_key):
    file = bench.seal(b"hello", keys=[dataset_key])
    header = bench.store.objects[header_uri(dataset_key)]

    for at in range(512):
        changed = header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]
        bench.store.put(header_uri(dataset_key), changed)
        root = DataSetRoot(bench.store, ROOT, keys=[bench.kek])
        with pytest.raises((CiphertextError, FormatError, PolicyError)):
            bench.open(file, keys=[root])


def test_a_sealed_file_is_no_data_set_key_and_the_other_way_round(bench, dataset_key, root):
    file = bench.seal(b"hello", keys=[dataset_key])
    header = bench.store.objects[header_uri(dataset_key)]

    with pytest.raises(FormatError, match="suite 0x10"):
        bench.open(header, expect=ANY_CONTEXT)
    bench.store.put(f"{ROOT}/_asml/{bench.sealed.core_id.hex()}.asmk", file)
    with pytest.raises(FormatError, match="suite 0x01"):
        root.dataset_key(bench.sealed.core_id.hex())


def test_a_data_set_key_needs_context_and_keys_of_a_key_system(bench, dataset_key):
    with pytest.raises(ConfigurationError):
        create_dataset_key(bench.store, ROOT, keys=[bench.kek], context={})
    with pytest.raises(ConfigurationError):
        create_dataset_key(bench.store, ROOT, keys=[], context=PAIRS)
    with pytest.raises(ConfigurationError, match="cannot open another"):
        create_dataset_key(bench.store, ROOT, keys=[dataset_key], context=PAIRS)


def test_rotating_rewraps_the_header_alone(bench, dataset_key, kek):
    file, newer = bench.seal(b"hello", keys=[dataset_key]), kek("team/4", b"n" * 32)
    uri = header_uri(dataset_key)

    with bench.store.open(uri) as obj, bench.store.create(uri) as writer:
        done = rewrap_object(obj, writer, readers=[bench.kek], keys=[newer], expect=PAIRS)
        writer.commit(replace=True, if_version=done.replaces)

    assert bench.open(file, keys=[DataSetRoot(bench.store, ROOT, keys=[newer])]) == b"hello"
    with pytest.raises(PolicyError):
        bench.open(file, keys=[DataSetRoot(bench.store, ROOT, keys=[bench.kek])])


def test_a_name_that_leads_elsewhere_is_never_looked_up(bench, root):
    with pytest.raises(FormatError):
        root.dataset_key("../../etc/passwd")
