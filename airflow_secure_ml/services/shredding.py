"""Destroy the key of a sealed directory, and leave a signed certificate of it.

Refused before anything is lost where it would not erase: a file with another slot stays open to
that slot's key, and a plain file to everybody. The certificate comes after the key is gone, so it
never speaks of what might still happen; whoever begins again after an interruption goes on.

Source: SEALED_FILE_FORMAT, Data-set key ("Destroying it erases …").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.destruction import Destruction, LostObject, parse_destruction
from airflow_secure_ml.core.ports import ObjectStore, Signer, Verifier
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, Header
from airflow_secure_ml.core.sealed_file.keys import TYPE_DATASET_KEY
from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.errors import (
    MAX_NAMES,
    ConfigurationError,
    FormatError,
    PolicyError,
    SecureMLError,
    SignatureError,
)
from airflow_secure_ml.services.rewrapping_below import Trail
from airflow_secure_ml.services.sealed_dataset import (
    DESTROYED_SUFFIX,
    DESTROYING_SUFFIX,
    KEY_FOLDER,
    KEY_SUFFIX,
    certificate_name,
    dataset_key_name,
    destroying_name,
)
from airflow_secure_ml.services.sealed_walk import pin_sealed

ACT = "dataset.shred"
_SUFFIXES = "|".join(map(re.escape, (KEY_SUFFIX, DESTROYED_SUFFIX, DESTROYING_SUFFIX)))
_KEY_FILE = re.compile(rf"([0-9a-f]{{64}})(?:{_SUFFIXES})")
_BEGUN = b"the key of this name is being destroyed\n"
# What wrapped a header that an interrupted shredding had destroyed already: its intent says.
UNKNOWN_KEY = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Why and for whom a data set is shredded.

    Attributes:
        reason: In the words of whoever asks; public.
        now_ms: ms since 1970 UTC.
        producer: The task; None outside of tasks.
        by: The person at the command line; None in tasks.
    """

    reason: str
    now_ms: int
    producer: Producer | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredded:
    """A data set that nothing opens any more.

    Attributes:
        certificates: Addresses of the signed certificates, one for each of its keys.
        destructions: What they say.
    """

    certificates: tuple[str, ...]
    destructions: tuple[Destruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a look at the data set found: its keys, which are there, and what only each opens."""

    keys: dict[str, Header | None]
    there: set[str]
    lost: dict[str, list[LostObject]]


def shred_data_set(
    store: ObjectStore,
    uri: str,
    asked: Asked,
    *,
    signer: Signer,
    trail: Trail,
    progress: Callable[[int], None] | None = None,
) -> Shredded:
    """Destroy every copy of a data set's keys that its store has.

    Begun again after an interruption it goes on; what is shredded already is left as it is.

    Args:
        store: Where it lies.
        uri: Its canonical address; the directory whose `_asml/` holds the keys.
        asked: Why, and for whom.
        signer: Signs the certificates.
        trail: Takes an intent and an outcome for each key.
        progress: Called with the number of files looked at so far.

    Raises:
        ConfigurationError: No data set is there.
        FormatError: A file in it is broken, so it cannot be told what opens it.
        PolicyError: It holds what its key's end would not erase (not_checkable); nothing was
            destroyed.
        ServiceRefusedError: A lock of the store holds a copy; the key is not gone.
    """
    found = _look(store, uri, progress or (lambda done: None))
    certificates, destructions = [], []
    for core_id, header in sorted(found.keys.items()):
        certificate = store.child(uri, certificate_name(core_id))
        # A key that came back, from a backup, goes once more.
        if store.info(certificate) is None or core_id in found.there:
            lost = tuple(found.lost.get(core_id, ()))
            told = _destroy(store, uri, core_id, header, lost, asked, signer, trail)
            destructions.append(told)
        store.delete(store.child(uri, destroying_name(core_id)))
        certificates.append(certificate)
    return Shredded(certificates=tuple(certificates), destructions=tuple(destructions))


def certificates_of(store: ObjectStore, uri: str) -> list[str]:
    """Addresses of a data set's certificates, unread."""
    folder = store.child(uri, KEY_FOLDER)
    if store.info(folder) is None:
        return []
    names = [name for name in store.walk(folder) if _KEY_FILE.fullmatch(name)]
    return [store.child(folder, name) for name in names if name.endswith(DESTROYED_SUFFIX)]


def read_certificate(store: ObjectStore, uri: str, verifiers: Sequence[Verifier]) -> Destruction:
    """Read a certificate and require an accepted signature on it.

    Raises:
        FileNotFoundError: None is there.
        SignatureError: A signature does not hold, or it is no certificate.
        PolicyError: Signed by others only (signer_not_accepted).
    """
    with store.open(uri) as pinned:
        if pinned.size_bytes > dsse.MAX_ENVELOPE_BYTES:
            raise SignatureError(f"{uri}: {pinned.size_bytes} bytes are no certificate")
        data = pinned.read_at(0, pinned.size_bytes)
    try:
        payload, _ = dsse.verify(dsse.parse(data), verifiers)
        found = parse_destruction(payload)
    except FormatError as error:
        raise SignatureError(f"{uri}: no certificate of this release: {error}") from error
    if uri != store.child(found.data_set, certificate_name(found.core_id)):
        raise SignatureError(f"{uri}: the certificate in it is about {found.data_set}")
    return found


def _look(store: ObjectStore, uri: str, progress: Callable[[int], None]) -> _Found:
    folder = store.child(uri, KEY_FOLDER)
    info, inner = store.info(uri), store.info(folder)
    if info is None or not info.is_directory or inner is None:
        raise ConfigurationError(
            f"{uri}: expected a sealed directory with its keys in {KEY_FOLDER}/, found none; only "
            "a data set's own key can be destroyed, a file's other keys open other files too"
        )
    keys: dict[str, Header | None] = {}
    there: set[str] = set()
    for name in store.walk(folder):
        matched = _KEY_FILE.fullmatch(name)
        if matched is not None:
            keys.setdefault(matched[1], None)
        if matched is not None and name.endswith(KEY_SUFFIX):
            there.add(matched[1])
            keys[matched[1]] = _header(store, store.child(uri, f"{KEY_FOLDER}/{name}"))
    lost: dict[str, list[LostObject]] = {}
    kept: list[str] = []
    for done, name in enumerate(store.walk(uri), start=1):
        core_id, one = _opened_by(store, uri, name)
        if one is None or core_id not in keys:
            kept.append(name)
        else:
            lost.setdefault(core_id, []).append(one)
        progress(done)
    _require_erased(uri, keys, kept)
    return _Found(keys=keys, there=there, lost=lost)


def _require_erased(uri: str, keys: dict[str, Header | None], kept: list[str]) -> None:
    if not keys:
        raise ConfigurationError(f"{uri}: expected a data-set key in {KEY_FOLDER}/, found none")
    if not kept:
        return
    names = ", ".join(repr(name) for name in kept[:MAX_NAMES])
    more = f" and {len(kept) - MAX_NAMES} more" if len(kept) > MAX_NAMES else ""
    raise PolicyError(
        f"{uri}: nothing was destroyed, since its key's end would not erase {names}{more}: plain, "
        "of another data set, or open to another key as well; remove these files or seal them "
        "anew into the data set first",
        why="not_checkable",
    )


def _opened_by(store: ObjectStore, uri: str, name: str) -> tuple[str, LostObject | None]:
    """The only data-set key that opens a file; no object where there is more than that one."""
    seen = pin_sealed(store, store.child(uri, name))
    if seen is None:
        return "", None
    pinned, header = seen
    with pinned:
        size_bytes = pinned.size_bytes
    slots = header.slots
    if len(slots) != 1 or slots[0].type != TYPE_DATASET_KEY:
        return "", None
    lost = LostObject(path=name, core_id=header.core_id.hex(), size_bytes=size_bytes)
    return slots[0].id, lost


def _header(store: ObjectStore, uri: str) -> Header | None:
    seen = pin_sealed(store, uri)
    if seen is None:
        # An interrupted shredding overwrote it.
        return None
    pinned, header = seen
    pinned.__exit__(None, None, None)
    if header.core.suite != SUITE_DATASET_KEY:
        raise FormatError(f"{uri}: expected a data-set key, found another sealed file")
    return header


def _destroy(
    store: ObjectStore,
    uri: str,
    core_id: str,
    header: Header | None,
    lost: tuple[LostObject, ...],
    asked: Asked,
    signer: Signer,
    trail: Trail,
) -> Destruction:
    wrapped_by = (UNKNOWN_KEY,) if header is None else tuple(slot.id for slot in header.slots)
    facts: dict[str, Any] = {
        "object": {"uri": uri},
        "more": {
            "reason": asked.reason,
            "core_id": core_id,
            "keys": list(wrapped_by),
            "objects": len(lost),
            "bytes": sum(each.size_bytes for each in lost),
        },
    }
    intent = trail.intend(ACT, **facts)
    trail.settle()
    try:
        _begin(store, uri, core_id)
        copies = store.destroy(store.child(uri, dataset_key_name(core_id)))
        told = Destruction(
            data_set=uri,
            core_id=core_id,
            wrapped_by=wrapped_by,
            copies=copies,
            objects=lost,
            reason=asked.reason,
            destroyed_ms=asked.now_ms,
            event=intent,
            producer=asked.producer,
            by=asked.by,
        )
        certificate = store.child(uri, certificate_name(core_id))
        if store.info(certificate) is None:
            _put(store, certificate, dsse.sign(told.encode(), [signer]).encode())
    except SecureMLError as error:
        trail.refused(ACT, error, of=intent, **facts)
        trail.settle()
        raise
    more = {**facts["more"], "copies": copies, "certificate": certificate}
    trail.did(ACT, of=intent, object=facts["object"], more=more)
    trail.settle()
    return told


def _begin(store: ObjectStore, uri: str, core_id: str) -> None:
    """Leave a mark that outlives this process: whoever begins again finds what is to be done."""
    mark = store.child(uri, destroying_name(core_id))
    if store.info(mark) is None:
        _put(store, mark, _BEGUN)


def _put(store: ObjectStore, uri: str, data: bytes) -> None:
    with store.create(uri) as writer:
        writer.write_at(0, data)
        writer.commit(replace=False)
