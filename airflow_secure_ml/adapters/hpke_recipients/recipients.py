"""A public key of somebody else, named where addresses of keys are: `hpke:<algorithm>:<text>`.

Whoever holds the private half opens, elsewhere; every other question is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

from airflow_secure_ml.core.ports import KeyRef, KeyVersion, Signer, Verifier
from airflow_secure_ml.core.sealed_file.hpke import HpkeWrapper, Recipient, parse_recipient
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import ConfigurationError, PolicyError, SecureMLError

SYSTEM = "hpke"


class HpkeRecipients:
    """One public key under the names that the settings give it; its one version is 1.

    Args:
        text: What `secure-ml keys export-public` printed.
        names: What the settings call it.

    Raises:
        ConfigurationError: The text is damaged, or is another one.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        try:
            self._recipient = parse_recipient(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"key {', '.join(sorted(names))}: {error}") from error
        self._names = frozenset(names)

    def __repr__(self) -> str:
        return f"HpkeRecipients({self._recipient!r})"

    def wrapper(self, name: str) -> HpkeWrapper:
        """The public key."""
        return HpkeWrapper(self._recipient, self.ref(self._known(name), 1))

    def recipient(self, name: str) -> Recipient:
        """The public key itself."""
        self._known(name)
        return self._recipient

    def unwrappers(self, names: Collection[str] | None = None) -> list[HpkeWrapper]:
        """Nothing of its own; PolicyError (key_not_allowed) where it is named."""
        for name in names or ():
            self._refuse(name)
        return []

    def openers(self, names: Collection[str] | None = None) -> list[HpkeWrapper]:
        """Nothing: its owner opens."""
        return []

    def signer(self, name: str) -> Signer:
        """Refuse; PolicyError (key_not_allowed)."""
        self._refuse(name)

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Refuse; PolicyError (key_not_allowed)."""
        for name in names:
            self._refuse(name)
        return []

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """None: no key that opens is here."""
        return None

    def versions(self, name: str) -> list[KeyVersion]:
        """The one version."""
        self._known(name)
        return [KeyVersion(number=1, state="active", created=None)]

    def rotate(self, name: str) -> KeyRef:
        """Refuse; ConfigurationError."""
        raise self._unchanging(name)

    def ref(self, name: str, version: int) -> KeyRef:
        """The key as events name it."""
        return KeyRef(system=SYSTEM, name=name, version=str(version))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """1 where a slot is for this key; None: another key's."""
        is_its = slot.type == TYPE_HPKE and slot.id == self._recipient.id
        return 1 if is_its and name in self._names else None

    def is_blind(self, name: str) -> bool:
        """No: there is nothing to rewrap with."""
        return False

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Refuse; ConfigurationError."""
        raise self._unchanging(name)

    def fence(self, name: str) -> int:
        """The one version."""
        self._known(name)
        return 1

    def retire_below(self, name: str, version: int) -> None:
        """Refuse; ConfigurationError."""
        raise self._unchanging(name)

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise PolicyError(
                f"key {name}: expected {', '.join(sorted(self._names))} here; name another key",
                why="key_missing",
            )
        return name

    def _refuse(self, name: str) -> NoReturn:
        raise PolicyError(
            f"key {self._known(name)}: expected one that opens or signs, found a recipient's "
            "public key, which only seals; name another key",
            why="key_not_allowed",
        )

    def _unchanging(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"key {name}: somebody else's public key, which only its owner replaces; set its "
            "address in [secure_ml] key_names to the new one"
        )
