"""Keys, their versions and states, and which of them may wrap, open, sign or be believed.

A keyring is a value: a change makes another one. The bytes of a key show in no repr.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from airflow_secure_ml.core.ed25519 import Ed25519Signer, Ed25519Verifier
from airflow_secure_ml.core.ml_dsa import MlDsaSigner
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.hpke import HpkeOpener, HpkeWrapper, Recipient
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE, TYPE_LOCAL_KEK, KekWrapper
from airflow_secure_ml.errors import ConfigurationError, PolicyError

Purpose = Literal["wrap", "sign", "receive", "trust", "recipient"]
State = Literal["active", "retired", "disabled", "destroyed"]
PURPOSES: tuple[Purpose, ...] = ("wrap", "sign", "receive", "trust", "recipient")
# Of somebody else: only their public half is here.
OTHERS: tuple[Purpose, ...] = ("trust", "recipient")
STATES: tuple[State, ...] = ("active", "retired", "disabled", "destroyed")
SECRET_BYTES = 32
# 255 versions, 1,000 keys: a file past that is not one that this release wrote.
MAX_VERSIONS, MAX_KEYS = 255, 1000

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_USABLE = ("active", "retired")
_DOES = {
    "wrap": "seals",
    "sign": "signs",
    "receive": "receives what anybody may have sealed, which counts only with a signature",
    "trust": "belongs to somebody else and only verifies",
    "recipient": "belongs to somebody else and only seals",
}


class Secret:
    """Bytes of a key: masked, not picklable, wiped on demand."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        if len(value) != SECRET_BYTES:
            raise ConfigurationError(
                f"a key has {SECRET_BYTES} bytes, this one has {len(value)}; it is not used"
            )
        self.value = bytearray(value)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a key cannot be pickled")

    def wipe(self) -> None:
        """Overwrite the bytes with zeros."""
        self.value[:] = bytes(len(self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a key.

    Attributes:
        number: From 1, never given twice.
        state: active, retired (only opens and verifies), disabled (for now), destroyed (forever).
        created: UTC, such as `2026-11-22T03:00:00Z`.
        secret: KEK, Ed25519 seed or HPKE private key; None once destroyed, and where only the
            public half is here.
        public: The public key; None for a wrap key.
        key_id: What its owner's signatures call it, where that is not this keyring's name for it.
        second_secret: The seed of a sign key's second half, ML-DSA-65; None: it has none.
        second_public: Its public key.
        algorithm: Of a key to receive with, or of a recipient: `core.sealed_file.hpke`'s name.
    """

    number: int
    state: State
    created: str
    secret: Secret | None = None
    public: bytes | None = None
    key_id: str | None = None
    algorithm: str | None = None
    second_secret: Secret | None = None
    second_public: bytes | None = None

    @property
    def recipient(self) -> Recipient:
        """What can be sealed to; of keys with an algorithm only."""
        assert self.algorithm is not None
        assert self.public is not None
        return Recipient(algorithm=self.algorithm, public=self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A named key with its versions, oldest first; there is at least one."""

    name: str
    purpose: Purpose
    versions: tuple[Version, ...]

    @property
    def newest(self) -> Version:
        """The version made last, whatever its state."""
        return self.versions[-1]


def check_name(name: str) -> str:
    """Return a key's name, or raise ConfigurationError."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r}: expected a key's name: a-z, 0-9, '_' and '-', 1 to 63 characters, "
            "starting with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """Every key of one system: the answers that the KeySystem port gives.

    Attributes:
        system: What events call it, `local`.
        where: What messages call it, such as the file's path.
        keys: Keys by name.
    """

    system: str
    where: str = field(compare=False)
    keys: Mapping[str, Key] = field(default_factory=dict)

    def key(self, name: str) -> Key:
        """One key; PolicyError (key_missing) if there is none."""
        found = self.keys.get(name)
        if found is None:
            raise PolicyError(
                f"key {name}: expected in {self.where}, found {_listed(self.keys)}; "
                f"make it with `airflow secure-ml keys create {name} --for …`, or name another",
                why="key_missing",
            )
        return found

    def with_key(self, key: Key) -> Keyring:
        """The same keyring with a key added or changed."""
        return replace(self, keys=MappingProxyType({**self.keys, key.name: key}))

    def wipe(self) -> None:
        """Overwrite every key with zeros; what was made from them holds copies of its own."""
        for key in self.keys.values():
            for version in key.versions:
                for secret in (version.secret, version.second_secret):
                    if secret is not None:
                        secret.wipe()

    def wrapper(self, name: str) -> KekWrapper | HpkeWrapper:
        """The newest active version of a key that seals: ours, or a recipient's."""
        key = self._of_purpose(name, "wrap", "receive", "recipient")
        version = self._active(key)
        if key.purpose == "wrap":
            return self._kek(key, version)
        return HpkeWrapper(version.recipient, self.ref(key, version))

    def unwrappers(self, names: Collection[str] | None = None) -> list[KekWrapper]:
        """Every version that may still open, newest first in each key.

        Without keys to receive with: what those open, anybody may have sealed.
        """
        if names is None:
            keys = [key for key in self.keys.values() if key.purpose == "wrap"]
        else:
            keys = [self._of_purpose(name, "wrap") for name in dict.fromkeys(names)]
        return [self._kek(key, version) for key, version in _usable(keys)]

    def openers(self, names: Collection[str] | None = None) -> list[KekWrapper | HpkeOpener]:
        """As `unwrappers`, with keys to receive with: for who demands a signature besides.

        A recipient that is named gives nothing: its owner opens.
        """
        if names is None:
            keys = [key for key in self.keys.values() if key.purpose in ("wrap", "receive")]
        else:
            found = [
                self._of_purpose(name, "wrap", "receive", "recipient")
                for name in dict.fromkeys(names)
            ]
            keys = [key for key in found if key.purpose != "recipient"]
        return [self._opener(key, version) for key, version in _usable(keys)]

    def recipient(self, name: str) -> Recipient:
        """The public half that others seal to, of the newest active version."""
        key = self._of_purpose(name, "receive", "recipient")
        return self._active(key).recipient

    def signer(self, name: str) -> Ed25519Signer:
        """The newest active version of a sign key."""
        key = self._of_purpose(name, "sign")
        version = self._active(key)
        ref, seed = self.ref(key, version), version.second_secret
        second = None if seed is None else MlDsaSigner(seed.value, ref)
        return Ed25519Signer(_secret(key, version).value, ref, second)

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every version of these keys whose signatures are accepted, newest first in each."""
        keys = [self._of_purpose(name, "sign", "trust") for name in dict.fromkeys(names)]
        found = [
            Ed25519Verifier(
                version.public, self.ref(key, version), version.key_id, version.second_public
            )
            for key in keys
            for version in reversed(key.versions)
            if version.state in _USABLE and version.public is not None
        ]
        if keys and not found:
            raise self._unusable(keys[0])
        return found

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the version that a slot names; None: not of this keyring."""
        if slot_type == TYPE_HPKE:
            return next(
                (
                    version.state
                    for key in self.keys.values()
                    for version in key.versions
                    if key.purpose == "receive" and version.recipient.id == slot_id
                ),
                None,
            )
        name, _, number = slot_id.rpartition("/")
        key = self.keys.get(name)
        if slot_type != TYPE_LOCAL_KEK or key is None or key.purpose != "wrap":
            return None
        return next((each.state for each in key.versions if str(each.number) == number), None)

    def ref(self, key: Key, version: Version) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system=self.system, name=key.name, version=str(version.number))

    def _kek(self, key: Key, version: Version) -> KekWrapper:
        ref = self.ref(key, version)
        return KekWrapper(_secret(key, version).value, slot_id=str(ref), ref=ref)

    def _opener(self, key: Key, version: Version) -> KekWrapper | HpkeOpener:
        if key.purpose == "wrap":
            return self._kek(key, version)
        algorithm, secret = version.recipient.algorithm, _secret(key, version)
        return HpkeOpener(algorithm, secret.value, self.ref(key, version))

    def _of_purpose(self, name: str, *purposes: Purpose) -> Key:
        key = self.key(name)
        if key.purpose not in purposes:
            raise PolicyError(
                f"key {name}: expected one made for {' or '.join(purposes)}, "
                f"found one that {_DOES[key.purpose]}; name another key",
                why="key_not_allowed",
            )
        return key

    def _active(self, key: Key) -> Version:
        for version in reversed(key.versions):
            if version.state == "active":
                return version
        raise self._unusable(key)

    def _unusable(self, key: Key) -> PolicyError:
        state = key.newest.state
        why = "key_destroyed" if state == "destroyed" else "key_disabled"
        advice = "rotate it to get a new version" if state == "destroyed" else "enable or rotate it"
        return PolicyError(
            f"key {key.name}: expected an active version in {self.where}, "
            f"found its newest, {key.newest.number}, {state}; {advice}",
            why=why,
        )


def _usable(keys: Iterable[Key]) -> Iterator[tuple[Key, Version]]:
    for key in keys:
        for version in reversed(key.versions):
            if version.state in _USABLE:
                yield key, version


def _secret(key: Key, version: Version) -> Secret:
    if version.secret is None:
        raise PolicyError(f"key {key.name}/{version.number} is destroyed", why="key_destroyed")
    return version.secret


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "no key at all"
