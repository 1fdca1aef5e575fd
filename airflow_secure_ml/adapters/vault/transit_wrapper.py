"""A Transit key as whoever seals, opens or signs sees it; the key itself never leaves Vault."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from airflow_secure_ml.adapters.vault.transit_key import TransitKey, version_in
from airflow_secure_ml.adapters.vault.transit_mount import TransitMount
from airflow_secure_ml.core.ed25519 import Ed25519Verifier, check_made
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import TYPE_VAULT_TRANSIT, check_file_key

SYSTEM = "vault"


class TransitWrapper:
    """All versions of one wrap key: slot type 3.

    Args:
        mount: Where it lies.
        at: Its name there.
        name: Our name for it.
        key: Says what it is, and has checked that it wraps; asked before each use.
    """

    def __init__(
        self, mount: TransitMount, at: str, name: str, key: Callable[[], TransitKey]
    ) -> None:
        self._mount, self._at, self._name, self._key = mount, at, name, key

    def __repr__(self) -> str:
        return f"TransitWrapper({self.slot_id!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # Its client holds a token.
        raise TypeError("TransitWrapper cannot be pickled; pass the key's name")

    @property
    def slot_type(self) -> int:
        """Vault Transit's."""
        return TYPE_VAULT_TRANSIT

    @property
    def slot_id(self) -> str:
        """`mount/name`, whatever the version."""
        return self._mount.where(self._at)

    @property
    def ref(self) -> KeyRef:
        """The newest version that is known; `ref_of` says which one a body is of."""
        return ref(self._name, self._key().newest)

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap a 32-byte file key for the file `core_id`; errors as `TransitMount.encrypt`."""
        check_file_key(file_key)
        self._key()
        return self._mount.encrypt(self._at, file_key, core_id)

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body; errors as `TransitMount.decrypt`."""
        self._key()
        return self._mount.decrypt(self._at, body, core_id)

    def ref_of(self, body: bytes) -> KeyRef:
        """The version that a body names."""
        return ref(self._name, version_in(body))


class TransitSigner:
    """One version of a sign key.

    Args:
        mount: Where it lies.
        at: Its name there.
        verifier: Its public half.
    """

    def __init__(self, mount: TransitMount, at: str, verifier: Ed25519Verifier) -> None:
        self._mount, self._at, self._verifier = mount, at, verifier

    def __repr__(self) -> str:
        return f"TransitSigner({str(self.ref)!r}, key=***)"

    def __reduce__(self) -> NoReturn:
        # Its client holds a token.
        raise TypeError("TransitSigner cannot be pickled; pass the key's name")

    @property
    def ref(self) -> KeyRef:
        """The version that signs."""
        return self._verifier.ref

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`.

        Raises:
            ServiceRefusedError: Vault says no, or signed something else.
        """
        signature = self._mount.sign(self._at, int(self.ref.version), message)
        check_made(
            signature,
            message,
            self._verifier,
            service="vault",
            action=f"sign with {self._mount.where(self._at)}",
            told="the key that it told",
        )
        return signature


def ref(name: str, version: int) -> KeyRef:
    """A version of a key as events name it."""
    return KeyRef(system=SYSTEM, name=name, version=str(version))
