"""A keyring's keys as versions that can be rotated: what the KeyRotation port asks of it.

Keys that are held here are never rewrapped blind: the holder is a reader.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow_secure_ml.core.keyring import changes
from airflow_secure_ml.core.keyring.model import Keyring
from airflow_secure_ml.core.ports import KeyVersion
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE, TYPE_LOCAL_KEK
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import ConfigurationError, PolicyError

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
CREATED_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def versions_of(keyring: Keyring, name: str) -> list[KeyVersion]:
    """Every version of a key, oldest first; PolicyError (key_missing) if there is none."""
    return [
        KeyVersion(number=each.number, state=each.state, created=_time(each.created))
        for each in keyring.key(name).versions
    ]


def version_in(name: str, slot: Slot) -> int | None:
    """Which version of this key a slot of type 1 is for; None: another key's."""
    owner, _, number = slot.id.rpartition("/")
    if slot.type != TYPE_LOCAL_KEK or owner != name or not _NUMBER.fullmatch(number):
        return None
    return int(number)


def received_version_in(keyring: Keyring, name: str, slot: Slot) -> int | None:
    """Which version of this key a slot of type 2 is for; None: another key's."""
    key = keyring.keys.get(name)
    if slot.type != TYPE_HPKE or key is None or key.purpose not in ("receive", "recipient"):
        return None
    return next((each.number for each in key.versions if each.recipient.id == slot.id), None)


def retire_below(keyring: Keyring, name: str, version: int) -> Keyring:
    """Disable what still opens of the versions below this one."""
    key = keyring.key(name)
    if version not in {each.number for each in key.versions}:
        raise PolicyError(
            f"key {name}/{version}: expected a version from 1 to {key.newest.number}",
            why="key_missing",
        )
    for each in key.versions:
        if each.number < version and each.state in ("active", "retired"):
            keyring = changes.disable(keyring, name, each.number)
    return keyring


def refuse_blind(name: str, bodies: Sequence[tuple[bytes, bytes]]) -> ConfigurationError:
    """The refusal to rewrap bodies of a key that is held here."""
    return ConfigurationError(
        f"key {name}: {len(bodies)} slots to rewrap blind, and the key is held here; "
        "rewrap as a reader"
    )


def _time(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, CREATED_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
