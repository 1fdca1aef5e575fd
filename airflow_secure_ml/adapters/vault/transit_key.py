"""What Vault says about a Transit key, and what a key must be to seal or to sign.

Only values: asking is `transit`'s part. A key that is not derived would silently ignore the file
it wraps for, so it is refused before it is used.

Source: SEALED_FILE_FORMAT, slot type 3.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from airflow_secure_ml.adapters.vault.failures import SERVICE
from airflow_secure_ml.core.ports import KeyVersion
from airflow_secure_ml.errors import ConfigurationError, PolicyError, ServiceUnavailableError

WRAP_TYPE, SIGN_TYPE = "aes256-gcm96", "ed25519"
_VERSION = re.compile(rb"vault:v([1-9][0-9]{0,8}):")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitKey:
    """A key as Vault described it at one moment.

    Attributes:
        type: Vault's word, such as `aes256-gcm96`.
        derived: Whether each context has a key of its own.
        convergent: Whether equal plaintexts give equal bodies.
        leaves_vault: Whether the key can be exported or backed up in plain.
        newest: Number of the newest version.
        oldest_open: Versions below it do nothing (`min_decryption_version`).
        oldest_kept: Versions below it are gone (`min_available_version`).
        created: When each version was made, UTC; those that do nothing are not told.
        public: 32 bytes by version, of sign keys.
    """

    type: str
    derived: bool
    convergent: bool
    leaves_vault: bool
    newest: int
    oldest_open: int
    oldest_kept: int
    created: Mapping[int, datetime]
    public: Mapping[int, bytes]

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Read the answer to `transit/keys/<name>`, or to a rotation.

        Raises:
            ServiceUnavailableError: It is no such answer.
        """
        try:
            data = answer["data"]
            told = {int(number): facts for number, facts in data["keys"].items()}
            return cls(
                type=str(data["type"]),
                derived=data["derived"] is True,
                convergent=bool(data.get("convergent_encryption")),
                leaves_vault=bool(data["exportable"] or data["allow_plaintext_backup"]),
                newest=int(data["latest_version"]),
                oldest_open=int(data["min_decryption_version"]),
                oldest_kept=int(data.get("min_available_version") or 0),
                created={number: _created(facts) for number, facts in told.items()},
                public={
                    number: base64.b64decode(facts["public_key"], validate=True)
                    for number, facts in told.items()
                    # Keys of other kinds have PEM there; a derived one has nothing.
                    if data["type"] == SIGN_TYPE and facts["public_key"]
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise not_readable("describe a key of transit") from error

    def state(self, number: int) -> str:
        """active, retired, disabled or destroyed."""
        if number < self.oldest_kept:
            return "destroyed"
        if number < self.oldest_open:
            return "disabled"
        return "active" if number == self.newest else "retired"

    def versions(self) -> list[KeyVersion]:
        """Every version, oldest first."""
        return [
            KeyVersion(number=number, state=self.state(number), created=self.created.get(number))
            for number in range(1, self.newest + 1)
        ]

    def check_wraps(self, where: str) -> None:
        """Return if file keys may be wrapped with it.

        Raises:
            PolicyError: It was made for something else (key_not_allowed).
            ConfigurationError: It was made for this, and wrongly.
        """
        if self.type == SIGN_TYPE:
            raise PolicyError(
                f"{where}: expected a key that wraps, found one that signs; name another key",
                why="key_not_allowed",
            )
        if self.type != WRAP_TYPE or not self.derived or self.convergent:
            found = f"type={self.type} derived={self.derived}".lower()
            more = " convergent_encryption=true" if self.convergent else ""
            raise ConfigurationError(
                f"{where}: expected type={WRAP_TYPE} derived=true, found {found}{more}; Vault "
                f"cannot change that, so make another: {how_to_make(where, 'wrap')}"
            )

    def check_signs(self, where: str) -> None:
        """Return if it signs as Ed25519; errors as in `check_wraps`."""
        if self.type == WRAP_TYPE:
            raise PolicyError(
                f"{where}: expected a key that signs, found one that wraps; name another key",
                why="key_not_allowed",
            )
        if self.type != SIGN_TYPE or self.derived:
            found = f"type={self.type} derived={self.derived}".lower()
            raise ConfigurationError(
                f"{where}: expected type={SIGN_TYPE} derived=false, found {found}; Vault cannot "
                f"change that, so make another: {how_to_make(where, 'sign')}"
            )


def how_to_make(where: str, purpose: str) -> str:
    """The command of Vault's own tool that makes a key at `mount/name`."""
    mount, _, name = where.rpartition("/")
    kind = f"type={WRAP_TYPE} derived=true" if purpose == "wrap" else f"type={SIGN_TYPE}"
    return f"`vault write {mount}/keys/{name} {kind}`"


def version_in(body: bytes) -> int:
    """The version that wrapped a body.

    Raises:
        ServiceUnavailableError: It is no body of Transit's.
    """
    found = _VERSION.match(body)
    if found is None:
        raise not_readable("wrap a key with transit")
    return int(found[1])


def not_readable(action: str) -> ServiceUnavailableError:
    """The error for an answer that is not what Vault's documentation says."""
    return ServiceUnavailableError(
        f"vault did not {action}: its answer cannot be read; look whether a proxy answers for it",
        service=SERVICE,
        action=action,
        reason="answer not readable",
    )


def _created(facts: Any) -> datetime:
    if isinstance(facts, Mapping):
        return datetime.fromisoformat(facts["creation_time"])
    return datetime.fromtimestamp(int(facts), tz=UTC)
