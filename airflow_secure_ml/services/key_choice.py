"""Which keys of a system seal under a name, and which open for a reader who demands a signature.

A name may stand for several keys, and some keys open what anybody may have sealed; a system that
has neither answers with what every KeySystem has.

Source: SEALED_FILE_FORMAT, What opening does not prove.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from airflow_secure_ml.core.ports import KeySystem, KeyWrapper
from airflow_secure_ml.core.sealed_file.hpke import Recipient, check_strength


@runtime_checkable
class ReceivingKeys(Protocol):
    """A key system with keys to receive with."""

    def openers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """As `KeySystem.unwrappers`, with keys that open what anybody may have sealed."""


@runtime_checkable
class GroupedKeys(Protocol):
    """A key system in which a name may stand for several keys."""

    def wrappers(self, name: str) -> Sequence[KeyWrapper]:
        """The newest active version of each key that a name stands for."""


def sealing_keys(
    keys: KeySystem, names: Sequence[str], *, mixed_strength: bool = False
) -> list[KeyWrapper]:
    """The keys that some names stand for, each once, in the order given.

    Args:
        keys: The key system.
        names: Keys and groups.
        mixed_strength: Whether a classical recipient may stand beside a quantum-resistant one.

    Raises:
        PolicyError: A key that is missing or may not seal.
        ConfigurationError: Recipients of different strength.
    """
    found: dict[tuple[int, str], KeyWrapper] = {}
    for name in names:
        each = keys.wrappers(name) if isinstance(keys, GroupedKeys) else [keys.wrapper(name)]
        for key in each:
            found.setdefault((key.slot_type, key.slot_id), key)
    chosen = list(found.values())
    if not mixed_strength:
        recipients = (getattr(key, "recipient", None) for key in chosen)
        check_strength(each for each in recipients if isinstance(each, Recipient))
    return chosen


def opening_keys(keys: KeySystem, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
    """Every key that opens, for who verifies a signature over what is opened, or does without.

    Raises:
        PolicyError: A name that is missing or only signs.
    """
    return keys.openers(names) if isinstance(keys, ReceivingKeys) else keys.unwrappers(names)
