"""Verify whose statement stands for the bytes that lie at an address now.

How statements are signed and where they lie is `services.statement_files`' part. Nothing here opens
a sealed file: gates, sensors and remote tasks verify without a key. A demand without `digest`
accepts an older artifact with its older statement: only a pinned digest excludes a replay.

Source: API, Signatures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_secure_ml.core.manifest import Commitment, Manifest, Outline, compare
from airflow_secure_ml.core.ports import KeyRef, ObjectStore, Verifier
from airflow_secure_ml.core.statement import Producer, Statement, Suite
from airflow_secure_ml.errors import (
    IntegrityError,
    ManifestMismatchError,
    PolicyError,
    SignatureError,
)
from airflow_secure_ml.services.artifact import Artifact, pin_artifact
from airflow_secure_ml.services.manifests import build_manifest, manifest_of, outline_of
from airflow_secure_ml.services.statement_files import (
    SignedStatement,
    find_statements,
    read_statements,
    sign_artifact,
    signed_manifest,
    statement_folder,
)

__all__ = [
    "Candidates",
    "Demand",
    "SignedStatement",
    "Verified",
    "check_may_replace",
    "find_statements",
    "sign_artifact",
    "signed_algorithm",
    "statements_about",
    "statements_for",
    "verify_artifact",
    "verify_manifest",
]

# More statements than these are not read to guess which one might fit.
MAX_UNPINNED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a reader demands of an artifact's statements.

    Attributes:
        verifiers: The keys whose signatures are accepted.
        digest: The artifact's pinned digest, from a Reference or an asset event; None: a bare
            address, which is not protected against replay.
        context: Pairs that the signed context must hold.
        same_as: Another address that the statement may name (a rule's).
        produced_by: DAG id and run id that a Reference names; None: any.
    """

    verifiers: Sequence[Verifier]
    digest: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    same_as: str | None = None
    produced_by: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An artifact whose bytes are signed as demanded.

    Attributes:
        manifest: What lies there, and was signed.
        statements: Every statement about these bytes that meets the demand, at least one.
    """

    manifest: Manifest
    statements: tuple[SignedStatement, ...]

    @property
    def statement(self) -> Statement:
        """What the task that made it signed; if none did, the newest statement."""
        newest = sorted(self.statements, key=lambda each: each.statement.signed_ms)
        written = [each for each in newest if each.statement.act == "write"]
        return (written or newest)[-1].statement

    @property
    def digest(self) -> str:
        """The artifact's digest."""
        return self.manifest.digest

    @property
    def signers(self) -> tuple[KeyRef, ...]:
        """Whose signatures hold."""
        return tuple(dict.fromkeys(ref for each in self.statements for ref in each.signers))

    @property
    def suites(self) -> tuple[Suite, ...]:
        """Which suites these bytes passed, after any accepted signer."""
        return tuple(dict.fromkeys(s for each in self.statements for s in each.statement.suites))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Statements that may stand for an artifact of which only the headers were read.

    Attributes:
        uri: The artifact's address.
        demand: What they meet.
        statements: At least one, newest first, with their manifests.
    """

    uri: str
    demand: Demand
    statements: tuple[SignedStatement, ...]

    @property
    def algorithm(self) -> str:
        """The algorithm to digest with while opening, as its signer did."""
        return self.statements[0].statement.manifest.algorithm

    @property
    def manifest(self) -> Manifest:
        """What the newest of them says, file by file."""
        found = self.statements[0].manifest
        if found is None:
            raise SignatureError(f"{self.uri}: the manifest that was signed is not known")
        return found

    def match(self, manifest: Manifest) -> Verified:
        """Settle it with what was really read; call before anything read is used or published.

        Raises:
            IntegrityError: Not the pinned digest.
            ManifestMismatchError: None of the candidates is about these bytes.
        """
        _check_pin(self.uri, manifest, self.demand)
        fitting = [each for each in self.statements if each.digest == manifest.digest]
        if not fitting:
            compare(self.manifest, manifest)
        return Verified(manifest=manifest, statements=tuple(fitting))


def verify_artifact(
    store: ObjectStore, uri: str, demand: Demand, *, threads: int | None = None
) -> Verified:
    """Read an artifact whole and require a statement about exactly these bytes.

    Raises:
        FileNotFoundError: Nothing is there.
        FormatError: As `build_manifest`.
        IntegrityError: Not the pinned digest, or (ManifestMismatchError) not what was signed.
        SignatureError: Not signed (`why` not_signed), or a signature or statement does not hold.
        PolicyError: Signed by others only (signer_not_accepted), or as something else
            (context_differs).
    """
    with pin_artifact(store, uri) as artifact:
        algorithm = signed_algorithm(store, artifact, demand)
        manifest = manifest_of(artifact, algorithm=algorithm, threads=threads)
    return verify_manifest(store, uri, manifest, demand)


def signed_algorithm(store: ObjectStore, artifact: Artifact, demand: Demand) -> str:
    """With which algorithm to digest; opens files only where statements name several."""
    names = find_statements(store, artifact.uri, demand.digest)
    if not 1 <= len(names) <= MAX_UNPINNED:
        return "sha256"
    found = read_statements(store, names, demand.verifiers, about=artifact.names()).held
    meeting = [each for each in found if not _objections(artifact.uri, each.statement, demand)]
    algorithms = {each.statement.manifest.algorithm for each in _with_manifests(store, meeting)}
    if len(algorithms) == 1:
        return algorithms.pop()
    likely = _likely(store, artifact, demand) if algorithms else ()
    return likely[0].statement.manifest.algorithm if likely else "sha256"


def verify_manifest(store: ObjectStore, uri: str, manifest: Manifest, demand: Demand) -> Verified:
    """Require a statement about bytes that the caller read and digested itself.

    Raises:
        IntegrityError, SignatureError, PolicyError: As `verify_artifact`.
    """
    _check_pin(uri, manifest, demand)
    names = find_statements(store, uri, manifest.digest)
    found = read_statements(
        store, names, demand.verifiers, about=[each.path for each in manifest.entries]
    )
    # A link can give a true statement another's name: what it says is what counts.
    held = [
        replace(each, manifest=manifest)
        for each in found.held
        if each.statement.commitment == manifest.commitment
    ]
    fitting = tuple(each for each in held if not _objections(uri, each.statement, demand))
    if fitting:
        return Verified(manifest=manifest, statements=fitting)
    if held:
        objections = _objections(uri, _newest(held).statement, demand)
        raise PolicyError(f"{uri}: {objections[0]}", why="context_differs")
    if found.failures:
        raise next(
            (each for each in found.failures if isinstance(each, SignatureError)),
            found.failures[0],
        )
    raise _unsigned(store, uri, manifest, demand)


def _unsigned(store: ObjectStore, uri: str, manifest: Manifest, demand: Demand) -> SignatureError:
    """Say whether signed bytes were altered, or nothing was ever signed here."""
    others = read_statements(store, find_statements(store, uri)[-MAX_UNPINNED:], demand.verifiers)
    about_this = [each for each in others.held if not _objections(uri, each.statement, demand)]
    if about_this:
        _refuse_what_differs(store, _newest(about_this), manifest)
    return SignatureError(
        f"{uri}: expected a signed statement in {statement_folder(uri)}, found none about"
        " these bytes; sign it, or read what a secured task wrote",
        why="not_signed",
    )


def _refuse_what_differs(store: ObjectStore, signed: SignedStatement, manifest: Manifest) -> None:
    try:
        compare(signed_manifest(store, signed), manifest)
    except SignatureError as error:
        if signed.digest == manifest.digest:
            raise
        # That it is another one is certain; only the names of the files cannot be told.
        raise ManifestMismatchError(
            f"expected what was signed as {signed.digest}, found {manifest.digest}; which files "
            f"differ is not known: {error}"
        ) from error


def statements_for(store: ObjectStore, uri: str, demand: Demand) -> Candidates:
    """As `statements_about`, of what lies at an address now."""
    with pin_artifact(store, uri) as artifact:
        return statements_about(store, artifact, demand)


def statements_about(store: ObjectStore, artifact: Artifact, demand: Demand) -> Candidates:
    """Look for a statement before anything is opened, reading headers only.

    For a caller that digests while it opens: it spares a pass over the data. What it opened, of
    this same artifact, counts only after `Candidates.match`.

    Raises:
        FileNotFoundError, FormatError, IntegrityError, SignatureError, PolicyError: As
            `verify_artifact`; then the whole artifact was read to say exactly what is wrong.
    """
    statements = _likely(store, artifact, demand)
    if not statements:
        manifest = manifest_of(artifact)
        statements = verify_manifest(store, artifact.uri, manifest, demand).statements
    return Candidates(uri=artifact.uri, demand=demand, statements=statements)


def _likely(store: ObjectStore, artifact: Artifact, demand: Demand) -> tuple[SignedStatement, ...]:
    """Statements that meet the demand and fit what the headers tell, newest first."""
    uri = artifact.uri
    names = find_statements(store, uri, demand.digest)
    if not 1 <= len(names) <= MAX_UNPINNED:
        return ()
    outline = outline_of(artifact)
    found = read_statements(
        store, names, demand.verifiers, about=[each.path for each in outline]
    ).held
    meeting = [
        each
        for each in found
        if _may_be_about(each.statement.commitment, outline)
        and not _objections(uri, each.statement, demand)
    ]
    fitting = [
        each
        for each in _with_manifests(store, meeting)
        if each.manifest is not None and each.manifest.outline == outline
    ]
    return tuple(sorted(fitting, key=lambda each: -each.statement.signed_ms))


def _may_be_about(said: Commitment, outline: Sequence[Outline]) -> bool:
    """Whether the counts are those of the files that are there: no other manifest is read."""
    return (
        said.files == len(outline)
        and said.size_bytes == sum(each.size_bytes for each in outline)
        and said.is_sealed == all(each.core_id is not None for each in outline)
    )


def _with_manifests(
    store: ObjectStore, statements: Sequence[SignedStatement]
) -> list[SignedStatement]:
    """Those whose manifest is to be had, each read once; the others hold for whoever digests."""
    known: dict[Commitment, Manifest] = {}
    found = []
    for each in statements:
        said = each.statement.commitment
        if said not in known:
            with contextlib.suppress(SignatureError):
                known[said] = signed_manifest(store, each)
        if said in known:
            found.append(replace(each, manifest=known[said]))
    return found


def check_may_replace(
    store: ObjectStore, uri: str, producer: Producer, verifiers: Sequence[Verifier]
) -> None:
    """Return if nothing is there, or what this very DAG, task and map_index wrote there last.

    The bytes may have been altered since: their owner is who can make them good again.

    Raises:
        PolicyError: Anything else lies there (`why` address_taken).
    """
    if store.info(uri) is None:
        return
    demand = Demand(verifiers=verifiers)
    names = find_statements(store, uri)
    if len(names) > MAX_UNPINNED:
        names = find_statements(store, uri, build_manifest(store, uri).digest)
    written = [
        each
        for each in read_statements(store, names, verifiers).held
        if each.statement.act == "write" and not _objections(uri, each.statement, demand)
    ]
    owning = _about_what_lies_there(store, uri, written)
    last = _newest(owning).statement.producer if owning else None
    if last is None or _place(last) != _place(producer):
        owner = f"{last.dag_id}.{last.task_id}" if last else "somebody without a signed statement"
        raise PolicyError(
            f"{uri}: {owner} wrote what is there, only the same task may replace it;"
            " write elsewhere, or remove it first",
            why="address_taken",
        )


def _about_what_lies_there(
    store: ObjectStore, uri: str, written: list[SignedStatement]
) -> list[SignedStatement]:
    """Of the statements of several tasks, those about the bytes that lie there now.

    A statement comes before its object, which may then never have come: two tasks wrote at once,
    or one was killed. Whose object lies there is told by the bytes alone, and read only then.
    """
    if len({each.statement.producer and _place(each.statement.producer) for each in written}) <= 1:
        return written
    found = []
    for algorithm in sorted({each.statement.manifest.algorithm for each in written}):
        digest = build_manifest(store, uri, algorithm=algorithm).digest
        found += [each for each in written if each.digest == digest]
    return found


def _objections(uri: str, said: Statement, demand: Demand) -> list[str]:
    """Why a statement, true as it is, does not meet the demand; empty: it does."""
    found = []
    if said.object not in (uri, demand.same_as):
        found.append(
            f"signed for {said.object}; a copy is read by a same_as rule, or after sealing anew"
        )
    for key, value in demand.context.items():
        if said.context.get(key) != value:
            found.append(f"signed with another {key!r} in its context than demanded")
    by = said.producer
    if demand.produced_by is not None and (
        by is None or (by.dag_id, by.run_id) != demand.produced_by
    ):
        dag_id, run_id = demand.produced_by
        found.append(f"not signed in run {run_id} of {dag_id}, which the Reference names")
    return found


def _check_pin(uri: str, manifest: Manifest, demand: Demand) -> None:
    pinned = demand.digest
    # A pin comes from XCom, where anything can stand: what is no digest differs like any other.
    if pinned is None or pinned == manifest.digest:
        return
    raise IntegrityError(
        f"{uri}: expected {pinned[:80]!r}, pinned by the task that made it, found"
        f" {manifest.digest}; it was replaced since, make it again or read the newer one",
        why="digest_differs",
    )


def _newest(statements: Sequence[SignedStatement]) -> SignedStatement:
    return max(statements, key=lambda each: each.statement.signed_ms)


def _place(producer: Producer) -> tuple[str, str, int]:
    return producer.dag_id, producer.task_id, producer.map_index
