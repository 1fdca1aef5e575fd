"""What KMS says about a key, and which keys are the versions of a name.

KMS never shows which of its own backing keys wrapped something, so a version here is a key with an
ARN of its own: `alias/data` leads to the one that wraps, `alias/data/1` and so on to all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from airflow_secure_ml.adapters.aws.kms_address import ARN
from airflow_secure_ml.adapters.aws.kms_client import (
    KmsClient,
    disabled,
    not_allowed,
    not_readable,
    refuse_answer,
    to_be_deleted,
)
from airflow_secure_ml.core.ports import KeyVersion
from airflow_secure_ml.errors import PolicyError

WRAP_SPEC, WRAP_USE = "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"
SIGN_SPEC, SIGN_USE = "ECC_NIST_EDWARDS25519", "SIGN_VERIFY"
# A limit to the aliases that are looked up, each with a call; a yearly rotation needs one a year.
MAX_VERSIONS = 1000
_PURPOSES = {(WRAP_SPEC, WRAP_USE): "wrap", (SIGN_SPEC, SIGN_USE): "sign"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKey:
    """A key as KMS described it at one moment.

    Attributes:
        arn: Its name.
        purpose: `wrap`, `sign`, or empty: neither as it must be.
        state: KMS' word, such as `Enabled`.
        created: UTC.
        copyable: Whether another can be made like it: KMS made it, for one region, and a customer
            manages it.
        spec: KMS' word for its kind.
        usage: KMS' word for its purpose.
    """

    arn: str
    purpose: str
    state: str
    created: datetime | None
    copyable: bool
    spec: str
    usage: str

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Read the answer to DescribeKey; ServiceUnavailableError if it is no such answer."""
        data = answer.get("KeyMetadata")
        if not isinstance(data, Mapping) or not ARN.fullmatch(str(data.get("Arn"))):
            raise not_readable("describe a key")
        made = data.get("CreationDate")
        spec, usage = str(data.get("KeySpec")), str(data.get("KeyUsage"))
        return cls(
            arn=str(data["Arn"]),
            purpose=_PURPOSES.get((spec, usage), ""),
            state=str(data.get("KeyState")),
            created=made.astimezone(UTC) if isinstance(made, datetime) else None,
            copyable=data.get("Origin") == "AWS_KMS"
            and data.get("KeyManager") == "CUSTOMER"
            and not data.get("MultiRegion"),
            spec=spec,
            usage=usage,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsName:
    """The keys that a name stands for.

    Attributes:
        keys: By version, from 1 without a gap.
        current: The version that wraps or signs.
        numbered: How many of the keys have an alias with their number.
    """

    keys: tuple[KmsKey, ...]
    current: int
    numbered: int

    @property
    def newest(self) -> KmsKey:
        """The key that wraps or signs."""
        return self.keys[self.current - 1]

    def state(self, number: int) -> str:
        """active, retired, disabled or destroyed."""
        found = self.keys[number - 1].state
        if found in ("PendingDeletion", "PendingReplicaDeletion"):
            return "destroyed"
        if found != "Enabled":
            return "disabled"
        return "active" if number == self.current else "retired"

    def versions(self) -> list[KeyVersion]:
        """Oldest first, up to the current one."""
        return [
            KeyVersion(number=number, state=self.state(number), created=key.created)
            for number, key in enumerate(self.keys[: self.current], start=1)
        ]

    def usable(self) -> Iterator[tuple[int, KmsKey]]:
        """Versions that may open or verify, newest first."""
        for number in range(len(self.keys), 0, -1):
            if self.state(number) in ("active", "retired"):
                yield number, self.keys[number - 1]

    def check(self, purpose: str, where: str) -> None:
        """Return if it is for `wrap` or `sign`; PolicyError (key_not_allowed) otherwise."""
        if any(key.purpose != purpose for key in self.keys):
            raise not_allowed(where)

    def check_active(self) -> None:
        """Return if the current version may be used; PolicyError otherwise."""
        state = self.state(self.current)
        if state == "destroyed":
            raise to_be_deleted(self.newest.arn)
        if state != "active":
            raise disabled(self.newest.arn)


def how_to_make(key: str | None, name: str, purpose: str) -> str:
    """The commands of AWS' own tool that make a key with an alias.

    Args:
        key: The alias; None: that of the name.
        name: Our name.
        purpose: `wrap` or `sign`.
    """
    spec, usage = (WRAP_SPEC, WRAP_USE) if purpose == "wrap" else (SIGN_SPEC, SIGN_USE)
    alias = key if key is not None and key.startswith("alias/") else f"alias/{name}"
    return (
        f"`aws kms create-key --key-spec {spec} --key-usage {usage}`, then "
        f"`aws kms create-alias --alias-name {alias} --target-key-id <its KeyId>`"
    )


def describe(client: KmsClient, key: str) -> KmsKey:
    """Look a key up by alias, id or ARN; ServiceRefusedError if another key answers."""
    action = f"describe {key}"
    found = KmsKey.of_answer(client.ask(action, "DescribeKey", key=key, KeyId=key))
    # An alias leads to any key of its account; an id or an ARN is the key.
    if not key.startswith("alias/") and key not in (found.arn, found.arn.rpartition("/")[2]):
        raise refuse_answer(action, found.arn)
    return found


def look_up(client: KmsClient, key: str) -> KmsName:
    """The keys that an alias, an id or an ARN stands for.

    Raises:
        PolicyError: There is none (key_missing).
    """
    current = describe(client, key)
    keys = list(_numbered(client, key)) if key.startswith("alias/") else []
    numbered, arns = len(keys), [each.arn for each in keys]
    if current.arn not in arns:
        keys.append(current)
        arns.append(current.arn)
    return KmsName(keys=tuple(keys), current=arns.index(current.arn) + 1, numbered=numbered)


def _numbered(client: KmsClient, alias: str) -> Iterator[KmsKey]:
    for number in range(1, MAX_VERSIONS + 1):
        try:
            yield describe(client, f"{alias}/{number}")
        except PolicyError as error:
            if error.why != "key_missing":
                raise
            return
