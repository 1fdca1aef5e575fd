"""What a signature says about an artifact: an in-toto Statement, version 1.

One subject, the artifact, with its manifest's digest; the predicate says where it belongs, what it
consists of, which suites it passed and which task made or signed it. A manifest of some length lies
beside the statement, which only commits to it. Signatures are `core.dsse`'s part, and what a reader
demands `services.signing`'s.

Source: in-toto Attestation Framework, spec/v1/statement.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from airflow_secure_ml.core.canonical import Limits, decode, encode
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import MAX_MANIFEST_BYTES, Commitment, Manifest
from airflow_secure_ml.errors import FormatError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:airflow-secure-ml:artifact:v1"
PREDICATE_TYPE_2 = "urn:airflow-secure-ml:artifact:v2"
"""As v1, but for `manifest`: a commitment instead of the files themselves."""
# AWS KMS signs messages of at most 4096 bytes, what DSSE adds counted.
MAX_INLINE_BYTES = 3072
MAX_SUITES = 64
MAX_CONTEXT_PAIRS = 64
MAX_TEXT_BYTES = 8192
ACTS = ("write", "sign")
MAX_STATEMENT_BYTES = MAX_MANIFEST_BYTES + (1 << 20)
_LIMITS = Limits(max_bytes=MAX_STATEMENT_BYTES, max_depth=5, key=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite of expectations that the artifact passed.

    Attributes:
        name: Its name.
        digest: Digest of the suite as it was, so that another version of it does not count.
    """

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """The task that a statement is from.

    Attributes:
        dag_id: DAG id.
        task_id: Task id.
        run_id: DAG run id.
        map_index: -1 if unmapped.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1

    def as_record(self) -> dict[str, Any]:
        """The producer as it stands in canonical JSON."""
        return {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "run_id": self.run_id,
            "map_index": self.map_index,
        }

    @classmethod
    def from_record(cls, record: object) -> Self:
        """Read what `as_record` gave; FormatError for anything else."""
        match record:
            case {
                "dag_id": str(dag_id),
                "task_id": str(task_id),
                "run_id": str(run_id),
                "map_index": int(map_index),
            } if not isinstance(map_index, bool):
                return cls(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)
        raise _wrong("producer needs dag_id, task_id, run_id and map_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is signed about one artifact.

    Attributes:
        object: The canonical address that it was made for.
        manifest: Its files, or what commits to them.
        act: `write` by the task that made it, `sign` by whoever only vouches for it.
        signed_ms: When, in ms since 1970 UTC, as the signer's clock said.
        producer: The task; None outside of tasks (command line).
        context: The encryption context, and for plain artifacts what would have been it.
        suites: What it passed.
        replaces: Digest of the artifact that these bytes were sealed anew from; None: they were
            not.
    """

    object: str
    manifest: Manifest | Commitment
    act: str
    signed_ms: int
    producer: Producer | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    suites: tuple[Suite, ...] = ()
    replaces: str | None = None

    def __post_init__(self) -> None:
        if self.act not in ACTS:
            raise _wrong(f"act {self.act!r}, expected one of {ACTS}")
        if isinstance(self.signed_ms, bool) or self.signed_ms < 0:
            raise _wrong("signed_ms is no time in ms since 1970")
        if not self.object or _size(self.object) > MAX_TEXT_BYTES:
            raise _wrong(f"an address of 1 to {MAX_TEXT_BYTES} bytes is needed")
        if len(self.suites) > MAX_SUITES or len(self.context) > MAX_CONTEXT_PAIRS:
            raise _wrong(f"more than {MAX_SUITES} suites or {MAX_CONTEXT_PAIRS} context pairs")
        if self.replaces is not None:
            Digest.parse(self.replaces)
        texts = [*self.context, *self.context.values(), *(suite.name for suite in self.suites)]
        if any(_size(text) > MAX_TEXT_BYTES for text in texts):
            raise _wrong(f"a text over {MAX_TEXT_BYTES} bytes")

    def encode(self) -> bytes:
        """The statement as canonical JSON.

        Raises:
            FormatError: A text that is not valid UTF-8, or too many files to be signed at once.
        """
        predicate: dict[str, Any] = {
            "object": self.object,
            "sealed": self.manifest.is_sealed,
            "manifest": _manifest_record(self.manifest),
            "act": self.act,
            "signed_ms": self.signed_ms,
            "context": dict(self.context),
            "suites": [{"name": each.name, "digest": str(each.digest)} for each in self.suites],
        }
        if self.producer is not None:
            predicate["producer"] = self.producer.as_record()
        if self.replaces is not None:
            predicate["replaces"] = self.replaces
        subject = {
            "name": self.object,
            "digest": {"sha256": self.manifest.digest.removeprefix("sha256:")},
        }
        record = {
            "_type": STATEMENT_TYPE,
            "subject": [subject],
            "predicateType": PREDICATE_TYPE
            if isinstance(self.manifest, Manifest)
            else PREDICATE_TYPE_2,
            "predicate": predicate,
        }
        return encode(record, limits=_LIMITS)

    @property
    def commitment(self) -> Commitment:
        """What it says of its manifest, in either form."""
        return self.manifest.commitment if isinstance(self.manifest, Manifest) else self.manifest

    def shortened(self) -> Self:
        """What is to be signed of it: itself while it is short, else with a commitment alone."""
        # A file takes some hundred bytes: nothing of megabytes is encoded only to be measured.
        if isinstance(self.manifest, Manifest) and (
            len(self.manifest.entries) > MAX_INLINE_BYTES // 90
            or len(self.encode()) > MAX_INLINE_BYTES
        ):
            return replace(self, manifest=self.manifest.commitment)
        return self


def parse(payload: bytes) -> Statement:
    """Read the payload of a verified envelope.

    Raises:
        FormatError: Not canonical JSON, a field too many or too few, another type of statement, or
            a subject or `sealed` that contradicts the manifest.
    """
    record = decode(payload, limits=_LIMITS)
    predicate = record.get("predicate") if isinstance(record, dict) else None
    if not isinstance(predicate, dict):
        raise _wrong("no predicate")
    statement = _from_predicate(predicate)
    # One spelling for one statement: subject, types and `sealed` are what the rest makes of them,
    # and a field too many has no place to come from.
    if statement.encode() != payload:
        raise _wrong(
            "its parts contradict each other, or it has a field that this release does not know"
        )
    return statement


def _from_predicate(predicate: dict[str, Any]) -> Statement:
    match predicate:
        case {
            "object": str(address),
            "sealed": bool(is_sealed),
            "manifest": manifest,
            "act": str(act),
            "signed_ms": int(signed_ms),
            "context": dict(context),
            "suites": list(suites),
        } if all(isinstance(value, str) for value in context.values()):
            return Statement(
                object=address,
                manifest=Manifest.from_records(manifest)
                if isinstance(manifest, list)
                else Commitment.from_record(manifest, is_sealed=is_sealed),
                act=act,
                signed_ms=signed_ms,
                producer=Producer.from_record(predicate["producer"])
                if "producer" in predicate
                else None,
                context=context,
                suites=tuple(_suite(each) for each in suites),
                replaces=_replaces(predicate.get("replaces")),
            )
    raise _wrong("a field is missing or of another type")


def _manifest_record(manifest: Manifest | Commitment) -> object:
    return manifest.as_records() if isinstance(manifest, Manifest) else manifest.as_record()


def _replaces(given: object) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise _wrong("replaces is no digest")


def _suite(record: object) -> Suite:
    match record:
        case {"name": str(name), "digest": str(digest)}:
            return Suite(name=name, digest=Digest.parse(digest))
    raise _wrong("a suite needs name and digest")


def _wrong(what: str) -> FormatError:
    return FormatError(f"statement: {what}")


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise _wrong("a text that is not valid UTF-8") from error
