"""In-memory ports: what tests and `dag.test()` use where the adapters touch disks and keys.

They hold the same rules as the adapters; one suite of contract tests runs against both. Nothing
survives the process.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Sequence

from airflow_secure_ml.core.audit.event import Fact, assemble
from airflow_secure_ml.core.ed25519 import Ed25519Signer, Ed25519Verifier, PublicKey
from airflow_secure_ml.core.keyring import changes, versions
from airflow_secure_ml.core.keyring.model import Keyring, Purpose
from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.hpke import HpkeOpener, HpkeWrapper
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.testing.memory_objects import MemoryObjects
from airflow_secure_ml.testing.memory_transit import MemoryTransit

__all__ = ["MemoryAudit", "MemoryKeySystem", "MemoryObjects", "MemoryTransit"]

_CREATED = "2026-01-01T00:00:00Z"


class MemoryKeySystem:
    """KeySystem with keys made on the spot.

    Args:
        keys: Names and purposes (`wrap`, `sign`) of the first keys.
        random_bytes: Where keys come from.
    """

    def __init__(
        self,
        keys: Sequence[tuple[str, Purpose]] = (("data", "wrap"), ("pipeline", "sign")),
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._random_bytes = random_bytes
        self.keyring = Keyring(system="memory", where="the test's key system")
        for name, purpose in keys:
            self.create(name, purpose)

    def wrapper(self, name: str) -> KekWrapper | HpkeWrapper:
        """The newest active version of a key that seals."""
        return self.keyring.wrapper(name)

    def unwrappers(self, names: Collection[str] | None = None) -> list[KekWrapper]:
        """Every version of wrap keys that may still open, newest first in each key; None: all."""
        return self.keyring.unwrappers(names)

    def openers(self, names: Collection[str] | None = None) -> list[KekWrapper | HpkeOpener]:
        """As `unwrappers`, with keys to receive with."""
        return self.keyring.openers(names)

    def signer(self, name: str) -> Ed25519Signer:
        """The newest active version of a sign key."""
        return self.keyring.signer(name)

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every accepted version of these sign keys."""
        return self.keyring.verifiers(names)

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the version that a slot names."""
        return self.keyring.state_of(slot_type, slot_id)

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version of a key, oldest first."""
        return versions.versions_of(self.keyring, name)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system=self.keyring.system, name=name, version=str(version))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version of this key a slot is for; None: another key's."""
        found = versions.version_in(name, slot)
        return found or versions.received_version_in(self.keyring, name, slot)

    def is_blind(self, name: str) -> bool:
        """No; `MemoryTransit` is."""
        return False

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Refuse; ConfigurationError."""
        raise versions.refuse_blind(name, bodies)

    def fence(self, name: str) -> int:
        """The newest version."""
        return self.keyring.key(name).newest.number

    def retire_below(self, name: str, version: int) -> None:
        """Disable the versions below this one."""
        self.keyring = versions.retire_below(self.keyring, name, version)

    def create(self, name: str, purpose: Purpose, *, post_quantum: bool = False) -> None:
        """Make a key with its first version."""
        self.keyring = changes.create(
            self.keyring,
            name,
            purpose,
            now=_CREATED,
            random_bytes=self._random_bytes,
            post_quantum=post_quantum,
        )

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""
        self.keyring = changes.rotate(
            self.keyring, name, now=_CREATED, random_bytes=self._random_bytes
        )
        key = self.keyring.key(name)
        return self.keyring.ref(key, key.newest)

    def disable(self, name: str, version: int | None = None) -> None:
        """Let a key, or one version of it, do nothing until it is enabled."""
        self.keyring = changes.disable(self.keyring, name, version)

    def destroy(self, name: str, version: int | None = None) -> None:
        """Remove a key's bytes, or one version's."""
        self.keyring = changes.destroy(self.keyring, name, version)

    def trust(self, name: str, keys: Sequence[PublicKey]) -> None:
        """Add somebody else's public keys."""
        self.keyring = changes.trust(self.keyring, name, keys, now=_CREATED)


class MemoryAudit:
    """AuditSink that keeps facts in a list, and refuses what no event may say.

    Attributes:
        facts: What was recorded.
        settled: How many facts were durable at the last `settle`.
        broken: Set by a test: `settle` fails from then on.
        closed: Whether `close` was called last.
    """

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.settled = 0
        self.broken = False
        self.closed = False
        self._emitter = ""
        self._seq = 0
        self._guard = threading.Lock()

    def record(self, fact: Fact) -> str:
        """Take a fact; returns the event's name.

        Raises:
            FormatError: Not an event of the catalogue (why `bug`).
        """
        with self._guard:
            if not self._emitter:
                self._emitter, self._seq, self.closed = secrets.token_hex(16), 0, False
            # Number 0 is the emitter's own opening, as in the spool.
            seq = self._seq + 1
            assemble(fact, emitter=self._emitter, seq=seq, prev="0" * 64, time=0, mono=0)
            self._seq = seq
            self.facts.append(fact)
            return f"{self._emitter}:{seq}"

    def settle(self) -> None:
        """Count everything recorded so far as durable."""
        with self._guard:
            if self.broken:
                raise ServiceUnavailableError(
                    service="audit",
                    action="settle",
                    reason="broken by a test",
                    why="audit_unavailable",
                )
            self.settled = len(self.facts)

    def close(self) -> None:
        """Let go; the next fact begins another emitter."""
        with self._guard:
            self._emitter, self.closed = "", True
