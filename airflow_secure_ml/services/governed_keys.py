"""A key system under a crypto policy: every key that it gives out brings the policy along.

Sealing, opening and verifying ask the keys for it (`core.crypto_policy.governing`), and signers
enforce it themselves. A deployment has no other keys, so no way leads around it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from airflow_secure_ml.core.crypto_policy import CryptoPolicy, signature_name
from airflow_secure_ml.core.ports import (
    KeyRef,
    KeyVersion,
    KeyWrapper,
    RotatingKeys,
    Signer,
    Verifier,
)
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys


class GovernedKeys:
    """A key system's keys, under a policy.

    Args:
        keys: The key system.
        crypto_policy: What it is put under.
    """

    def __init__(self, keys: RotatingKeys, crypto_policy: CryptoPolicy) -> None:
        self._keys = keys
        self.crypto_policy = crypto_policy

    def __getattr__(self, name: str) -> Any:
        """What an adapter has besides the port."""
        # Without this a copy, which begins empty, would look for itself forever.
        if name == "_keys":
            raise AttributeError(name)
        return getattr(self._keys, name)

    def wrapper(self, name: str) -> KeyWrapper:
        """As the key system's."""
        return self._governed(self._keys.wrapper(name))

    def wrappers(self, name: str) -> Sequence[KeyWrapper]:
        """As `key_choice.GroupedKeys`; of a system without groups, the one key."""
        return [
            self._governed(key) for key in sealing_keys(self._keys, [name], mixed_strength=True)
        ]

    def unwrappers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """As the key system's."""
        return [self._governed(key) for key in self._keys.unwrappers(names)]

    def openers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """As `key_choice.ReceivingKeys`; of a system without such keys, `unwrappers`."""
        return [self._governed(key) for key in opening_keys(self._keys, names)]

    def signer(self, name: str) -> Signer:
        """As the key system's; it refuses to make a signature that may not be written."""
        return GovernedSigner(self._keys.signer(name), self.crypto_policy)

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """As the key system's; a signature that is not read any more does not hold for them."""
        return [GovernedVerifier(key, self.crypto_policy) for key in self._keys.verifiers(names)]

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """As the key system's."""
        return self._keys.state_of(slot_type, slot_id)

    def versions(self, name: str) -> Sequence[KeyVersion]:
        """As the key system's."""
        return self._keys.versions(name)

    def rotate(self, name: str) -> KeyRef:
        """As the key system's."""
        return self._keys.rotate(name)

    def ref(self, name: str, version: int) -> KeyRef:
        """As the key system's."""
        return self._keys.ref(name, version)

    def version_in(self, name: str, slot: Slot) -> int | None:
        """As the key system's."""
        return self._keys.version_in(name, slot)

    def is_blind(self, name: str) -> bool:
        """As the key system's."""
        return self._keys.is_blind(name)

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """As the key system's.

        Raises:
            PolicyError: Slots of this key's type may not be written (rule_denied).
        """
        # Only Vault and KMS rewrap blind, and their slots' type tells what they are.
        self.crypto_policy.check_slot(self._keys.wrapper(name).slot_type, b"", "write")
        return self._keys.rewrap(name, bodies)

    def fence(self, name: str) -> int:
        """As the key system's."""
        return self._keys.fence(name)

    def retire_below(self, name: str, version: int) -> None:
        """As the key system's."""
        self._keys.retire_below(name, version)

    def _governed(self, key: KeyWrapper) -> KeyWrapper:
        return GovernedKey(key, self.crypto_policy)


class GovernedKey:
    """A wrap key and the policy it is under; whoever seals or opens with it holds to that."""

    def __init__(self, key: KeyWrapper, crypto_policy: CryptoPolicy) -> None:
        self._key = key
        self.crypto_policy = crypto_policy

    def __repr__(self) -> str:
        return f"GovernedKey({self._key!r})"

    def __getattr__(self, name: str) -> Any:
        """What a kind of key has besides the port."""
        # Without this a copy, which begins empty, would look for itself forever.
        if name == "_key":
            raise AttributeError(name)
        return getattr(self._key, name)

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("GovernedKey holds a key and cannot be pickled")

    @property
    def slot_type(self) -> int:
        """The slot's type number."""
        return self._key.slot_type

    @property
    def slot_id(self) -> str:
        """The slot's id."""
        return self._key.slot_id

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._key.ref

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """As the key's."""
        return self._key.wrap(file_key, core_id)

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """As the key's."""
        return self._key.unwrap(body, core_id)

    def ref_of(self, body: bytes) -> KeyRef:
        """As the key's."""
        return self._key.ref_of(body)


class GovernedSigner:
    """A signing key that makes only signatures which may be written; its second half too."""

    def __init__(self, signer: Signer, crypto_policy: CryptoPolicy) -> None:
        self._signer = signer
        self.crypto_policy = crypto_policy

    def __repr__(self) -> str:
        return f"GovernedSigner({self._signer!r})"

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._signer.ref

    @property
    def second(self) -> GovernedSigner | None:
        """The half that makes the second signature, under the same policy."""
        found: Signer | None = getattr(self._signer, "second", None)
        return None if found is None else GovernedSigner(found, self.crypto_policy)

    def sign(self, message: bytes) -> bytes:
        """Sign.

        Raises:
            PolicyError: Signatures of this type may not be written (rule_denied); it is not
                given out.
        """
        signature = self._signer.sign(message)
        self.crypto_policy.check_signature(signature_name(signature), "write")
        return signature

    def __reduce__(self) -> str:
        # A pickle would carry the key into an XCom or a queue.
        raise TypeError("GovernedSigner holds a key and cannot be pickled")


class GovernedVerifier:
    """A public key and the policy it is under; `core.dsse.verify` holds to that."""

    def __init__(self, verifier: Verifier, crypto_policy: CryptoPolicy) -> None:
        self._verifier = verifier
        self.crypto_policy = crypto_policy

    def __getattr__(self, name: str) -> Any:
        """What a kind of key has besides the port, such as its second half."""
        if name == "_verifier":
            raise AttributeError(name)
        return getattr(self._verifier, name)

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""
        return self._verifier.ref

    @property
    def key_id(self) -> str:
        """What its signatures call it."""
        return self._verifier.key_id

    @property
    def public_key(self) -> bytes:
        """The raw public key."""
        return self._verifier.public_key

    def verify(self, signature: bytes, message: bytes) -> None:
        """As the key's."""
        self._verifier.verify(signature, message)
