"""The changes that a keyring allows; each returns the changed keyring and refuses what is no step.

active → retired → …          disabled ⇄ active or retired          any → destroyed, forever
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from airflow_secure_ml.core import ml_dsa
from airflow_secure_ml.core.ed25519 import PublicKey, public_of
from airflow_secure_ml.core.keyring.model import (
    MAX_KEYS,
    MAX_VERSIONS,
    OTHERS,
    SECRET_BYTES,
    Key,
    Keyring,
    Purpose,
    Secret,
    State,
    Version,
    check_name,
)
from airflow_secure_ml.core.sealed_file.hpke import HYBRID, X25519, Recipient, recipient_of
from airflow_secure_ml.errors import ConfigurationError, PolicyError

RandomBytes = Callable[[int], bytes]


def create(
    keyring: Keyring,
    name: str,
    purpose: Purpose,
    *,
    now: str,
    random_bytes: RandomBytes,
    post_quantum: bool = False,
) -> Keyring:
    """Add a key with its first version.

    Raises:
        ConfigurationError: Not a name, taken already, not a purpose, or not one with a
            post-quantum kind.
    """
    _require_free(keyring, check_name(name))
    if purpose not in ("wrap", "sign", "receive"):
        raise ConfigurationError(
            f"key {name}: expected a purpose, wrap, sign or receive; found {purpose!r}"
        )
    if post_quantum and purpose == "wrap":
        raise ConfigurationError(
            f"key {name}: --post-quantum is for keys that receive or sign; a wrap key is AES-256, "
            "which a quantum computer does not break"
        )
    algorithm = (HYBRID if post_quantum else X25519) if purpose == "receive" else None
    first = _fresh(purpose, 1, now, random_bytes, algorithm)
    if post_quantum and purpose == "sign":
        first = _with_second(first, random_bytes)
    return keyring.with_key(Key(name=name, purpose=purpose, versions=(first,)))


def trust(keyring: Keyring, name: str, keys: Sequence[PublicKey], *, now: str) -> Keyring:
    """Add somebody else's public keys, or take over the new list of one known already.

    A version that left the list is disabled, since its owner no longer vouches for it.

    Raises:
        ConfigurationError: The name is that of a key of our own.
        PolicyError: A version known already has another public key now, or a newer one lacks the
            second half that those before it have.
    """
    known = keyring.keys.get(check_name(name))
    if known is None:
        _require_free(keyring, name)
    elif known.purpose != "trust":
        raise ConfigurationError(f"key {name}: a key of this keyring has that name; take another")
    old = {each.number: each for each in known.versions} if known else {}
    given = {each.version: each for each in keys}
    for number, version in old.items():
        # A second half that comes or goes is another key: without it less would be demanded.
        if number in given and (given[number].public, given[number].second) != (
            version.public,
            version.second_public,
        ):
            raise PolicyError(
                f"key {name}/{number}: known with another public key; a version never changes. "
                "Ask its owner, and destroy the old one if the new one is right",
                why="key_not_allowed",
            )
        if number not in given and version.state != "destroyed":
            old[number] = replace(version, state="disabled")
    for number, key in given.items():
        fresh = Version(
            number=number,
            state="active",
            created=now,
            public=key.public,
            key_id=key.key_id,
            second_public=key.second,
        )
        old.setdefault(number, fresh)
    versions = tuple(old[number] for number in sorted(old))
    _check_second_halves(name, versions)
    return keyring.with_key(Key(name=name, purpose="trust", versions=versions))


def _check_second_halves(name: str, versions: Sequence[Version]) -> None:
    for before, after in itertools.pairwise(versions):
        # A rotation never drops one; whoever took it out of the text would need only the first.
        if before.second_public is not None and after.second_public is None:
            raise PolicyError(
                f"key {name}/{after.number}: expected a second half, ML-DSA-65, as version "
                f"{before.number} has, found none; ask its owner for the whole text of "
                "`keys export-public`, or trust another key under another name",
                why="key_not_allowed",
            )


def add_recipient(keyring: Keyring, name: str, recipient: Recipient, *, now: str) -> Keyring:
    """Add somebody else's public key to seal to, or take over their newer one.

    Raises:
        ConfigurationError: The name is that of another kind of key.
        PolicyError: It is one of their older keys, which they replaced, or a weaker kind.
    """
    known = keyring.keys.get(check_name(name))
    if known is None:
        _require_free(keyring, name)
        first = _version_of(recipient, 1, now)
        return keyring.with_key(Key(name=name, purpose="recipient", versions=(first,)))
    if known.purpose != "recipient":
        raise ConfigurationError(f"key {name}: another kind of key has that name; take another")
    if known.newest.public == recipient.public and known.newest.state == "active":
        return keyring
    if any(each.public == recipient.public for each in known.versions):
        raise PolicyError(
            f"key {name}: that key of theirs is known and no longer used here; ask for the newest",
            why="key_not_allowed",
        )
    if known.newest.algorithm == HYBRID and recipient.algorithm != HYBRID:
        raise PolicyError(
            f"key {name}: known with a quantum-resistant key, and the new one is {X25519} alone; "
            "whoever seals under this name counts on more. Ask its owner for one made with "
            "--post-quantum, or trust this one under another name",
            why="key_not_allowed",
        )
    return _with_next(keyring, known, _version_of(recipient, known.newest.number + 1, now))


def rotate(keyring: Keyring, name: str, *, now: str, random_bytes: RandomBytes) -> Keyring:
    """Add a version; active ones before it are retired."""
    key = keyring.key(name)
    if key.purpose in OTHERS:
        raise ConfigurationError(f"key {name}: somebody else's; only its owner can rotate it")
    number, algorithm = key.newest.number + 1, key.newest.algorithm
    fresh = _fresh(key.purpose, number, now, random_bytes, algorithm)
    if key.newest.second_public is not None:
        fresh = _with_second(fresh, random_bytes)
    return _with_next(keyring, key, fresh)


def retire(keyring: Keyring, name: str, number: int | None = None) -> Keyring:
    """Let active versions only open and verify from now on."""
    return _each(keyring, name, number, lambda key, each: _to(each, "retired", ("active",)))


def disable(keyring: Keyring, name: str, number: int | None = None) -> Keyring:
    """Let versions do nothing until they are enabled."""
    return _each(
        keyring, name, number, lambda key, each: _to(each, "disabled", ("active", "retired"))
    )


def enable(keyring: Keyring, name: str, number: int | None = None) -> Keyring:
    """Let disabled versions, and a retired newest one, work again: the newest is active."""

    def enabled(key: Key, each: Version) -> Version:
        if each is key.newest or key.purpose in OTHERS:
            return _to(each, "active", ("disabled", "retired"))
        return _to(each, "retired", ("disabled",))

    return _each(keyring, name, number, enabled)


def destroy(keyring: Keyring, name: str, number: int | None = None) -> Keyring:
    """Take the bytes out of versions; what only they opened is erased by this."""
    return _each(keyring, name, number, lambda key, each: _destroyed(each))


def _destroyed(version: Version) -> Version:
    return replace(version, state="destroyed", secret=None, second_secret=None)


def _to(version: Version, state: State, sources: tuple[State, ...]) -> Version:
    return replace(version, state=state) if version.state in sources else version


def _each(
    keyring: Keyring, name: str, number: int | None, change: Callable[[Key, Version], Version]
) -> Keyring:
    key = keyring.key(name)
    chosen = [each for each in key.versions if number is None or each.number == number]
    if not chosen:
        raise PolicyError(
            f"key {name}/{number}: expected a version from 1 to {key.newest.number}",
            why="key_missing",
        )
    changed = {each.number: change(key, each) for each in chosen}
    if number is not None and changed[number] is chosen[0]:
        raise PolicyError(
            f"key {name}/{number}: it is {chosen[0].state}; that step is not open to it",
            why="key_destroyed" if chosen[0].state == "destroyed" else "key_not_allowed",
        )
    versions = tuple(changed.get(each.number, each) for each in key.versions)
    return keyring.with_key(replace(key, versions=versions))


def _with_next(keyring: Keyring, key: Key, fresh: Version) -> Keyring:
    if len(key.versions) >= MAX_VERSIONS:
        raise ConfigurationError(f"key {key.name}: expected at most {MAX_VERSIONS} versions")
    older = tuple(
        replace(each, state="retired") if each.state == "active" else each for each in key.versions
    )
    return keyring.with_key(replace(key, versions=(*older, fresh)))


def _fresh(
    purpose: Purpose, number: int, now: str, random_bytes: RandomBytes, algorithm: str | None
) -> Version:
    secret = Secret(random_bytes(SECRET_BYTES))
    public = None
    if purpose == "sign":
        public = public_of(secret.value)
    elif algorithm is not None:
        public = recipient_of(algorithm, secret.value).public
    return Version(
        number=number,
        state="active",
        created=now,
        secret=secret,
        public=public,
        algorithm=algorithm,
    )


def _with_second(version: Version, random_bytes: RandomBytes) -> Version:
    seed = Secret(random_bytes(SECRET_BYTES))
    return replace(version, second_secret=seed, second_public=ml_dsa.public_of(seed.value))


def _version_of(recipient: Recipient, number: int, now: str) -> Version:
    return Version(
        number=number,
        state="active",
        created=now,
        public=recipient.public,
        algorithm=recipient.algorithm,
    )


def _require_free(keyring: Keyring, name: str) -> None:
    if name in keyring.keys:
        raise ConfigurationError(
            f"key {name}: expected a new name, found a key in {keyring.where}; "
            "rotate it for a new version, or take another name"
        )
    if len(keyring.keys) >= MAX_KEYS:
        raise ConfigurationError(f"{keyring.where}: expected at most {MAX_KEYS} keys")
