"""Ports to keys: wrap and unwrap, sign and verify, rotate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_secure_ml.core.sealed_file.slots import Slot
    from airflow_secure_ml.errors import SecureMLError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """Which version of which key, as events and references name it.

    Attributes:
        system: `local`, `vault`, `awskms`, `pkcs11`, …
        name: The key's name, such as `data`.
        version: Its version as text, such as `3`.
    """

    system: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class KeyWrapper(Protocol):
    """One version of one key that wraps file keys: what a slot of a sealed file names."""

    @property
    def slot_type(self) -> int:
        """The slot's type number (SEALED_FILE_FORMAT)."""

    @property
    def slot_id(self) -> str:
        """The slot's id, such as `data/3`."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap 32 bytes for the file whose 32-byte `core_id` is given; returns the slot's body."""

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body.

        Raises:
            CiphertextError: The body was not wrapped by this key for this `core_id`.
            ServiceUnavailableError: The key system does not answer.
        """

    def ref_of(self, body: bytes) -> KeyRef:
        """The version that wrapped a body, as events name it.

        Not always `ref`: in Vault one slot stands for all versions of a key, and the body tells.
        """


class Signer(Protocol):
    """One version of one signing key (Ed25519)."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""


class Verifier(Protocol):
    """The public half of one version of a signing key (Ed25519)."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    @property
    def key_id(self) -> str:
        """What its signatures call it: its owner's `name/version`, which need not be ours."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the raw public key."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds; raise SignatureError otherwise."""


class KeySystem(Protocol):
    """A place that keeps named, versioned keys. Names only come from code or settings."""

    def wrapper(self, name: str) -> KeyWrapper:
        """The newest active version of a wrap key.

        Raises:
            PolicyError: `why` is key_missing, key_disabled or key_destroyed.
        """

    def unwrappers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """Every version that may still open (active, retired), newest first; None: all keys."""

    def signer(self, name: str) -> Signer:
        """The newest active version of a sign key; PolicyError as in `wrapper`."""

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Every version of these sign keys whose signatures are accepted (active, retired).

        Raises:
            PolicyError: A name is unknown (key_missing): an unknown signer never passes silently.
        """

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the key version that a slot names: active, retired, disabled, destroyed.

        None: no such key here. A reader that none of its keys opens asks this, so that the answer
        is key_disabled or key_destroyed and not key_missing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One version of a key.

    Attributes:
        number: From 1, never given twice.
        state: active, retired (only opens and verifies), disabled (for now), destroyed (forever).
        created: UTC; None: not known any more.
    """

    number: int
    state: str
    created: datetime | None


class KeyRotation(Protocol):
    """What a key system does to give its keys new versions and take old ones out of use."""

    def versions(self, name: str) -> Sequence[KeyVersion]:
        """Every version of a key as it is now, oldest first; PolicyError (key_missing)."""

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it, without asking anybody."""

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version of this key wrapped a slot, without asking anybody; None: another key."""

    def is_blind(self, name: str) -> bool:
        """Whether `rewrap` works for this key: it lies where no file key has to come out."""

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Wrap bodies anew under the newest version, where the key lies; no file key comes out.

        Args:
            name: The key.
            bodies: Slot bodies of this key, each with its file's 32-byte core_id; any number.

        Returns:
            For each the new body, or why there is none (CiphertextError, PolicyError).

        Raises:
            ConfigurationError: The key is held here; rewrap as a reader.
            ServiceError: Nothing was wrapped, for a reason that is no single body's.
        """

    def fence(self, name: str) -> int:
        """Let only the newest version wrap from now on, whoever asks; returns its number."""

    def retire_below(self, name: str, version: int) -> None:
        """Let versions below this one do nothing more; whoever manages the key can undo it.

        Raises:
            PolicyError: There is no such version (key_missing).
        """


class RotatingKeys(KeySystem, KeyRotation, Protocol):
    """A key system whose keys can be rotated."""
