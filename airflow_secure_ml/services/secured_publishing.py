"""Sign what a run has sealed, and publish all of it together.

Statements are published before objects, so that no reader meets new bytes with an old statement;
each object appears by one rename, and takes the place only of what was found to be its task's own.

Source: SECURE_TASK, "Order, whatever happens"; API, Signatures and Overwriting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.ports import KeyRef, ObjectWriter
from airflow_secure_ml.core.statement import Statement, Suite
from airflow_secure_ml.errors import IntegrityError, PolicyError, SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.promised_outputs import (
    check_is_replaceable,
    written_statement,
)
from airflow_secure_ml.services.secured_outputs import Staged
from airflow_secure_ml.services.signing import sign_artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An output that readers can see.

    Attributes:
        staged: What was published.
        signer: Who signed it.
        version: The store's name for it.
        event: Name of the event that says so.
    """

    staged: Staged
    signer: KeyRef
    version: str
    event: str


def publish(work: Work, staged: list[Staged], refuse_if_stopped: object) -> list[Published]:
    """Sign and publish staged outputs, once what will be published is durable in the trail.

    Args:
        work: The run.
        staged: What is complete.
        refuse_if_stopped: Called without arguments right before; raises if this try must not.

    Raises:
        SecureMLError: Refused, or another system failed; recorded for each that is not published.
    """
    assert callable(refuse_if_stopped)
    journal = work.journal
    done: list[Published] = []
    signer = work.desk.keys.signer(work.desk.signing_key)
    more = {"signer": str(signer.ref)}
    intents = [journal.intend("object.publish", object=one.facts, more=more) for one in staged]
    try:
        journal.settle()
        refuse_if_stopped()
        places = [_replaceable(work, one) for one in staged]
        for one in staged:
            sign_artifact(one.store, _statement(work, one), signer)
            journal.did("object.sign", object=one.facts, key=key_facts(signer.ref))
        for one, intent, place in zip(staged, intents, places, strict=True):
            version = _commit(one, place)
            facts = {**one.facts, "version": version}
            event = journal.did("object.publish", of=intent, object=facts)
            journal.tell(f"published {one.item.name}: {one.item.uri}, signed by {signer.ref}")
            done.append(Published(staged=one, signer=signer.ref, version=version, event=event))
    except SecureMLError as error:
        for one, intent in zip(staged[len(done) :], intents[len(done) :], strict=True):
            journal.refused("object.publish", error, of=intent, object=one.facts)
        raise
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What lies where an output goes, and may be replaced.

    Attributes:
        is_free: Nothing lies there.
        version: Of the file there; None: nothing, or a directory.
    """

    is_free: bool
    version: str | None = None


def _replaceable(work: Work, staged: Staged) -> _Place:
    """What lies there now; whatever comes later is somebody else's. PolicyError: not ours."""
    info = staged.store.info(staged.item.uri)
    if info is None:
        return _Place(is_free=True)
    version = None
    if not info.is_directory:
        with staged.store.open(staged.item.uri) as pinned:
            version = pinned.version
    check_is_replaceable(work, staged.item)
    return _Place(is_free=False, version=version)


def _commit(staged: Staged, place: _Place) -> str:
    if place.version is None or staged.is_directory:
        return staged.writer.commit(replace=not place.is_free)
    try:
        file = cast("ObjectWriter", staged.writer)
        return file.commit(replace=True, if_version=place.version)
    except IntegrityError as error:
        raise PolicyError(str(error), why="address_taken") from error


def _statement(work: Work, staged: Staged) -> Statement:
    report = staged.report
    suites: tuple[Suite, ...] = ()
    if report is not None and report.passed:
        suites = (Suite(name=report.suite, digest=Digest.parse(report.suite_digest)),)
    return written_statement(work, staged.item, staged.manifest, suites)
