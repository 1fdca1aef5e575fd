"""An in-memory key system that wraps where the key lies, as Vault's Transit engine does.

One slot stands for all versions of a key, and a body says which one wrapped it. What the real
engine answers is for tests on the real server.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import NoReturn

from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.keys import TYPE_VAULT_TRANSIT, KekWrapper
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import CiphertextError, PolicyError, SecureMLError

_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryTransit:
    """Wrap keys of slot type 3; it signs nothing.

    Args:
        keys: Names of the first keys.
        random_bytes: Where keys come from.

    Attributes:
        calls: How often `rewrap` was asked, and for how many bodies.
        oldest: By key, the oldest version that still opens.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("data",),
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._random_bytes = random_bytes
        self._keys: dict[str, list[bytes]] = {name: [random_bytes(32)] for name in keys}
        self.oldest = dict.fromkeys(keys, 1)
        self.calls: list[int] = []

    def wrapper(self, name: str) -> MemoryTransitWrapper:
        """The key, whatever its newest version is."""
        self._versions(name)
        return MemoryTransitWrapper(self, name)

    def unwrappers(self, names: Collection[str] | None = None) -> list[MemoryTransitWrapper]:
        """One for each key."""
        return [
            self.wrapper(name) for name in dict.fromkeys(self._keys if names is None else names)
        ]

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """Active for every key here."""
        mount, _, name = slot_id.partition("/")
        is_here = slot_type == TYPE_VAULT_TRANSIT and mount == "memory" and name in self._keys
        return "active" if is_here else None

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version, oldest first."""
        newest = len(self._versions(name))
        return [
            KeyVersion(number=number, state=self._state(name, number), created=_CREATED)
            for number in range(1, newest + 1)
        ]

    def rotate(self, name: str) -> KeyRef:
        """Make a new version."""
        self._versions(name).append(self._random_bytes(32))
        return self.ref(name, len(self._keys[name]))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """The version that a body names."""
        is_ours = slot.type == TYPE_VAULT_TRANSIT and slot.id == f"memory/{name}"
        return _number(slot.body) if is_ours else None

    def is_blind(self, name: str) -> bool:
        """Yes."""
        return True

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Wrap bodies anew under the newest version."""
        self.calls.append(len(bodies))
        done: list[bytes | SecureMLError] = []
        for body, core_id in bodies:
            try:
                done.append(self.wrap(name, self.unwrap(name, body, core_id), core_id))
            except SecureMLError as error:
                done.append(error)
        return done

    def fence(self, name: str) -> int:
        """The newest version."""
        return len(self._versions(name))

    def retire_below(self, name: str, version: int) -> None:
        """Let versions below this one open nothing more."""
        if version > len(self._versions(name)):
            raise PolicyError(f"key {name}/{version}: no such version", why="key_missing")
        self.oldest[name] = max(self.oldest[name], version)

    def wrap(self, name: str, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """A body of the newest version."""
        newest = len(self._versions(name))
        wrapped = self._kek(name, newest).wrap(file_key, core_id)
        return b"vault:v%d:%s" % (newest, base64.b64encode(wrapped))

    def unwrap(self, name: str, body: bytes, core_id: bytes) -> bytearray:
        """The file key of a body."""
        number = _number(body)
        if number > len(self._versions(name)):
            raise CiphertextError(f"key {name}/{number}: not wrapped by this key")
        if number < self.oldest[name]:
            raise PolicyError(f"key {name}/{number}: retired", why="key_disabled")
        wrapped = base64.b64decode(body.rpartition(b":")[2])
        return self._kek(name, number).unwrap(wrapped, core_id)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system="memory", name=name, version=str(version))

    def _kek(self, name: str, number: int) -> KekWrapper:
        key = self._keys[name][number - 1]
        return KekWrapper(key, slot_id=f"{name}/{number}", ref=self.ref(name, number))

    def _state(self, name: str, number: int) -> str:
        if number < self.oldest[name]:
            return "disabled"
        return "active" if number == len(self._keys[name]) else "retired"

    def _versions(self, name: str) -> list[bytes]:
        if name not in self._keys:
            raise PolicyError(f"key {name}: expected in memory, found none", why="key_missing")
        return self._keys[name]


class MemoryTransitWrapper:
    """One key of a MemoryTransit."""

    slot_type = TYPE_VAULT_TRANSIT

    def __init__(self, keys: MemoryTransit, name: str) -> None:
        self._keys, self._name = keys, name
        self.slot_id = f"memory/{name}"

    @property
    def ref(self) -> KeyRef:
        """The newest version."""
        return self._keys.ref(self._name, len(self._keys.versions(self._name)))

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap 32 bytes for a file; returns the slot's body."""
        return self._keys.wrap(self._name, file_key, core_id)

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body."""
        return self._keys.unwrap(self._name, body, core_id)

    def __reduce__(self) -> NoReturn:
        # As of every wrapper: what is pickled goes into an XCom or a queue.
        raise TypeError("MemoryTransitWrapper cannot be pickled; pass the key's name")

    def ref_of(self, body: bytes) -> KeyRef:
        """The version that a body names."""
        return self._keys.ref(self._name, _number(body))


def _number(body: bytes) -> int:
    return int(body.split(b":", 2)[1].removeprefix(b"v"))
