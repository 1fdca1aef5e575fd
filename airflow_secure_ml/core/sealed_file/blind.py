"""Put other bodies into the slots of a header whose file key is not known.

Only bodies that the header's authentication code leaves out (types 3 and 4), since it stays as it
is, and so does the header's length. That they hold the file key is for the next reader to check.

Source: SEALED_FILE_FORMAT, Rewrap, Blind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_secure_ml.core.sealed_file.header import MAC_BYTES, Header, decode_header
from airflow_secure_ml.core.sealed_file.slots import SELF_PROVING, Slot
from airflow_secure_ml.errors import ConfigurationError, FormatError


def with_bodies(header: Header, bodies: Mapping[Slot, bytes], *, object_bytes: int) -> bytes:
    """The header's bytes with other bodies in some of its slots; as many bytes as before.

    Args:
        header: As it was read.
        bodies: The new body by the slot as it is now.
        object_bytes: The object's whole length, header included.

    Raises:
        ConfigurationError: A slot that it does not have, one whose body is authenticated, or
            bodies that do not fit.
        FormatError: A body that no reader would take.
    """
    for slot in bodies:
        if slot not in header.slots or slot.type not in SELF_PROVING:
            raise ConfigurationError(
                f"slot {slot.id} (type {slot.type}): expected a slot of the header, of type "
                f"{' or '.join(map(str, sorted(SELF_PROVING)))}; rewrap it as a reader"
            )
    slots = tuple(replace(slot, body=bodies.get(slot, slot.body)) for slot in header.slots)
    start = (
        header.core.encoded
        + header.size_bytes.to_bytes(4, "big")
        + len(slots).to_bytes(2, "big")
        + b"".join(slot.encoded for slot in slots)
    )
    room = header.size_bytes - MAC_BYTES - len(start)
    if room < 0:
        raise ConfigurationError(
            f"header: its new slots need {-room} bytes more than it has, and without the file key "
            "it cannot grow; rewrap it as a reader"
        )
    encoded = start + bytes(room) + header.mac
    # As a reader will see it: nothing but these bodies may have changed.
    again = decode_header(encoded, object_bytes=object_bytes)
    if again != replace(header, slots=slots):
        raise FormatError("header: with its new bodies it would be read as another one")
    return encoded
