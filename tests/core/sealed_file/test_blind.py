"""A header whose bodies somebody changed who has no file key: as long, as authentic, no other."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.sealed_file.blind import with_bodies
from airflow_secure_ml.core.sealed_file.header import (
    check_header_mac,
    decode_header,
    encode_header,
    make_core,
)
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import ConfigurationError, FormatError

FILE_KEY = bytes(range(0x20, 0x40))
OLD, NEW = b"vault:v9:QUJDREVGR0g=", b"vault:v10:SUpLTE1OT1A="
TRANSIT = Slot(type=3, id="transit/data", body=OLD)
OTHER = Slot(type=7, id="k", body=b"body")


def written(*slots):
    core = make_core(1, FILE_KEY, {"dataset": "d1"})
    encoded = encode_header(core, slots, FILE_KEY, plaintext_bytes=5)
    return encoded, decode_header(encoded, object_bytes=len(encoded))


def test_a_new_body_takes_the_place_of_the_old_one_and_the_header_stays_authentic(reference):
    old, header = written(TRANSIT, OTHER)

    new = with_bodies(header, {TRANSIT: NEW}, object_bytes=len(old))

    slots = [(3, "transit/data", NEW), (7, "k", b"body")]
    core = reference.core(FILE_KEY, {"dataset": "d1"})
    assert new == reference.header(FILE_KEY, core, slots, 512)
    check_header_mac(decode_header(new, object_bytes=len(new)), FILE_KEY)


@pytest.mark.parametrize(
    "slot",
    [OTHER, Slot(type=3, id="transit/data", body=NEW), Slot(type=3, id="transit/x", body=OLD)],
    ids=["authenticated", "another-body", "another-key"],
)
def test_only_bodies_that_prove_themselves_are_changed(slot):
    encoded, header = written(TRANSIT, OTHER)

    with pytest.raises(ConfigurationError, match="rewrap it as a reader"):
        with_bodies(header, {slot: NEW}, object_bytes=len(encoded))


@pytest.mark.parametrize("body", [b"vault:v2:", b"vault:v0:QUJD", b"vault:v2:QUJ", b""])
def test_a_body_that_no_reader_would_take_is_refused(body):
    encoded, header = written(TRANSIT)

    with pytest.raises(FormatError):
        with_bodies(header, {TRANSIT: body}, object_bytes=len(encoded))


def test_a_header_without_room_cannot_grow_without_the_file_key():
    # 44 + 2 of context "dataset: d1" make 59 bytes of core; 6 + 32 around the slots.
    room = 512 - 59 - 6 - 32 - len(TRANSIT.encoded) - len(OTHER.encoded) + len(OTHER.body)
    full = Slot(type=7, id="k", body=b"x" * room)
    encoded, header = written(TRANSIT, full)
    assert len(encoded) == 512

    with pytest.raises(ConfigurationError, match="need 1 bytes more"):
        with_bodies(header, {TRANSIT: NEW}, object_bytes=len(encoded))
    same_length = with_bodies(header, {TRANSIT: b"vault:v8:SUpLTE1OT1A="}, object_bytes=512)
    check_header_mac(decode_header(same_length, object_bytes=512), FILE_KEY)
