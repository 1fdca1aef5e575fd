"""The KeySystem port, and its rotation, over one mount of Vault's Transit engine.

Names come from settings, rules and DAGs, and are only looked up, never listed: nothing in a file
chooses a key or causes a call.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.transit_key import TransitKey, version_in
from airflow_secure_ml.adapters.vault.transit_mount import BATCH_ITEMS, TransitMount
from airflow_secure_ml.adapters.vault.transit_wrapper import TransitSigner, TransitWrapper, ref
from airflow_secure_ml.core.ed25519 import Ed25519Verifier
from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.keys import TYPE_VAULT_TRANSIT
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import (
    ConfigurationError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)

log = logging.getLogger(__name__)

# How long a key's description is believed. Vault itself decides at each wrap and unwrap, so only
# a signature is accepted so much longer than the version that made it.
KNOWN_S = 60.0
MAX_KNOWN = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class VaultTransit:
    """Keys of one mount.

    Args:
        client: The client of this process.
        mount: Where the engine is mounted.
        names: Our name to Transit's, where they differ.
        wraps: Our names of the keys that may open when nobody names one.
        clock: Seconds; any zero, never back.
    """

    def __init__(
        self,
        client: Callable[[], VaultClient],
        mount: str,
        *,
        names: Mapping[str, str] = MappingProxyType({}),
        wraps: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mount = TransitMount(client, mount)
        self._names = dict(names)
        self._wraps = tuple(dict.fromkeys(wraps))
        self._clock = clock
        self._known: dict[str, tuple[float, TransitKey]] = {}
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"VaultTransit({self._mount.mount!r})"

    def wrapper(self, name: str) -> TransitWrapper:
        """The key that wraps under its newest version."""
        self._wrap_key(name)
        return self._wrapper(name)

    def unwrappers(self, names: Collection[str] | None = None) -> list[TransitWrapper]:
        """One for each key; None: those that the settings name, and nobody is asked for them."""
        if names is None:
            found = [self._wrapper(name) for name in self._wraps]
        else:
            found = [self.wrapper(name) for name in names]
        # Two names of ours for one key are one slot.
        return list({each.slot_id: each for each in found}.values())

    def signer(self, name: str) -> TransitSigner:
        """The newest version of a sign key, as it is now."""
        key = self._sign_key(name, fresh=True)
        verifier = self._verifier(name, key, key.newest)
        return TransitSigner(self._mount, self._at(name), verifier)

    def signer_of(self, name: str, public_key: bytes) -> TransitSigner:
        """The version of a sign key that has this public half, newest or not.

        Raises:
            PolicyError: None of those in use has it.
        """
        key = self._sign_key(name, fresh=True)
        for number, public in key.public.items():
            if public == public_key and key.state(number) in ("active", "retired"):
                return TransitSigner(self._mount, self._at(name), self._verifier(name, key, number))
        raise PolicyError(
            f"key {self._mount.where(self._at(name))}: no version in use has the public key that "
            "was asked for",
            why="key_missing",
        )

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every version of these sign keys that `min_decryption_version` leaves in use."""
        found = []
        for name in dict.fromkeys(names):
            key = self._sign_key(name)
            found += [
                self._verifier(name, key, number)
                for number in sorted(key.public, reverse=True)
                if key.state(number) in ("active", "retired")
            ]
        return found

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """Active for a key that the settings name; versions stand in bodies. Nobody is asked."""
        if slot_type != TYPE_VAULT_TRANSIT:
            return None
        return (
            "active" if slot_id in {self._wrapper(name).slot_id for name in self._wraps} else None
        )

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version as it is now, oldest first."""
        return self._key(name, fresh=True).versions()

    def rotate(self, name: str) -> KeyRef:
        """Make a new version.

        Raises:
            ServiceUnavailableError: No answer came, and there is no new version.
        """
        before = self._key(name, fresh=True).newest
        try:
            self._mount.rotate(self._at(name))
        except ServiceUnavailableError:
            # The answer may be all that was lost.
            if self._key(name, fresh=True).newest == before:
                raise
        return ref(name, self._key(name, fresh=True).newest)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return ref(name, version)

    def version_in(self, name: str, slot: Slot) -> int | None:
        """The version that a slot's body names; None: another key's slot."""
        is_ours = (slot.type, slot.id) == (TYPE_VAULT_TRANSIT, self._mount.where(self._at(name)))
        return version_in(slot.body) if is_ours else None

    def is_blind(self, name: str) -> bool:
        """Yes: Vault rewraps."""
        return True

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> list[bytes | SecureMLError]:
        """Wrap bodies anew under the newest version; a right to `transit/rewrap` suffices."""
        at, done = self._at(name), list[bytes | SecureMLError]()
        for start in range(0, len(bodies), BATCH_ITEMS):
            done += self._mount.rewrap(at, bodies[start : start + BATCH_ITEMS])
        return done

    def fence(self, name: str) -> int:
        """Raise `min_encryption_version` to the newest version."""
        newest = self._wrap_key(name, fresh=True).newest
        self._mount.configure(self._at(name), min_encryption_version=newest)
        return newest

    def retire_below(self, name: str, version: int) -> None:
        """Raise `min_decryption_version`; Vault never lowers it by this."""
        key = self._wrap_key(name, fresh=True)
        if not 1 <= version <= key.newest:
            raise PolicyError(
                f"key {name}/{version}: expected a version from 1 to {key.newest}",
                why="key_missing",
            )
        if version > key.oldest_open:
            self._mount.configure(self._at(name), min_decryption_version=version)
            self._known.pop(name, None)

    def _wrapper(self, name: str) -> TransitWrapper:
        return TransitWrapper(self._mount, self._at(name), name, lambda: self._wrap_key(name))

    def _wrap_key(self, name: str, *, fresh: bool = False) -> TransitKey:
        key = self._key(name, fresh=fresh)
        key.check_wraps(self._mount.where(self._at(name)))
        return key

    def _sign_key(self, name: str, *, fresh: bool = False) -> TransitKey:
        key = self._key(name, fresh=fresh)
        key.check_signs(self._mount.where(self._at(name)))
        return key

    def _verifier(self, name: str, key: TransitKey, number: int) -> Ed25519Verifier:
        try:
            return Ed25519Verifier(key.public[number], ref(name, number))
        except (KeyError, ValueError) as error:
            raise ConfigurationError(
                f"key {self._mount.where(self._at(name))}: expected the public key of version "
                f"{number}, found none that is Ed25519's"
            ) from error

    def _key(self, name: str, *, fresh: bool = False) -> TransitKey:
        known = self._known.get(name)
        now = self._clock()
        if known is not None and not fresh and now < known[0] + KNOWN_S:
            return known[1]
        at = self._at(name)
        key = self._mount.read(at)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[name] = (now, key)
        if key.leaves_vault and name not in self._warned:
            self._warned.add(name)
            log.warning(
                "key %s: Vault gives it away (exportable or allow_plaintext_backup); whoever may "
                "export it opens everything without Vault's knowing",
                self._mount.where(at),
            )
        return key

    def _at(self, name: str) -> str:
        at = self._names.get(name, name)
        # A name goes into a path: nothing in it may lead to another one.
        if not _NAME.fullmatch(at):
            raise ConfigurationError(
                f"key {at!r}: expected a name of Vault's Transit engine: letters, digits, '_', "
                "'.' and '-', at most 128, starting with a letter or digit"
            )
        return at
