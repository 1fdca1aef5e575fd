"""The KeySystem port over a key file, and the operations that `airflow secure-ml keys` offers.

The file is read anew for each question, so that a key disabled a moment ago is not used now.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from airflow_secure_ml.adapters.local_keyring import protection
from airflow_secure_ml.adapters.local_keyring.keyfile import KeyFile
from airflow_secure_ml.adapters.local_keyring.protection import AskPassphrase
from airflow_secure_ml.core.ed25519 import (
    Ed25519Signer,
    Ed25519Verifier,
    parse_public_text,
    public_text,
)
from airflow_secure_ml.core.keyring import changes, versions
from airflow_secure_ml.core.keyring.model import Key, Keyring, Purpose
from airflow_secure_ml.core.keyring.passphrase import Kdf, parse_sealed
from airflow_secure_ml.core.keyring.text import decode, encode
from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.hpke import (
    SCHEME,
    HpkeOpener,
    HpkeWrapper,
    Recipient,
    parse_recipient,
    recipient_text,
)
from airflow_secure_ml.core.sealed_file.keys import TYPE_HPKE, KekWrapper, wipe
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, SecureMLError

SYSTEM = "local"
FIRST_KEYS: tuple[tuple[str, Purpose], ...] = (("data", "wrap"), ("pipeline", "sign"))


def _utcnow() -> datetime:
    return datetime.now(UTC)


class LocalKeyring:
    """Keys in one file, 0600.

    Args:
        path: The file's absolute path.
        now: The time, UTC.
        random_bytes: Where keys come from.
        passphrase: Asked once a process, where the file is under one.
        demands_passphrase: Whether a file that is under none is refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        passphrase: AskPassphrase | None = None,
        demands_passphrase: bool = False,
        now: Callable[[], datetime] = _utcnow,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not path.is_absolute():
            raise ConfigurationError(f"{path}: expected the keyring's absolute path")
        self._file = KeyFile(path)
        self._passphrase = passphrase or self._no_passphrase
        self._demands_passphrase = demands_passphrase
        self._now = now
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"LocalKeyring({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Where the keys are."""
        return self._file.path

    def wrapper(self, name: str) -> KekWrapper | HpkeWrapper:
        """The newest active version of a key that seals: ours, or a recipient's."""
        with self._keyring() as keyring:
            return keyring.wrapper(name)

    def unwrappers(self, names: Collection[str] | None = None) -> list[KekWrapper]:
        """Every version of wrap keys that may still open, newest first in each key; None: all."""
        with self._keyring() as keyring:
            return keyring.unwrappers(names)

    def openers(self, names: Collection[str] | None = None) -> list[KekWrapper | HpkeOpener]:
        """As `unwrappers`, with keys to receive with: for who demands a signature besides."""
        with self._keyring() as keyring:
            return keyring.openers(names)

    def recipient(self, name: str) -> Recipient | None:
        """What others seal to under this name; None: a key for something else."""
        with self._keyring() as keyring:
            is_its_use = keyring.key(name).purpose in ("receive", "recipient")
            return keyring.recipient(name) if is_its_use else None

    def signer(self, name: str) -> Ed25519Signer:
        """The newest active version of a sign key."""
        with self._keyring() as keyring:
            return keyring.signer(name)

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every accepted version of these sign keys, ours and trusted ones."""
        with self._keyring() as keyring:
            return keyring.verifiers(names)

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the version that a slot names; None: not of this keyring."""
        with self._keyring() as keyring:
            return keyring.state_of(slot_type, slot_id)

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version of a key, oldest first."""
        with self._keyring() as keyring:
            return versions.versions_of(keyring, name)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system=SYSTEM, name=name, version=str(version))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version of this key a slot is for; None: another key's."""
        if slot.type != TYPE_HPKE:
            return versions.version_in(name, slot)
        with self._keyring() as keyring:
            return versions.received_version_in(keyring, name, slot)

    def is_blind(self, name: str) -> bool:
        """No: whoever rewraps holds the key."""
        return False

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Refuse; ConfigurationError."""
        raise versions.refuse_blind(name, bodies)

    def fence(self, name: str) -> int:
        """The newest version; `rotate` made it the only one that wraps."""
        return self.find_key(name).newest.number

    def retire_below(self, name: str, version: int) -> None:
        """Disable the versions below this one; `enable` takes it back."""
        self._change(name, lambda keyring: versions.retire_below(keyring, name, version))

    def init(
        self,
        keys: Sequence[tuple[str, Purpose]] = FIRST_KEYS,
        *,
        passphrase: Secret | None = None,
    ) -> list[KeyRef]:
        """Make the file with its first keys, under a passphrase if there is one.

        Raises:
            ConfigurationError: A file is there already, which stays as it is; or it would be
                refused, since it is under no passphrase.
        """
        if self._demands_passphrase and passphrase is None:
            raise protection.unprotected(str(self.path))
        self._file.make_folder()
        keyring = Keyring(system=SYSTEM, where=str(self.path))
        for name, purpose in keys:
            keyring = self._created(keyring, name, purpose)
        try:
            kdf = None if passphrase is None else protection.new_protection(passphrase)
            with self._file.locked():
                self._file.make(protection.seal_file(encode(keyring), kdf))
        finally:
            keyring.wipe()
        return [keyring.ref(key, key.newest) for key in keyring.keys.values()]

    def change_passphrase(self, passphrase: Secret | None) -> None:
        """Put the keyring under a passphrase, or another one; None: under none.

        The old file's bytes are overwritten; backups of it stay under what they were under.
        """
        kdf = None if passphrase is None else protection.new_protection(passphrase)
        # One under none is read here, and nowhere else: this is what puts it right.
        with self._opened(demands_passphrase=False):
            pass
        with self._file.locked(), self._opened(demands_passphrase=False) as (keyring, _):
            self._file.replace(protection.seal_file(encode(keyring), kdf))

    @property
    def has_passphrase(self) -> bool:
        """Whether the file is under one; needs none."""
        data = self._file.read()
        try:
            return parse_sealed(data, where=str(self.path)) is not None
        finally:
            wipe(data)

    def list_keys(self) -> list[Key]:
        """Every key with its versions and states, by name; their secrets are wiped."""
        with self._keyring() as keyring:
            return [key for _, key in sorted(keyring.keys.items())]

    def find_key(self, name: str) -> Key:
        """One key with its versions and states; PolicyError (key_missing) if there is none."""
        with self._keyring() as keyring:
            return keyring.key(name)

    def create(self, name: str, purpose: Purpose, *, post_quantum: bool = False) -> KeyRef:
        """Make a key with its first version."""
        return self._change(
            name, lambda keyring: self._created(keyring, name, purpose, post_quantum)
        )

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""
        stamp = self._stamp()
        return self._change(
            name,
            lambda keyring: changes.rotate(
                keyring, name, now=stamp, random_bytes=self._random_bytes
            ),
        )

    def retire(self, name: str, version: int | None = None) -> KeyRef:
        """Let a key, or one version of it, only open and verify."""
        return self._change(name, lambda keyring: changes.retire(keyring, name, version))

    def enable(self, name: str, version: int | None = None) -> KeyRef:
        """Take back `disable` or `retire`."""
        return self._change(name, lambda keyring: changes.enable(keyring, name, version))

    def disable(self, name: str, version: int | None = None) -> KeyRef:
        """Let a key, or one version of it, do nothing until it is enabled."""
        return self._change(name, lambda keyring: changes.disable(keyring, name, version))

    def destroy(self, name: str, version: int | None = None) -> KeyRef:
        """Remove a key's bytes, or one version's, forever; its name and state stay known."""
        return self._change(name, lambda keyring: changes.destroy(keyring, name, version))

    def trust(self, name: str, text: str) -> KeyRef:
        """Add somebody else's public keys under a name of ours; `text` is from export-public.

        Keys that sign are accepted from now on, one that receives can be sealed to.
        """
        stamp = self._stamp()
        if text.startswith(SCHEME):
            recipient = parse_recipient(text.strip())
            return self._change(
                name, lambda keyring: changes.add_recipient(keyring, name, recipient, now=stamp)
            )
        given = parse_public_text(text)
        return self._change(name, lambda keyring: changes.trust(keyring, name, given, now=stamp))

    def export_public(self, name: str) -> str:
        """What others need: a sign key's accepted versions as PEM, or a line to seal to."""
        with self._keyring() as keyring:
            if keyring.key(name).purpose in ("receive", "recipient"):
                return recipient_text(keyring.recipient(name)) + "\n"
            return public_text(keyring.verifiers([name])[::-1])

    @contextmanager
    def _keyring(self) -> Iterator[Keyring]:
        with self._opened(demands_passphrase=self._demands_passphrase) as (keyring, _):
            yield keyring

    @contextmanager
    def _opened(self, *, demands_passphrase: bool) -> Iterator[tuple[Keyring, Kdf | None]]:
        """The keyring, and what its file is under."""
        where, data = str(self.path), self._file.read()
        try:
            text, kdf = protection.open_file(data, self._passphrase, where=where)
            if kdf is None and demands_passphrase:
                raise protection.unprotected(where)
            try:
                keyring = decode(text, system=SYSTEM, where=where)
            finally:
                wipe(text)
        finally:
            wipe(data)
        try:
            yield keyring, kdf
        finally:
            keyring.wipe()

    def _no_passphrase(self) -> Secret:
        raise ConfigurationError(
            f"{self.path}: this keyring is under a passphrase; set [secure_ml] "
            "keyring_passphrase_path to a file (0600) that holds it"
        )

    def _change(self, name: str, change: Callable[[Keyring], Keyring]) -> KeyRef:
        # Read first: where no keyring is, no lock file should appear.
        with self._keyring():
            pass
        demanded = self._demands_passphrase
        with self._file.locked(), self._opened(demands_passphrase=demanded) as (keyring, kdf):
            changed = change(keyring)
            try:
                self._file.replace(protection.seal_file(encode(changed), kdf))
            finally:
                changed.wipe()
            key = changed.key(name)
            return changed.ref(key, key.newest)

    def _created(
        self, keyring: Keyring, name: str, purpose: Purpose, post_quantum: bool = False
    ) -> Keyring:
        return changes.create(
            keyring,
            name,
            purpose,
            now=self._stamp(),
            random_bytes=self._random_bytes,
            post_quantum=post_quantum,
        )

    def _stamp(self) -> str:
        return self._now().strftime(versions.CREATED_FORMAT)
