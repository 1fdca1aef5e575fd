"""The KeySystem port, and its rotation, over one token.

Names come from settings, rules and DAGs: nothing in a file chooses a key or causes a call.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from airflow_secure_ml.adapters.pkcs11.address import NAME
from airflow_secure_ml.adapters.pkcs11.objects import (
    TokenKey,
    find_object,
    make_key,
    public_bytes,
    read_key,
    set_flags,
)
from airflow_secure_ml.adapters.pkcs11.token import Token
from airflow_secure_ml.adapters.pkcs11.wrapper import SYSTEM, TokenSigner, TokenWrapper
from airflow_secure_ml.core.ed25519 import Ed25519Verifier
from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.keys import TYPE_PKCS11
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import (
    ConfigurationError,
    PolicyError,
    SecureMLError,
    ServiceError,
)

log = logging.getLogger(__name__)


class TokenKeys:
    """Keys of one token.

    Args:
        token: The token.
        names: Our name to the one in the labels, where they differ.
        wraps: Our names of the keys that may open when nobody names one.
    """

    def __init__(
        self,
        token: Token,
        *,
        names: Mapping[str, str] = MappingProxyType({}),
        wraps: Collection[str] = (),
    ) -> None:
        self._token = token
        self._names = dict(names)
        self._wraps = tuple(dict.fromkeys(wraps))

    def __repr__(self) -> str:
        return f"TokenKeys({self._token.label!r})"

    def wrapper(self, name: str) -> TokenWrapper:
        """The newest version of a wrap key."""
        return self._wrapper(name, self._active(name, "wrap"))

    def unwrappers(self, names: Collection[str] | None = None) -> list[TokenWrapper]:
        """Every version that may still open, newest first.

        None: of the keys that the settings name. A token that is not there, takes no PIN, or has
        two objects of one label opens nothing then; who asks `state_of` about a slot of its keys
        is told why.
        """
        try:
            found = [
                self._wrapper(name, each.number)
                for name in (self._wraps if names is None else names)
                for each in reversed(self._key(name, "wrap").versions)
                if each.ends
            ]
        except (ServiceError, PolicyError, ConfigurationError) as error:
            if names is not None:
                raise
            log.warning("keys in %s open nothing now: %s", self._token.label, error)
            return []
        # Two names of ours for one key are one slot.
        return list({each.slot_id: each for each in found}.values())

    def signer(self, name: str) -> TokenSigner:
        """The newest version of a sign key."""
        number = self._active(name, "sign")
        return TokenSigner(self._token, self._at(name), self._verifier(name, number))

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every version of these sign keys whose signatures are accepted, newest first."""
        found = []
        for name in dict.fromkeys(names):
            accepted = [each for each in self._key(name, "sign").versions if each.ends]
            if not accepted:
                raise _disabled(self._where(name))
            found += [self._verifier(name, each.number) for each in reversed(accepted)]
        return found

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of a version of a key that the settings name; of others nobody is asked."""
        if slot_type != TYPE_PKCS11:
            return None
        where, _, number = slot_id.rpartition("/")
        for name in self._wraps:
            if where == self._where(name):
                return self._key(name, "wrap").state(int(number))
        return None

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version as it is now, oldest first."""
        return self._key(name).as_versions()

    def create(self, name: str, purpose: str) -> KeyRef:
        """Make a key, in the token, which it never leaves.

        Args:
            name: Its name.
            purpose: `wrap` or `sign`.

        Raises:
            ConfigurationError: There is one of that name.
        """
        try:
            found = self._key(name)
        except PolicyError:
            return self._make(name, purpose, 1)
        raise ConfigurationError(
            f"key {self._where(name)}: expected none, found {len(found.versions)} versions; make "
            f"another with `secure-ml keys rotate {name}`"
        )

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""
        key = self._key(name)
        return self._make(name, key.purpose, key.newest.number + 1)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system=SYSTEM, name=name, version=str(version))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """The version that a slot's id names; None: another key's slot."""
        where, _, number = slot.id.rpartition("/")
        is_ours = slot.type == TYPE_PKCS11 and where == self._where(name)
        return int(number) if is_ours else None

    def is_blind(self, name: str) -> bool:
        """No: a new version is another slot, which the header's HMAC covers."""
        return False

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Refuse: a token has no call for it."""
        raise ConfigurationError(
            f"key {name}: a token wraps nothing anew by itself; rewrap as a reader"
        )

    def fence(self, name: str) -> int:
        """Switch wrapping off for every version but the newest, in the token itself."""
        key = self._key(name, "wrap")
        for each in key.versions[:-1]:
            if each.begins:
                self._set(name, each.number, ends=each.ends)
        return key.newest.number

    def retire_below(self, name: str, version: int) -> None:
        """Switch unwrapping off for the versions below, in the token itself."""
        key = self._key(name, "wrap")
        if not 1 <= version <= key.newest.number:
            raise PolicyError(
                f"key {name}/{version}: expected a version from 1 to {key.newest.number}",
                why="key_missing",
            )
        for each in key.versions:
            if each.number < version and (each.ends or each.begins):
                self._set(name, each.number, ends=False)

    def _set(self, name: str, number: int, *, ends: bool) -> None:
        where, label = self._token.label, f"{self._at(name)}/{number}"
        self._token.use(
            f"switch off {where}/{label}",
            lambda session: set_flags(session, where, label, begins=False, ends=ends),
        )

    def _make(self, name: str, purpose: str, number: int) -> KeyRef:
        where, at = self._token.label, self._at(name)

        def make(session: Any) -> None:
            make_key(session, purpose, at, number, where)

        # Not twice: each time would make another.
        self._token.use(f"make {where}/{at}/{number}", make, repeatable=False)
        return self.ref(name, number)

    def _active(self, name: str, purpose: str) -> int:
        key = self._key(name, purpose)
        if key.newest.state(key.newest.number) != "active":
            raise _disabled(f"{self._where(name)}/{key.newest.number}")
        return key.newest.number

    def _wrapper(self, name: str, number: int) -> TokenWrapper:
        return TokenWrapper(self._token, self._at(name), self.ref(name, number))

    def _verifier(self, name: str, number: int) -> Ed25519Verifier:
        where, label = self._token.label, f"{self._at(name)}/{number}"

        def read(session: Any) -> bytes:
            return public_bytes(
                find_object(session, "PUBLIC_KEY", where, label), f"{where}/{label}"
            )

        public = self._token.use(f"read the public key {where}/{label}", read)
        return Ed25519Verifier(public, self.ref(name, number))

    def _key(self, name: str, purpose: str | None = None) -> TokenKey:
        where, at = self._token.label, self._at(name)
        key = self._token.use(f"look up {where}/{at}", lambda session: read_key(session, where, at))
        if purpose not in (None, key.purpose):
            raise PolicyError(
                f"key {where}/{at}: expected a key to {purpose}, found one to {key.purpose}; name "
                "another key",
                why="key_not_allowed",
            )
        return key

    def _where(self, name: str) -> str:
        return f"{self._token.label}/{self._at(name)}"

    def _at(self, name: str) -> str:
        at = self._names.get(name, name)
        if not NAME.fullmatch(at):
            raise ConfigurationError(
                f"key {at!r}: expected a name: letters, digits, '_', '.' and '-', at most 128, "
                "starting with a letter or digit"
            )
        return at


def _disabled(what: str) -> PolicyError:
    return PolicyError(
        f"key {what}: expected one that may be used, found it switched off in the token; whoever "
        "manages the key can allow it again, or rotates it",
        why="key_disabled",
    )
