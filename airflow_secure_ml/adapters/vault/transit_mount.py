"""What is asked of one mount of Vault's Transit engine, and what its refusals mean.

Names are Transit's own here. No key is ever made: a typo must not become one, so whoever encrypts
has read the key before.

Source: SEALED_FILE_FORMAT, slot type 3; FACTS, Vault.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hvac

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.failures import (
    NO_KEY,
    NOT_AUTHENTIC,
    NOT_FOUND,
    TOO_OLD,
    failure_of,
)
from airflow_secure_ml.adapters.vault.transit_key import (
    TransitKey,
    how_to_make,
    not_readable,
    version_in,
)
from airflow_secure_ml.core.sealed_file.keys import TYPE_VAULT_TRANSIT, check_unwrapped
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    PolicyError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

# OpenBao refuses a request of more than 1,000 strings; a body and its context are two.
BATCH_ITEMS = 100
SIGNATURE_BYTES = 64
# In base64 1 MiB, which is what Vault takes in one string by default; more may be allowed.
SIGNED_BYTES = 786_432


class TransitMount:
    """One mount, through one client.

    Args:
        client: The client of this process; nothing is connected before it is asked.
        mount: Where the engine is mounted.
    """

    def __init__(self, client: Callable[[], VaultClient], mount: str) -> None:
        self._client = client
        self.mount = mount

    def where(self, name: str) -> str:
        """`mount/name`: what slots call a key, and messages."""
        return f"{self.mount}/{name}"

    def read(self, name: str) -> TransitKey:
        """The key as it is now; PolicyError (key_missing) if there is none."""
        answer = self._ask(
            f"read the key {self.where(name)}",
            name,
            lambda vault: vault.secrets.transit.read_key(name, mount_point=self.mount),
        )
        return TransitKey.of_answer(answer)

    def encrypt(self, name: str, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap a file key under the newest version; returns the slot's body."""
        answer = self._ask(
            f"wrap a file key with {self.where(name)}",
            name,
            lambda vault: vault.secrets.transit.encrypt_data(
                name, plaintext=_text(file_key), context=_text(core_id), mount_point=self.mount
            ),
        )
        return self._body(name, _field(answer, "ciphertext"))

    def decrypt(self, name: str, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body; the caller wipes the file key.

        Raises:
            CiphertextError: It was not wrapped by this key for this `core_id`.
            PolicyError: Its version is disabled or destroyed, or the key is gone.
        """
        answer = self._ask(
            f"unwrap a file key with {self.where(name)}",
            name,
            lambda vault: vault.secrets.transit.decrypt_data(
                name,
                ciphertext=body.decode("ascii"),
                context=_text(core_id),
                mount_point=self.mount,
            ),
            body=body,
        )
        # Python's text and bytes cannot be overwritten; what can be is handed on, and wiped later.
        try:
            file_key = bytearray(base64.b64decode(_field(answer, "plaintext"), validate=True))
        except ValueError as error:
            raise not_readable(f"unwrap a file key with {self.where(name)}") from error
        check_unwrapped(file_key, self.where(name))
        return file_key

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> list[bytes | SecureMLError]:
        """Wrap up to `BATCH_ITEMS` bodies anew under the newest version, in one call."""
        assert len(bodies) <= BATCH_ITEMS
        batch = [
            {"ciphertext": body.decode("ascii"), "context": _text(core_id)}
            for body, core_id in bodies
        ]
        action = f"rewrap {len(batch)} slots of {self.where(name)}"
        answer = self._ask(
            action,
            name,
            lambda vault: vault.secrets.transit.rewrap_data(
                name, ciphertext=None, batch_input=batch, mount_point=self.mount
            ),
        )
        results = _field(answer, "batch_results", list)
        if len(results) != len(bodies):
            raise not_readable(action)
        return [
            self._rewrapped(name, body, result)
            for (body, _), result in zip(bodies, results, strict=True)
        ]

    def sign(self, name: str, version: int, message: bytes) -> bytes:
        """The 64-byte signature of exactly this version over `message`.

        Raises:
            ConfigurationError: The message is longer than this server takes.
        """
        action, is_large = f"sign with {self.where(name)}", len(message) > SIGNED_BYTES
        try:
            answer = self._ask(
                action,
                name,
                lambda vault: vault.secrets.transit.sign_data(
                    name, hash_input=_text(message), key_version=version, mount_point=self.mount
                ),
                repeatable=not is_large,
            )
        except ServiceUnavailableError as error:
            if is_large and error.reason.startswith("status 500"):
                raise self._too_large(name, message) from error
            raise
        prefix, _, text = _field(answer, "signature").rpartition(":")
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise not_readable(action) from error
        if prefix != f"vault:v{version}" or len(signature) != SIGNATURE_BYTES:
            raise not_readable(action)
        return signature

    def rotate(self, name: str) -> None:
        """Make a new version; not asked twice, since each time would make another."""
        self._ask(
            f"rotate {self.where(name)}",
            name,
            lambda vault: vault.secrets.transit.rotate_key(name, mount_point=self.mount),
            repeatable=False,
        )

    def configure(self, name: str, **options: int) -> None:
        """Set `min_decryption_version` or `min_encryption_version`."""
        self._ask(
            f"configure {self.where(name)}",
            name,
            lambda vault: vault.secrets.transit.update_key_configuration(
                name, mount_point=self.mount, **options
            ),
        )

    def _ask(
        self,
        action: str,
        name: str,
        request: Callable[[hvac.Client], Any],
        *,
        repeatable: bool = True,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        try:
            return self._client().call(action, request, repeatable=repeatable)
        except ServiceRefusedError as error:
            raise self._meant(error, name, error.reason, body) from error

    def _meant(
        self, error: SecureMLError, name: str, reason: str, body: bytes | None
    ) -> SecureMLError:
        """What a refusal means for whoever seals, opens or signs."""
        where = self.where(name)
        if reason == NOT_AUTHENTIC:
            return CiphertextError(
                f"slot {where}: not wrapped by this key for this file; the header was altered or "
                "taken from another file"
            )
        if reason == TOO_OLD:
            return self._too_old(name, body)
        if reason in (NO_KEY, NOT_FOUND):
            return PolicyError(
                f"key {where}: expected a key of Vault's Transit engine, found none; check mount "
                f"and name, or have it made: {how_to_make(where, 'wrap')} to seal, "
                f"{how_to_make(where, 'sign')} to sign",
                why="key_missing",
            )
        return error

    def _too_old(self, name: str, body: bytes | None) -> PolicyError:
        where, why, number = self.where(name), "key_disabled", "its version"
        if body is not None:
            number = f"version {version_in(body)}"
            try:
                state = self.read(name).state(version_in(body))
            except SecureMLError:
                # Without the right to look, that it does nothing is all there is to know.
                state = "disabled"
            why = "key_destroyed" if state == "destroyed" else "key_disabled"
        advice = (
            "what only it opens is lost"
            if why == "key_destroyed"
            else "whoever manages the key can lower min_decryption_version again"
        )
        return PolicyError(f"slot {where}: {number} opens nothing any more; {advice}", why=why)

    def _too_large(self, name: str, message: bytes) -> ConfigurationError:
        return ConfigurationError(
            f"key {self.where(name)}: {len(message)} bytes to sign, and Vault takes "
            f"{SIGNED_BYTES} unless its listener allows more; raise max_json_string_value_length "
            "there, or sign with a key of a local keyring (key_names)"
        )

    def _body(self, name: str, text: str) -> bytes:
        try:
            body = text.encode("ascii")
            check_slot(Slot(type=TYPE_VAULT_TRANSIT, id=self.where(name), body=body))
        except (UnicodeEncodeError, FormatError) as error:
            raise not_readable(f"wrap a file key with {self.where(name)}") from error
        return body

    def _rewrapped(self, name: str, old: bytes, result: Any) -> bytes | SecureMLError:
        if not isinstance(result, Mapping):
            raise not_readable(f"rewrap slots of {self.where(name)}")
        if text := result.get("error"):
            failure = failure_of(hvac.exceptions.InvalidRequest(errors=[str(text)]))
            error = failure.as_error(f"rewrap a slot of {self.where(name)}", self.mount)
            return self._meant(error, name, failure.reason, old)
        return self._body(name, str(result.get("ciphertext")))


def _text(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _field(answer: Mapping[str, Any], name: str, kind: type = str) -> Any:
    """A field of an answer's data, of the type it must have."""
    data = answer.get("data")
    found = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(found, kind):
        raise not_readable("answer a request to transit")
    return found
