"""What a sealed tree's journal says: which files were sealed from which sources, under which key.

A record is signed before the files it names get their names, so whoever goes on with the work
believes nothing that lies there. Its predicate type keeps it from ever passing as a statement.

Source: in-toto Attestation Framework, Statement v1; services.sealing_below writes and reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.canonical import Limits, decode, encode
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.statement import STATEMENT_TYPE
from airflow_secure_ml.errors import FormatError

PREDICATE_TYPE = "urn:airflow-secure-ml:sealing:v1"
# Above what `MAX_RECORD_FILES` of the longest names need.
MAX_RECORD_BYTES = 8 << 20
MAX_RECORD_FILES = 256
_LIMITS = Limits(max_bytes=MAX_RECORD_BYTES, max_depth=5, key=None)
_CORE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFrom:
    """One file, and what it was sealed from.

    Attributes:
        entry: The sealed file as a manifest names it; with a core_id.
        source: The store's version of the plain file that was read.
        plaintext_bytes: Its length.
    """

    entry: Entry
    source: str
    plaintext_bytes: int

    def as_record(self) -> dict[str, Any]:
        """The file as it stands in canonical JSON."""
        return {**self.entry.as_record(), "source": self.source, "plain": self.plaintext_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What is sealed to where, the same in every record of one tree.

    Attributes:
        source: Canonical address of the plain directory.
        target: Canonical address of the sealed one.
        keys: Names of the keys that open its data-set key, sorted.
        context: What every file's encryption context holds.
    """

    source: str
    target: str
    keys: tuple[str, ...]
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingRecord:
    """One record of the journal.

    Attributes:
        number: Its place in the journal, from 0.
        errand: What is done.
        dataset_key: Hex core_id of the data-set key that files are sealed under from here on.
        files: What is sealed; at most `MAX_RECORD_FILES`.
    """

    number: int
    errand: Errand
    dataset_key: str
    files: tuple[SealedFrom, ...] = ()

    def encode(self) -> bytes:
        """The record as canonical JSON."""
        errand = self.errand
        predicate = {
            "number": self.number,
            "source": errand.source,
            "target": errand.target,
            "keys": list(errand.keys),
            "context": dict(errand.context),
            "files": [each.as_record() for each in self.files],
        }
        # A core_id is the SHA-256 of a header's CORE: the subject is the data-set key.
        subject = {"name": errand.target, "digest": {"sha256": self.dataset_key}}
        record = {
            "_type": STATEMENT_TYPE,
            "subject": [subject],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return encode(record, limits=_LIMITS)


def parse(payload: bytes) -> SealingRecord:
    """Read the payload of a verified envelope.

    Raises:
        FormatError: Not canonical JSON, another type, or a field too many or too few.
    """
    match decode(payload, limits=_LIMITS):
        case {
            "predicateType": str(kind),
            "subject": [{"digest": {"sha256": str(dataset_key)}}],
            "predicate": {
                "number": int(number),
                "source": str(source),
                "target": str(target),
                "keys": list(keys),
                "context": dict(context),
                "files": list(files),
            },
        } if kind == PREDICATE_TYPE and _CORE_ID.fullmatch(dataset_key) and _is_count(number):
            texts = [*keys, *context.values()]
            if not all(isinstance(text, str) for text in texts) or len(files) > MAX_RECORD_FILES:
                raise _wrong()
            found = SealingRecord(
                number=number,
                errand=Errand(source=source, target=target, keys=tuple(keys), context=context),
                dataset_key=dataset_key,
                files=tuple(_file(each) for each in files),
            )
            # One spelling for one record: a field too many has no place to come from.
            if found.encode() == payload:
                return found
    raise _wrong()


def _file(record: object) -> SealedFrom:
    match record:
        case {
            "path": str(path),
            "bytes": int(size),
            "digest": str(digest),
            "core": str(core_id),
            "source": str(source),
            "plain": int(plain),
        } if _is_count(size) and _is_count(plain):
            entry = Entry(path=path, size_bytes=size, digest=Digest.parse(digest), core_id=core_id)
            return SealedFrom(entry=entry, source=source, plaintext_bytes=plain)
    raise _wrong()


def _is_count(value: int) -> bool:
    # JSON's true is an int to Python.
    return not isinstance(value, bool) and value >= 0


def _wrong() -> FormatError:
    return FormatError("sealing journal: not a record that this release reads")
