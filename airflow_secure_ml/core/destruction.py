"""What is left of a shredded data set: a signed certificate that says what was destroyed.

An in-toto Statement of its own type, so that no certificate passes as an artifact's statement.
It speaks of the copies that the store had; backups elsewhere are its readers' to destroy. Which
objects were lost stands in a list beside it, of which it has the digest: key systems sign only
what is short.

Source: in-toto Attestation Framework, spec/v1/statement.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.canonical import MAX_INTEGER, Limits, decode, encode
from airflow_secure_ml.core.digest import Digest, digest_of
from airflow_secure_ml.core.manifest import MAX_FILES
from airflow_secure_ml.core.statement import MAX_TEXT_BYTES, STATEMENT_TYPE, Producer
from airflow_secure_ml.errors import FormatError

PREDICATE_TYPE = "urn:airflow-secure-ml:destruction:v1"
MAX_KEYS = 64
MAX_CERTIFICATE_BYTES = 1 << 16
MAX_LIST_BYTES = 48 << 20
_LIMITS = Limits(max_bytes=MAX_CERTIFICATE_BYTES, max_depth=5, key=None)
_LIST_LIMITS = Limits(max_bytes=MAX_LIST_BYTES, max_depth=3, key=None)
_CORE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostObject:
    """A sealed object that nothing opens any more.

    Attributes:
        path: Relative to the data set, `a/b.csv`.
        core_id: 64 hex digits.
        size_bytes: Its length; it still lies there.
    """

    path: str
    core_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Destruction:
    """A certificate of destruction.

    Attributes:
        data_set: Canonical address of the data set.
        core_id: 64 hex digits: which data-set key is gone.
        wrapped_by: The keys that had opened it, such as `data/3`.
        copies: How many copies of its header the store had, all of them removed.
        objects: What only it opened.
        reason: Why, in the words of whoever asked for it.
        destroyed_ms: When, in ms since 1970 UTC, as the signer's clock said.
        event: The intent's name in the audit trail.
        producer: The task; None outside of tasks.
        by: The person at the command line; None in tasks.
    """

    data_set: str
    core_id: str
    wrapped_by: tuple[str, ...]
    copies: int
    objects: tuple[LostObject, ...]
    reason: str
    destroyed_ms: int
    event: str
    producer: Producer | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        if not _CORE_ID.fullmatch(self.core_id):
            raise _wrong("core_id is not 64 hex digits")
        if len(self.objects) > MAX_FILES or not 1 <= len(self.wrapped_by) <= MAX_KEYS:
            raise _wrong(f"more than {MAX_FILES} objects, or not 1 to {MAX_KEYS} keys")
        numbers = [self.copies, self.destroyed_ms, *(each.size_bytes for each in self.objects)]
        if any(isinstance(n, bool) or not 0 <= n <= MAX_INTEGER for n in numbers):
            raise _wrong("a number that is none")
        for text in (self.data_set, self.reason, self.event):
            if not 1 <= len(text.encode("utf-8", "replace")) <= MAX_TEXT_BYTES:
                raise _wrong(f"a text that is empty or over {MAX_TEXT_BYTES} bytes")

    def encode_objects(self) -> bytes:
        """The list of what was lost, as canonical JSON.

        Raises:
            FormatError: It is over `MAX_LIST_BYTES`, or a path is not valid UTF-8.
        """
        records = [
            {"path": each.path, "core": each.core_id, "bytes": each.size_bytes}
            for each in self.objects
        ]
        return encode({"objects": records}, limits=_LIST_LIMITS)

    @property
    def objects_digest(self) -> str:
        """`sha256:<hex>` of that list."""
        return str(digest_of([self.encode_objects()]))

    def encode(self) -> bytes:
        """The certificate as canonical JSON; the list is `encode_objects`.

        Raises:
            FormatError: A text that is not valid UTF-8, or too much of it.
        """
        predicate: dict[str, Any] = {
            "data_set": self.data_set,
            "wrapped_by": list(self.wrapped_by),
            "copies": self.copies,
            "objects": {
                "count": len(self.objects),
                "bytes": sum(each.size_bytes for each in self.objects),
                "digest": self.objects_digest,
            },
            "reason": self.reason,
            "destroyed_ms": self.destroyed_ms,
            "event": self.event,
        }
        if self.producer is not None:
            predicate["producer"] = self.producer.as_record()
        if self.by is not None:
            predicate["by"] = self.by
        record = {
            "_type": STATEMENT_TYPE,
            # core_id is a SHA-256: that of the core of the destroyed header.
            "subject": [{"name": self.data_set, "digest": {"sha256": self.core_id}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return encode(record, limits=_LIMITS)


def objects_digest_in(payload: bytes) -> str:
    """The digest of the list that a verified payload commits to.

    Raises:
        FormatError: Not canonical JSON, or there is none in it.
    """
    match decode(payload, limits=_LIMITS):
        case {"predicate": {"objects": {"digest": str(digest)}}}:
            return str(Digest.parse(digest))
    raise _wrong("it names no list of objects")


def parse_destruction(payload: bytes, objects: bytes) -> Destruction:
    """Read the payload of a verified envelope, and the list that it commits to.

    Raises:
        FormatError: Not canonical JSON, another type of statement, another field, or another list
            than was signed.
    """
    record = decode(payload, limits=_LIMITS)
    match record:
        case {"subject": [{"digest": {"sha256": str(core_id)}}], "predicate": dict(predicate)}:
            # Before it is parsed: nobody signed any other bytes.
            if objects_digest_in(payload) != str(digest_of([objects])):
                raise _wrong("the list of objects is not the one that was signed")
            found = _from_predicate(core_id, predicate, _parse_list(objects))
            # One spelling for one certificate, so a field too many has no place to come from.
            if found.encode() == payload:
                return found
    raise _wrong("a field is missing, of another type, or not known to this release")


def _parse_list(data: bytes) -> tuple[LostObject, ...]:
    match decode(data, limits=_LIST_LIMITS):
        case {"objects": list(objects), **rest} if not rest:
            return tuple(_lost(each) for each in objects)
    raise _wrong("expected a list of objects")


def _from_predicate(
    core_id: str, predicate: dict[str, Any], objects: tuple[LostObject, ...]
) -> Destruction:
    match predicate:
        case {
            "data_set": str(data_set),
            "wrapped_by": list(wrapped_by),
            "copies": int(copies),
            "objects": dict(),
            "reason": str(reason),
            "destroyed_ms": int(destroyed_ms),
            "event": str(event),
        } if all(isinstance(each, str) for each in wrapped_by):
            by = predicate.get("by")
            return Destruction(
                data_set=data_set,
                core_id=core_id,
                wrapped_by=tuple(wrapped_by),
                copies=copies,
                objects=objects,
                reason=reason,
                destroyed_ms=destroyed_ms,
                event=event,
                producer=_producer(predicate.get("producer")),
                by=by if isinstance(by, str) else None,
            )
    raise _wrong("a field is missing or of another type")


def _lost(record: object) -> LostObject:
    match record:
        case {"path": str(path), "core": str(core_id), "bytes": int(size_bytes)}:
            return LostObject(path=path, core_id=core_id, size_bytes=size_bytes)
    raise _wrong("an object needs path, core and bytes")


def _producer(record: object) -> Producer | None:
    match record:
        case None:
            return None
        case Mapping():
            return Producer.from_record(record)
    raise _wrong("a producer that is none")


def _wrong(what: str) -> FormatError:
    return FormatError(f"certificate of destruction: {what}")
