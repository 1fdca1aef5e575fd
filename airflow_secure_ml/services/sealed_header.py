"""Read a sealed object's header, and unlock it with the keys that the reader lists.

Nothing in a file chooses a key, server or account: slots are looked up in the reader's list, in
its order, and a slot that nobody listed causes no call.

Source: SEALED_FILE_FORMAT, Reading, steps 2 to 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, Self, TypeAlias, runtime_checkable

from airflow_secure_ml.core.crypto_policy import CryptoPolicy, governing
from airflow_secure_ml.core.ports import KeyRef, KeyWrapper, PinnedObject
from airflow_secure_ml.core.sealed_file.context import Expected, check_context
from airflow_secure_ml.core.sealed_file.header import (
    FILE_SUITES,
    FIRST_READ_BYTES,
    Header,
    check_header_mac,
    decode_header,
    header_bytes_wanted,
)
from airflow_secure_ml.core.sealed_file.keys import (
    TYPE_DATASET_KEY,
    TYPE_HPKE,
    DataSetKeyWrapper,
    commits_to,
    wipe,
)
from airflow_secure_ml.core.sealed_file.slots import Slot, find_slot
from airflow_secure_ml.errors import (
    CiphertextError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceError,
    ServiceUnavailableError,
)

MAX_NAMES = 10
_OPENS = {"active", "retired"}


@runtime_checkable
class DataSetKeys(Protocol):
    """An entry of the reader's list that stands for one data set's keys (slot type 5)."""

    def dataset_key(self, header_core_id: str) -> DataSetKeyWrapper | None:
        """The key whose header has this core_id (64 hex digits); None: not in this data set.

        Raises:
            SecureMLError: The header is there and does not open.
        """


ReaderKey: TypeAlias = KeyWrapper | DataSetKeys
StateOf: TypeAlias = Callable[[int, str], str | None]
"""`KeySystem.state_of`: tells a disabled key from a missing one when nothing opens."""


class Unlocked:
    """A header that was authenticated, and its file key; leaving the context wipes the key.

    Attributes:
        header: Authenticated (but for the bodies of slots of types 3 and 4).
        file_key: 32 bytes.
        key: Which key opened it.
    """

    __slots__ = ("file_key", "header", "key")

    def __init__(self, header: Header, file_key: bytearray, key: KeyRef) -> None:
        self.header, self.file_key, self.key = header, file_key, key

    def __repr__(self) -> str:
        return f"Unlocked(core_id={self.header.core_id.hex()}, key={self.key}, file_key=***)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        wipe(self.file_key)


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Put the object's address before the message of whatever refuses it."""
    try:
        yield
    except (FormatError, IntegrityError, PolicyError) as error:
        if uri not in str(error):
            error.args = (f"{uri}: {error}",)
        raise


def read_sealed_header(obj: PinnedObject) -> Header:
    """Read a sealed object's header; nothing in it is authenticated yet.

    Raises:
        FormatError: Not a sealed file of a version that this release reads.
    """
    with naming(obj.uri):
        prefix = obj.read_at(0, min(FIRST_READ_BYTES, obj.size_bytes))
        while (wanted := header_bytes_wanted(prefix)) > len(prefix):
            longer = b"" if wanted > obj.size_bytes else obj.read_at(0, wanted)
            if len(longer) < wanted:
                raise FormatError(
                    f"not a sealed file, or cut inside its header: {wanted} bytes are needed, "
                    f"it has {obj.size_bytes}"
                )
            prefix = longer
        return decode_header(prefix, object_bytes=obj.size_bytes)


def unlock(
    header: Header,
    *,
    keys: Sequence[ReaderKey],
    expect: Expected,
    suite: int | None = None,
    state_of: StateOf | None = None,
) -> Unlocked:
    """Find the key that opens a header, and authenticate the header with it.

    Args:
        header: As read.
        keys: The reader's list; tried in its order, each once.
        expect: The context's pairs that must be stored, or `ANY_CONTEXT`.
        suite: What the header must be of; None: of any suite with a payload.
        state_of: Asked only when no listed key has a slot, to say why.

    Raises:
        PolicyError: The keys' policy does not read this suite, or such slots (rule_denied), the
            context differs (context_differs), or no listed key has a slot (key_not_allowed,
            key_missing, key_disabled, key_destroyed).
        CiphertextError: The header was altered, or its slots are another file's.
        ServiceUnavailableError: A key system did not answer and no other key opened.
    """
    suites = FILE_SUITES if suite is None else (suite,)
    if header.core.suite not in suites:
        expected = ", ".join(f"0x{each:02x}" for each in suites)
        raise FormatError(f"sealed file of suite 0x{header.core.suite:02x}, expected {expected}")
    # Before any key is asked; the suite is part of core_id, so editing it leads nowhere.
    policy = governing(keys)
    policy.check_suite(header.core.suite, "read")
    check_context(header.core.context, expect)
    refusals: list[SecureMLError] = []
    for slot, key in _matches(header, keys, refusals):
        file_key = _unwrap(header, slot, key, refusals, policy)
        if file_key is None:
            continue
        unlocked = Unlocked(header, file_key, key.ref_of(slot.body))
        try:
            check_header_mac(header, file_key)
        except CiphertextError:
            wipe(file_key)
            raise
        return unlocked
    raise _refusal(header, refusals, state_of)


def check_covers(key: KeyWrapper, context: Mapping[str, str]) -> None:
    """Refuse a data-set key for a file whose context lacks a pair of the data set's.

    Raises:
        PolicyError: It lacks one (context_differs).
    """
    if isinstance(key, DataSetKeyWrapper):
        check_context(context, key.context)


def _matches(
    header: Header, keys: Sequence[ReaderKey], refusals: list[SecureMLError]
) -> Iterator[tuple[Slot, KeyWrapper]]:
    for key in keys:
        if not isinstance(key, DataSetKeys):
            slot = find_slot(header.slots, key.slot_type, key.slot_id)
            if slot is not None:
                yield slot, key
            continue
        for slot in header.slots:
            if slot.type != TYPE_DATASET_KEY:
                continue
            try:
                found = key.dataset_key(slot.id)
            except SecureMLError as error:
                refusals.append(error)
                continue
            if found is not None:
                yield slot, found


def _unwrap(
    header: Header,
    slot: Slot,
    key: KeyWrapper,
    refusals: list[SecureMLError],
    policy: CryptoPolicy,
) -> bytearray | None:
    try:
        policy.check_slot(slot.type, slot.body, "read")
        check_covers(key, header.core.context)
        file_key = key.unwrap(slot.body, header.core_id)
    except (CiphertextError, PolicyError, ServiceError) as error:
        refusals.append(error)
        return None
    if commits_to(file_key, header.core.commitment):
        return file_key
    wipe(file_key)
    refusals.append(
        CiphertextError(
            f"slot {slot.id}: its file key does not fit the file's commitment; "
            "the slot was taken from another file"
        )
    )
    return None


def _refusal(
    header: Header, refusals: Sequence[SecureMLError], state_of: StateOf | None
) -> SecureMLError:
    # Silence is no refusal: what a key system would have said is not known.
    for error in refusals:
        if isinstance(error, ServiceUnavailableError):
            return error
    if refusals:
        return refusals[0]
    names = ", ".join(f"{slot.id} (type {slot.type})" for slot in header.slots[:MAX_NAMES])
    why = "key_not_allowed"
    if state_of is not None:
        found = [(slot.type, state_of(slot.type, slot.id)) for slot in header.slots]
        if any(kind == TYPE_HPKE and state in _OPENS for kind, state in found):
            return PolicyError(
                "it opens with a key to receive with, to which anybody can seal: demand a "
                "signature (`open --signed-by NAME`), or say --unsigned to do without",
                why=why,
            )
        why = _why({state for _, state in found})
    return PolicyError(f"none of the reader's keys opens it; it is sealed for {names}", why=why)


def _why(states: set[str | None]) -> str:
    if states & _OPENS:
        return "key_not_allowed"
    for state in ("disabled", "destroyed"):
        if state in states:
            return f"key_{state}"
    return "key_missing"
