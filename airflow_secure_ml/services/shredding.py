"""Destroy the key of a sealed directory, and leave a signed certificate of it.

Refused before anything is lost where it would not erase: a file with another slot stays open to
that slot's key, and a plain file to everybody. The certificate comes after the key is gone, so it
never speaks of what might still happen; whoever begins again after an interruption goes on.

Source: SEALED_FILE_FORMAT, Data-set key ("Destroying it erases …").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.canonical import MAX_INTEGER
from airflow_secure_ml.core.destruction import (
    MAX_CERTIFICATE_BYTES,
    MAX_LIST_BYTES,
    Destruction,
    LostObject,
    objects_digest_in,
    parse_destruction,
)
from airflow_secure_ml.core.ports import ObjectStore, PinnedDirectory, Signer, Verifier
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, Header
from airflow_secure_ml.core.sealed_file.keys import TYPE_DATASET_KEY
from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.errors import (
    MAX_NAMES,
    ConfigurationError,
    FormatError,
    IntegrityError,
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
from airflow_secure_ml.services.sealed_walk import Below, pin_below, pin_sealed

ACT = "dataset.shred"
_SUFFIXES = "|".join(map(re.escape, (KEY_SUFFIX, DESTROYED_SUFFIX, DESTROYING_SUFFIX)))
_KEY_FILE = re.compile(rf"([0-9a-f]{{64}})(?:{_SUFFIXES})")
_BEGUN = b"the key of this name is being destroyed\n"
# What wrapped a header that an interrupted shredding had destroyed already: its intent says.
UNKNOWN_KEY = "unknown"
_ROUNDS = 8
_LONGEST_EVENT = "0" * 64


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
    verifiers: Sequence[Verifier],
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
        verifiers: Whose certificates are believed where one is there already, the signer's own
            among them.
        trail: Takes an intent and an outcome for each key.
        progress: Called with the number of files looked at so far.

    Raises:
        ConfigurationError: No data set is there.
        FormatError: A file in it is broken, so it cannot be told what opens it; or no certificate
            can say what is asked. Nothing was destroyed.
        PolicyError: It holds what its key's end would not erase (not_checkable), or a certificate
            that nobody accepted signed; nothing was destroyed.
        SignatureError: A certificate is there that is none; nothing was destroyed.
        IntegrityError: Somebody puts the key back as often as it is destroyed.
        ServiceRefusedError: A lock of the store holds a copy; the key is not gone.
    """
    found = _look(store, uri, progress or (lambda done: None))
    certificates = {each: store.child(uri, certificate_name(each)) for each in sorted(found.keys)}
    drafts = {}
    for core_id, certificate in certificates.items():
        stands = _stands(store, certificate, verifiers)
        # A key that came back, from a backup, goes once more.
        if not stands or core_id in found.there:
            drafts[core_id] = _draft(uri, core_id, found, asked)
    destructions = []
    for core_id in certificates:
        if core_id in drafts:
            destructions.append(_destroy(store, drafts[core_id], signer, trail))
        store.delete(store.child(uri, destroying_name(core_id)))
    return Shredded(certificates=tuple(certificates.values()), destructions=tuple(destructions))


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
    data = _read(store, uri, 2 * MAX_CERTIFICATE_BYTES)
    try:
        payload, _ = dsse.verify(dsse.parse(data), verifiers)
        found = parse_destruction(payload, _read_list(store, uri, objects_digest_in(payload)))
    except FormatError as error:
        raise SignatureError(f"{uri}: no certificate of this release: {error}") from error
    if uri != store.child(found.data_set, certificate_name(found.core_id)):
        raise SignatureError(f"{uri}: the certificate in it is about {found.data_set}")
    return found


def _read(store: ObjectStore, uri: str, limit_bytes: int) -> bytes:
    with store.open(uri) as pinned:
        if pinned.size_bytes > limit_bytes:
            raise SignatureError(f"{uri}: {pinned.size_bytes} bytes are too many for what it is")
        return pinned.read_at(0, pinned.size_bytes)


def _read_list(store: ObjectStore, certificate: str, digest: str) -> bytes:
    folder = certificate.rpartition("/")[0]
    uri = store.child(folder, _list_name(digest))
    try:
        return _read(store, uri, MAX_LIST_BYTES)
    except FileNotFoundError as error:
        raise SignatureError(f"{certificate}: expected its list of objects at {uri}") from error


def _list_name(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}.lost"


def _stands(store: ObjectStore, certificate: str, verifiers: Sequence[Verifier]) -> bool:
    """Whether an accepted certificate is there; a planted one must not stand for ours."""
    try:
        read_certificate(store, certificate, verifiers)
    except FileNotFoundError:
        return False
    except (SignatureError, PolicyError) as error:
        text = f"{error}; nothing was destroyed: remove it, and shred again"
        raise type(error)(text, why=error.why) from error
    return True


def _look(store: ObjectStore, uri: str, progress: Callable[[int], None]) -> _Found:
    folder = store.child(uri, KEY_FOLDER)
    info = store.info(uri)
    if info is not None and info.is_directory:
        _fence_off(store, uri)
    keys, there = _keys(store, folder)
    if not keys or (info is not None and not info.is_directory):
        raise ConfigurationError(
            f"{uri}: expected a sealed directory with its keys in {KEY_FOLDER}/, found none; only "
            "a data set's own key can be destroyed, a file's other keys open other files too"
        )
    lost: dict[str, list[LostObject]] = {}
    kept: list[str] = []
    with contextlib.ExitStack() as held:
        # What its readers get: in a store with versions that is not always the newest.
        listed = None if info is None else held.enter_context(store.open_directory(uri))
        for done, name in enumerate(() if listed is None else listed.names(), start=1):
            assert listed is not None
            core_id, one = _opened_by(listed, name)
            if one is None or core_id not in keys:
                kept.append(name)
            else:
                lost.setdefault(core_id, []).append(one)
            progress(done)
    if kept:
        raise _not_erased(uri, kept)
    return _Found(keys=keys, there=there, lost=lost)


def _keys(store: ObjectStore, folder: str) -> tuple[dict[str, Header | None], set[str]]:
    """Every key that is or was there by core_id, and which of them the store still has."""
    keys: dict[str, Header | None] = {}
    there: set[str] = set()
    for name in () if store.info(folder) is None else store.walk(folder):
        matched = _KEY_FILE.fullmatch(name)
        if matched is not None:
            keys.setdefault(matched[1], None)
        if matched is not None and name.endswith(KEY_SUFFIX):
            there.add(matched[1])
            keys[matched[1]] = _header(store, store.child(folder, name), matched[1])
    for name in store.walk_removed(folder):
        matched = _KEY_FILE.fullmatch(name)
        if matched is not None and name.endswith(KEY_SUFFIX):
            there.add(matched[1])
            keys.setdefault(matched[1], None)
    return keys, there


def _fence_off(store: ObjectStore, uri: str) -> None:
    """Have whoever writes it now fail at the end: their key lies there already, beside the old."""
    with store.open_directory(uri) as listed:
        is_built_in_place = bool(listed.version)
    if is_built_in_place:
        store.create_directory(uri).abort()


def _not_erased(uri: str, kept: list[str]) -> PolicyError:
    names = ", ".join(repr(name) for name in kept[:MAX_NAMES])
    more = f" and {len(kept) - MAX_NAMES} more" if len(kept) > MAX_NAMES else ""
    return PolicyError(
        f"{uri}: nothing was destroyed, since its key's end would not erase {names}{more}: plain, "
        "of another data set, or open to another key as well; remove these files or seal them "
        "anew into the data set first",
        why="not_checkable",
    )


def _opened_by(listed: PinnedDirectory, name: str) -> tuple[str, LostObject | None]:
    """The only data-set key that opens a file; no object where there is more than that one."""
    seen = pin_below(Below(uri=f"{listed.uri}/{name}", open=lambda: listed.open(name)))
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


def _header(store: ObjectStore, uri: str, core_id: str) -> Header | None:
    seen = pin_sealed(store, uri)
    if seen is None:
        # An interrupted shredding overwrote it.
        return None
    pinned, header = seen
    pinned.__exit__(None, None, None)
    if header.core.suite != SUITE_DATASET_KEY:
        raise FormatError(f"{uri}: expected a data-set key, found another sealed file")
    if header.core_id.hex() != core_id:
        raise FormatError(f"{uri}: it is another data-set key than its name says")
    return header


def _draft(uri: str, core_id: str, found: _Found, asked: Asked) -> Destruction:
    """The certificate but for copies and event, found to be one before anything is destroyed.

    Raises:
        FormatError: It could not be written: its reason is none, or it names too much.
    """
    header = found.keys[core_id]
    draft = Destruction(
        data_set=uri,
        core_id=core_id,
        wrapped_by=(UNKNOWN_KEY,) if header is None else tuple(slot.id for slot in header.slots),
        copies=MAX_INTEGER,
        objects=tuple(found.lost.get(core_id, ())),
        reason=asked.reason,
        destroyed_ms=asked.now_ms,
        event=_LONGEST_EVENT,
        producer=asked.producer,
        by=asked.by,
    )
    draft.encode()
    return draft


def _destroy(store: ObjectStore, draft: Destruction, signer: Signer, trail: Trail) -> Destruction:
    uri, core_id = draft.data_set, draft.core_id
    facts: dict[str, Any] = {
        "object": {"uri": uri},
        "more": {
            "reason": draft.reason,
            "core_id": core_id,
            "keys": list(draft.wrapped_by),
            "objects": len(draft.objects),
            "bytes": sum(each.size_bytes for each in draft.objects),
        },
    }
    intent = trail.intend(ACT, **facts)
    trail.settle()
    try:
        _keep_list(store, draft)
        _begin(store, uri, core_id)
        copies = _destroy_copies(store, store.child(uri, dataset_key_name(core_id)))
        told = replace(draft, copies=copies, event=intent)
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


def _destroy_copies(store: ObjectStore, uri: str) -> int:
    copies = store.destroy(uri)
    for _ in range(_ROUNDS):
        # A rewrap that had read it before may have put it back.
        if store.info(uri) is None:
            return copies
        copies += store.destroy(uri)
    raise IntegrityError(
        f"{uri}: came back as often as it was destroyed; have whoever writes it end, and shred "
        "again"
    )


def _keep_list(store: ObjectStore, draft: Destruction) -> None:
    """Write the list that the certificate will commit to, before anything is destroyed."""
    data = draft.encode_objects()
    uri = store.child(draft.data_set, f"{KEY_FOLDER}/{_list_name(draft.objects_digest)}")
    if store.info(uri) is not None:
        with contextlib.suppress(SignatureError, FileNotFoundError):
            if _read(store, uri, MAX_LIST_BYTES) == data:
                return
        # Somebody put other bytes under this name.
        store.delete(uri)
    _put(store, uri, data)


def _begin(store: ObjectStore, uri: str, core_id: str) -> None:
    """Leave a mark that outlives this process: whoever begins again finds what is to be done."""
    mark = store.child(uri, destroying_name(core_id))
    if store.info(mark) is None:
        # Replacing: some stores take what an earlier shredding removed for something there.
        _put(store, mark, _BEGUN, replace=True)


def _put(store: ObjectStore, uri: str, data: bytes, *, replace: bool = False) -> None:
    with store.create(uri) as writer:
        writer.write_at(0, data)
        writer.commit(replace=replace)
