"""Count what lies below an address, from headers alone: no key is used and nothing is proved.

What cannot be read is counted and named, and stops nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.crypto_policy import SUITES, slot_name
from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, Header
from airflow_secure_ml.core.sealed_file.keys import TYPE_VAULT_TRANSIT
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import MAX_NAMES, SecureMLError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.sealed_payload import payload_layout
from airflow_secure_ml.services.sealed_walk import addresses_below, pin_sealed
from airflow_secure_ml.services.statement_files import find_statements
from airflow_secure_ml.services.tree_work import OF_ONE_FILE, Pace, in_threads

_STATEMENTS = ".sig/"


@dataclass(slots=True, kw_only=True)
class Overview:
    """What headers say of everything below an address.

    Attributes:
        sealed: Sealed files.
        plain: Other files; statements and what runs keep beside keys are not among them.
        data_set_keys: Headers of data-set keys.
        statements: Files of statements.
        signed: Sealed files beside or above which a statement lies; it was not verified.
        header_bytes: Length of the headers of sealed files.
        payload_bytes: Length of their payloads.
        plaintext_bytes: Length of what they hold.
        suites: How many files are of each suite.
        slots: How many slots are of each type.
        keys: How many slots each version of a key has; data-set keys by their id.
        context: How many files have a pair of each name.
        broken: Files that begin like sealed ones and cannot be read.
        failures: Why, of the first ten.
    """

    sealed: int = 0
    plain: int = 0
    data_set_keys: int = 0
    statements: int = 0
    signed: int = 0
    header_bytes: int = 0
    payload_bytes: int = 0
    plaintext_bytes: int = 0
    suites: Counter[str] = field(default_factory=Counter)
    slots: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    context: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def unsigned(self) -> int:
        """Sealed files that no statement may be about."""
        return self.sealed - self.signed

    def as_record(self) -> dict[str, Any]:
        """What a program gets to read."""
        numbers = (
            "sealed plain data_set_keys statements signed unsigned header_bytes payload_bytes "
            "plaintext_bytes broken"
        )
        record: dict[str, Any] = {name: getattr(self, name) for name in numbers.split()}
        for name in ("suites", "slots", "keys", "context"):
            record[name] = dict(sorted(getattr(self, name).items()))
        return {**record, "failures": list(self.failures), "authenticated": False}


def inspect_below(
    store: ObjectStore, uri: str, *, threads: int, pace: Pace | None = None
) -> Overview:
    """Read the header of everything below a canonical address, several at once.

    Args:
        store: Where it lies.
        uri: A directory.
        threads: 1 to 64.
        pace: Told of the files and bytes looked at so far.

    Raises:
        ConfigurationError: Nothing is there.
        FormatError: As `ObjectStore.walk`.
        ServiceError: The store does not answer.
    """
    found = list(addresses_below(store, uri))
    statements = [address for address in found if _STATEMENTS in address[len(uri) :]]
    rest = sorted(set(found) - set(statements))
    signed = {address[: address.rindex(_STATEMENTS)] for address in statements}
    if find_statements(store, uri):
        signed.add(uri)
    look = _Look(store, Overview(statements=len(statements)), signed, pace)
    in_threads(look, rest, threads)
    look.overview.failures = sorted(look.failed.values())[:MAX_NAMES]
    return look.overview


class _Look:
    """Looks at one file after another, from many threads."""

    def __init__(
        self, store: ObjectStore, overview: Overview, signed: set[str], pace: Pace | None
    ) -> None:
        self._store, self._signed, self._pace = store, signed, pace
        self._guard = threading.Lock()
        self._files = self._bytes = 0
        self.overview = overview
        self.failed: dict[str, str] = {}

    def __call__(self, address: str) -> None:
        size_bytes = 0
        try:
            seen = pin_sealed(self._store, address)
            if seen is None:
                with self._guard:
                    self.overview.plain += f"/{KEY_FOLDER}/" not in address
            else:
                pinned, header = seen
                with pinned:
                    size_bytes = pinned.size_bytes
                    is_key = header.core.suite == SUITE_DATASET_KEY
                    plain = 0 if is_key else payload_layout(pinned, header).plaintext_bytes
                with self._guard:
                    self._count(address, header, size_bytes, plain)
        except OF_ONE_FILE as error:
            self._broken(address, error)
        with self._guard:
            self._files += 1
            self._bytes += size_bytes
            if self._pace is not None:
                self._pace(self._files, self._bytes)

    def _count(self, address: str, header: Header, size_bytes: int, plain: int) -> None:
        overview = self.overview
        overview.slots.update(slot_name(slot.type, slot.body) for slot in header.slots)
        overview.keys.update(map(_key, header.slots))
        if header.core.suite == SUITE_DATASET_KEY:
            overview.data_set_keys += 1
            return
        overview.sealed += 1
        overview.signed += self._is_signed(address)
        overview.header_bytes += header.size_bytes
        overview.payload_bytes += size_bytes - header.size_bytes
        overview.plaintext_bytes += plain
        overview.suites[SUITES.get(header.core.suite, f"0x{header.core.suite:02x}")] += 1
        overview.context.update(header.core.context.keys())

    def _is_signed(self, address: str) -> bool:
        while address:
            if address in self._signed:
                return True
            address = address.rpartition("/")[0]
        return False

    def _broken(self, address: str, error: SecureMLError | FileNotFoundError) -> None:
        with self._guard:
            self.overview.broken += 1
            text = str(error)
            self.failed[address] = text if address in text else f"{address}: {text}"


def _key(slot: Slot) -> str:
    """Which version of which key a slot is for, as far as it tells without a key."""
    name = slot_name(slot.type, slot.body)
    if slot.type == TYPE_VAULT_TRANSIT:
        # vault:v3:…
        return f"{name} {slot.id}/{slot.body.split(b':')[1].decode()}"
    return f"{name} {slot.id}"
