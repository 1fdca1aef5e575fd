"""The KeySystem port, and its rotation, over AWS KMS.

Names come from settings, rules and DAGs: KMS is asked about their keys alone, whatever ARN stands
in a file. What KMS rotates inside a key stays unseen and needs no rewrap: a version is a key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from airflow_secure_ml.adapters.aws.kms_address import ARN, is_key
from airflow_secure_ml.adapters.aws.kms_client import KmsClient, disabled, refuse_answer
from airflow_secure_ml.adapters.aws.kms_key import WRAP_SPEC, KmsName, look_up
from airflow_secure_ml.adapters.aws.kms_rotation import KNOWN_S, rotate_alias
from airflow_secure_ml.adapters.aws.kms_wrapper import (
    SYSTEM,
    KmsSigner,
    KmsWrapper,
    body_of,
    context_of,
    read_verifier,
)
from airflow_secure_ml.core.ed25519 import Ed25519Verifier
from airflow_secure_ml.core.ports import KeyRef, KeyVersion
from airflow_secure_ml.core.sealed_file.keys import TYPE_AWS_KMS
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    SecureMLError,
    ServiceError,
)

log = logging.getLogger(__name__)

# How long a KMS that did not answer is not waited for where other keys may open.
SILENT_S = 20.0


class KmsKeys:
    """Keys of one account in one region.

    Args:
        client: Leads there.
        names: Our name to an alias, a key's id or its ARN; of others `alias/<name>`.
        wraps: Our names of the keys that may open when nobody names one.
        clock: Seconds; any zero, never back.
        pause: Waits some seconds.
    """

    def __init__(
        self,
        client: KmsClient,
        *,
        names: Mapping[str, str] = MappingProxyType({}),
        wraps: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._names = client, dict(names)
        self._wraps = tuple(dict.fromkeys(wraps))
        self._clock, self._pause = clock, pause
        self._known: dict[str, tuple[float, KmsName]] = {}
        self._silent_until: dict[str, float] = {}

    def __repr__(self) -> str:
        return "KmsKeys()"

    def wrapper(self, name: str) -> KmsWrapper:
        """The key that wraps."""
        found = self._key(name, "wrap")
        found.check_active()
        return KmsWrapper(self._client, found.newest.arn, self.ref(name, found.current))

    def unwrappers(self, names: Collection[str] | None = None) -> list[KmsWrapper]:
        """Every key that may still open, newest first; one named by its ARN without a question.

        None: of the names of the settings. A KMS that does not answer opens nothing then; who asks
        `state_of` about a slot of KMS is told why.
        """
        found: list[KmsWrapper] = []
        for name in self._wraps if names is None else names:
            if names is None and self._clock() < self._silent_until.get(name, 0.0):
                continue
            try:
                found += self._unwrappers(name)
            except (ServiceError, PolicyError) as error:
                if names is not None:
                    raise
                # Not waited for again at each file that other keys open.
                self._silent_until[name] = self._clock() + SILENT_S
                log.warning("key %s opens nothing now: %s", name, error)
        # Two names of ours for one key are one slot.
        return list({each.slot_id: each for each in found}.values())

    def signer(self, name: str) -> KmsSigner:
        """The key that signs, as it is now."""
        found = self._key(name, "sign", fresh=True)
        found.check_active()
        arn, ref = found.newest.arn, self.ref(name, found.current)
        return KmsSigner(self._client, arn, read_verifier(self._client, arn, ref))

    def signer_of(self, name: str, public_key: bytes) -> KmsSigner:
        """The version of a sign key that has this public half, newest or not.

        Raises:
            PolicyError: None of those in use has it.
        """
        for number, key in self._key(name, "sign", fresh=True).usable():
            verifier = read_verifier(self._client, key.arn, self.ref(name, number))
            if verifier.public_key == public_key:
                return KmsSigner(self._client, key.arn, verifier)
        raise PolicyError(
            f"key {self._at(name)}: no version in use has the public key that was asked for",
            why="key_missing",
        )

    def verifiers(self, names: Collection[str]) -> list[Ed25519Verifier]:
        """Every version of these sign keys whose signatures are accepted, newest first."""
        found = []
        for name in dict.fromkeys(names):
            usable = list(self._key(name, "sign").usable())
            if not usable:
                raise disabled(self._at(name))
            found += [
                read_verifier(self._client, key.arn, self.ref(name, number))
                for number, key in usable
            ]
        return found

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of a key that the settings name; about others KMS is not asked."""
        if slot_type != TYPE_AWS_KMS:
            return None
        for name in self._wraps:
            at = self._at(name)
            if ARN.fullmatch(at) and at != slot_id:
                continue
            found = self._key(name)
            for number, key in enumerate(found.keys, start=1):
                if key.arn == slot_id:
                    return found.state(number)
        return None

    def versions(self, name: str) -> list[KeyVersion]:
        """Every version as it is now, oldest first."""
        return self._key(name, fresh=True).versions()

    def rotate(self, name: str) -> KeyRef:
        """Make another key like the newest, and lead the alias to it once every reader knows it.

        Raises:
            ConfigurationError: Its name is no alias, or KMS did not make the key.
        """
        found = self._key(name, fresh=True)
        number = rotate_alias(self._client, self._at(name), found, self._pause)
        self._known.pop(name, None)
        return self.ref(name, number)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return KeyRef(system=SYSTEM, name=name, version=str(version))

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version a slot's ARN is; None: another key's slot."""
        at = self._at(name)
        if slot.type != TYPE_AWS_KMS or (ARN.fullmatch(at) and at != slot.id):
            return None
        if at == slot.id:
            return 1
        try:
            keys = self._key(name).keys
        except PolicyError:
            return None
        found = [number for number, key in enumerate(keys, start=1) if key.arn == slot.id]
        return found[0] if found else None

    def is_blind(self, name: str) -> bool:
        """No: a newer version is another ARN, which the header's HMAC covers."""
        return False

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> list[bytes | SecureMLError]:
        """Wrap bodies of the newest key anew, under what KMS itself rotated inside it.

        A right to ReEncrypt suffices; no file key comes out.
        """
        arn = self._key(name, "wrap").newest.arn
        done: list[bytes | SecureMLError] = []
        for body, core_id in bodies:
            try:
                done.append(self._rewrapped(arn, body, core_id))
            except (CiphertextError, PolicyError) as error:
                done.append(error)
        return done

    def fence(self, name: str) -> int:
        """The number of the newest version, to which every writer comes within a minute.

        KMS has no switch for it: to shut older keys out at once, take kms:Encrypt out of their
        policies.
        """
        return self._key(name, "wrap", fresh=True).current

    def retire_below(self, name: str, version: int) -> None:
        """Disable the keys below; whoever manages them can enable them again."""
        found = self._key(name, "wrap", fresh=True)
        if not 1 <= version <= found.current:
            raise PolicyError(
                f"key {name}/{version}: expected a version from 1 to {found.current}",
                why="key_missing",
            )
        for number, key in enumerate(found.keys[: version - 1], start=1):
            if found.state(number) == "retired":
                at = key.arn.rpartition("/")[2]
                self._client.ask(f"disable {key.arn}", "DisableKey", key=key.arn, KeyId=at)
        self._known.pop(name, None)

    def _rewrapped(self, arn: str, body: bytes, core_id: bytes) -> bytes:
        action, context = f"rewrap a slot of {arn}", context_of(core_id)
        answer = self._client.ask(
            action,
            "ReEncrypt",
            key=arn,
            CiphertextBlob=body,
            SourceKeyId=arn,
            SourceEncryptionContext=context,
            SourceEncryptionAlgorithm=WRAP_SPEC,
            DestinationKeyId=arn,
            DestinationEncryptionContext=context,
            DestinationEncryptionAlgorithm=WRAP_SPEC,
        )
        for field in ("SourceKeyId", "KeyId"):
            if answer.get(field) != arn:
                raise refuse_answer(action, str(answer.get(field)))
        return body_of(arn, answer.get("CiphertextBlob"), action)

    def _unwrappers(self, name: str) -> list[KmsWrapper]:
        at = self._at(name)
        if ARN.fullmatch(at):
            return [KmsWrapper(self._client, at, self.ref(name, 1))]
        usable = self._key(name, "wrap").usable()
        return [KmsWrapper(self._client, key.arn, self.ref(name, number)) for number, key in usable]

    def _key(self, name: str, purpose: str | None = None, *, fresh: bool = False) -> KmsName:
        known, now = self._known.get(name), self._clock()
        at = self._at(name)
        if known is None or fresh or now >= known[0] + KNOWN_S:
            known = self._known[name] = (now, look_up(self._client, at))
        if purpose is not None:
            known[1].check(purpose, at)
        return known[1]

    def _at(self, name: str) -> str:
        at = self._names.get(name, f"alias/{name}")
        if not is_key(at):
            raise ConfigurationError(
                f"key {name!r}: {at[:80]!r} is no alias of AWS KMS: letters, digits, '_' and '-'; "
                "give its address in key_names"
            )
        return at
