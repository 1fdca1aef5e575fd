"""What every key system that rotates its keys does, wherever they lie."""

from __future__ import annotations

import pickle

import moto
import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, PolicyError
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryTransit
from tests.servers.kms_place import KmsPlace

FILE_KEY, CORE_ID, OTHER_ID = bytes(range(32)), b"c" * 32, b"d" * 32


BLIND = ["memory-transit", pytest.param("vault", marks=pytest.mark.vault)]


HELD_IN_SOFTHSM = pytest.param("softhsm", marks=pytest.mark.softhsm)
AS_A_READER = ["local", "memory", HELD_IN_SOFTHSM]


@pytest.fixture(params=[*AS_A_READER, "kms", *BLIND])
def rotating(request, tmp_path):
    if request.param == "memory":
        yield MemoryKeySystem()
    elif request.param == "memory-transit":
        yield MemoryTransit()
    elif request.param == "local":
        keyring = LocalKeyring(tmp_path / "secure_ml" / "keyring.json")
        keyring.init()
        yield keyring
    elif request.param == "kms":
        # moto in place of KMS: nothing here is a claim about AWS' own checks.
        with moto.mock_aws():
            place = KmsPlace()
            place.make()
            yield place.keys()
    elif request.param == "softhsm":
        keys = request.getfixturevalue("softhsm").place().keys()
        keys.create("data", "wrap")
        yield keys
    else:
        from tests.servers.transit_place import TransitPlace

        with TransitPlace(request.getfixturevalue("vault")) as place:
            place.make("data")
            yield place.keys(wraps=["data"])


def slot_of(wrapper, core_id=CORE_ID):
    body = wrapper.wrap(FILE_KEY, core_id)
    return Slot(type=wrapper.slot_type, id=wrapper.slot_id, body=body)


def opened(keys, slot, core_id=CORE_ID):
    """What the keys that may open make of a slot; None: no key has it."""
    for key in keys.unwrappers():
        if (key.slot_type, key.slot_id) == (slot.type, slot.id):
            return bytes(key.unwrap(slot.body, core_id)), str(key.ref_of(slot.body))
    return None


def refused(keys, slot):
    """Why a slot does not open."""
    try:
        return "no key" if opened(keys, slot) is None else None
    except PolicyError as error:
        return error.why


def test_what_a_key_wraps_is_a_slot_that_it_opens_for_that_file(rotating):
    slot = slot_of(rotating.wrapper("data"))

    check_slot(slot)
    assert opened(rotating, slot) == (FILE_KEY, "data/1")
    with pytest.raises(CiphertextError):
        opened(rotating, slot, OTHER_ID)


def test_after_a_rotation_both_versions_open_and_the_new_one_wraps(rotating):
    old = slot_of(rotating.wrapper("data"))

    made = rotating.rotate("data")

    new = slot_of(rotating.wrapper("data"))
    assert str(made) == "data/2"
    assert opened(rotating, old) == (FILE_KEY, "data/1")
    assert opened(rotating, new) == (FILE_KEY, "data/2")
    assert [(each.number, each.state) for each in rotating.versions("data")] == [
        (1, "retired"),
        (2, "active"),
    ]
    assert rotating.fence("data") == 2


def test_a_slot_tells_its_version_to_whoever_names_its_key(rotating):
    old = slot_of(rotating.wrapper("data"))
    rotating.rotate("data")
    new = slot_of(rotating.wrapper("data"))
    strangers = [
        Slot(type=old.type, id="elsewhere/data/1", body=old.body),
        Slot(type=5, id="ab" * 32, body=bytes(40)),
        Slot(type=9, id=old.id, body=old.body),
    ]

    assert [rotating.version_in("data", each) for each in (old, new)] == [1, 2]
    assert [rotating.version_in("other", each) for each in (old, new)] == [None, None]
    assert [rotating.version_in("data", each) for each in strangers] == [None] * 3


def test_versions_below_the_oldest_in_use_open_nothing_and_the_others_do(rotating):
    slots = [slot_of(rotating.wrapper("data"))]
    for _ in range(2):
        rotating.rotate("data")
        slots.append(slot_of(rotating.wrapper("data")))
    rotating.fence("data")

    rotating.retire_below("data", 2)

    states = [each.state for each in rotating.versions("data")]
    assert states == ["disabled", "retired", "active"]
    assert [opened(rotating, each)[1] for each in slots[1:]] == ["data/2", "data/3"]
    assert refused(rotating, slots[0]) in ("no key", "key_disabled")
    assert slot_of(rotating.wrapper("data")).type == slots[0].type


def test_retiring_never_goes_back(rotating):
    for _ in range(2):
        rotating.rotate("data")
    rotating.fence("data")
    rotating.retire_below("data", 3)

    rotating.retire_below("data", 1)

    assert [each.state for each in rotating.versions("data")] == ["disabled", "disabled", "active"]


def test_there_is_no_version_above_the_newest_to_retire_below(rotating):
    with pytest.raises(PolicyError) as caught:
        rotating.retire_below("data", 2)

    assert caught.value.why == "key_missing"
    assert [each.state for each in rotating.versions("data")] == ["active"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda keys: keys.wrapper("nokey"),
        lambda keys: keys.unwrappers(["nokey"]),
        lambda keys: keys.versions("nokey"),
        lambda keys: keys.rotate("nokey"),
        lambda keys: keys.fence("nokey"),
        lambda keys: keys.retire_below("nokey", 1),
    ],
    ids=["wrapper", "unwrappers", "versions", "rotate", "fence", "retire"],
)
def test_a_missing_key_is_named(rotating, ask):
    with pytest.raises(PolicyError, match="nokey") as caught:
        ask(rotating)

    assert caught.value.why == "key_missing"


@pytest.mark.parametrize("rotating", BLIND, indirect=True)
def test_bodies_are_rewrapped_where_the_key_lies_each_for_its_own_file(rotating):
    old = slot_of(rotating.wrapper("data"))
    rotating.rotate("data")

    new, other = rotating.rewrap("data", [(old.body, CORE_ID), (old.body, OTHER_ID)])

    slot = Slot(type=old.type, id=old.id, body=new)
    assert rotating.is_blind("data")
    assert opened(rotating, slot) == (FILE_KEY, "data/2")
    assert isinstance(other, CiphertextError)


@pytest.mark.parametrize("rotating", AS_A_READER, indirect=True)
def test_what_holds_its_keys_rewraps_nothing_blind(rotating):
    old = slot_of(rotating.wrapper("data"))

    assert not rotating.is_blind("data")
    with pytest.raises(ConfigurationError, match="rewrap as a reader"):
        rotating.rewrap("data", [(old.body, CORE_ID)])


@pytest.mark.parametrize("rotating", BLIND, indirect=True)
def test_bodies_of_a_version_out_of_use_are_not_rewrapped(rotating):
    old = slot_of(rotating.wrapper("data"))
    rotating.rotate("data")
    rotating.fence("data")
    rotating.retire_below("data", 2)

    (answer,) = rotating.rewrap("data", [(old.body, CORE_ID)])

    assert isinstance(answer, PolicyError)
    assert answer.why == "key_disabled"


def test_what_wraps_is_not_pickled(rotating):
    with pytest.raises(TypeError):
        pickle.dumps(rotating.wrapper("data"))
