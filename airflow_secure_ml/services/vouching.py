"""Verify an artifact, or vouch for it, without opening it: gates, sensors, release signatures.

A run as `services.secured_run` is one, with neither plaintext nor body; its acts are recorded the
same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.statement import Statement, Suite
from airflow_secure_ml.errors import FormatError, SecureMLError, SignatureError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import (
    demand_for,
    nothing_there,
    object_facts,
    pin_facts,
)
from airflow_secure_ml.services.journal import in_words, key_facts
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.promised_outputs import producer_of
from airflow_secure_ml.services.reference import reference
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.secured_inputs import MAX_LISTED
from airflow_secure_ml.services.signing import (
    Verified,
    find_statements,
    sign_artifact,
    verify_manifest,
)


@contextlib.contextmanager
def recorded(work: Work, operator: str) -> Iterator[None]:
    """Make the intent durable before the block, and its outcome after it."""
    more: dict[str, Any] = {
        "reads": [{"name": one.name, "uri": one.uri} for one in work.plan.inputs],
        "operator": operator,
    }
    work.journal.begin(more)
    counts = {"reads": len(work.plan.inputs), "writes": 0, "leases": 0}
    try:
        yield
    except SecureMLError as error:
        work.journal.ended(error.result, error.why, counts)
        work.journal.settle()
        raise
    except BaseException:
        work.journal.ended("failed", "bug", counts)
        work.journal.settle()
        raise
    work.journal.ended("ok", None, counts)
    work.journal.settle()


def verify_input(work: Work, item: Input) -> Verified:
    """Read an artifact and require a statement about exactly these bytes; recorded.

    Raises:
        FormatError: Nothing is there (not_sealed), or something that is no artifact.
        SecureMLError: As `services.signing.verify_artifact`.
    """
    store, since = work.desk.store(item.uri), work.journal.now()
    facts, pinned = object_facts(item), pin_facts(item)
    try:
        manifest = _manifest(work, item)
        verified = verify_manifest(store, item.uri, manifest, demand_for(work, item))
    except SecureMLError as error:
        work.journal.refused("object.verify", error, object=facts, more=pinned)
        raise
    signers = [str(ref) for ref in verified.signers[:MAX_LISTED]]
    work.journal.did(
        "object.verify",
        since=since,
        object={**facts, "digest": verified.digest, "bytes": manifest.size_bytes},
        more={"signers": signers, **pinned},
    )
    size = in_words(manifest.size_bytes)
    work.journal.tell(f"verified {item.name}: {size}, signed by {', '.join(signers)}")
    return verified


def manifest_to_vouch(work: Work, item: Input) -> Manifest:
    """What a signature is to be added to: verified, or plain and signed by nobody yet.

    A sealed artifact, or one that a reference or an asset pins, is only vouched for after somebody
    accepted did; else whoever can write there could have anything signed.

    Raises:
        SecureMLError: As `verify_input`.
    """
    manifest = _manifest(work, item)
    store = work.desk.store(item.uri)
    sealed = any(entry.core_id is not None for entry in manifest.entries)
    fresh = not sealed and item.pin is None and not find_statements(store, item.uri)
    return manifest if fresh else verify_input(work, item).manifest


def vouch(
    work: Work, item: Input, manifest: Manifest, key: str, *, suites: tuple[Suite, ...] = ()
) -> dict[str, Any]:
    """Add a signature to an artifact; the others stay. Returns a Reference to it.

    Raises:
        SecureMLError: The key is not to be had, or the store did not take the statement; recorded.
    """
    desk, journal = work.desk, work.journal
    facts = {"name": item.name, "uri": item.uri, "digest": manifest.digest}
    said = Statement(
        object=item.uri,
        manifest=manifest,
        act="sign",
        signed_ms=desk.now_ms(),
        producer=producer_of(work),
        context={"object": item.uri, **item.context},
        suites=suites,
    )
    intent = journal.intend("object.sign", object=facts)
    journal.settle()
    try:
        signer = desk.keys.signer(key)
        sign_artifact(desk.store(item.uri), said, signer)
    except SecureMLError as error:
        journal.refused("object.sign", error, of=intent, object=facts)
        raise
    event = journal.did("object.sign", of=intent, object=facts, key=key_facts(signer.ref))
    journal.tell(f"signed {item.name}: {item.uri}, with {signer.ref}")
    return reference_to(item, manifest, event, [signer.ref.name])


def reference_to(
    item: Input, manifest: Manifest, event: str, signed_by: list[str]
) -> dict[str, Any]:
    """A Reference to an artifact that was verified or vouched for."""
    return reference(
        name=item.name,
        uri=item.uri,
        manifest=manifest,
        size_bytes=manifest.size_bytes,
        signed_by=signed_by,
        event=event,
    )


def _manifest(work: Work, item: Input) -> Manifest:
    try:
        return build_manifest(work.desk.store(item.uri), item.uri)
    except FileNotFoundError as error:
        raise nothing_there(item, "an artifact") from error


def is_still_to_come(error: SecureMLError) -> bool:
    """Whether waiting may help: nothing is there, or nobody accepted has signed it yet."""
    if isinstance(error, SignatureError):
        return error.why == "not_signed"
    return error.why == "signer_not_accepted" or (
        isinstance(error, FormatError) and isinstance(error.__cause__, FileNotFoundError)
    )
