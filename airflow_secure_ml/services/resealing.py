"""Seal an artifact anew where it lies: in the suite that is written now, under other file keys.

Plaintext passes through memory alone. The whole artifact changes at once or not at all, signed
before it appears; what was interrupted is begun again, and what is done already stays as it is.
Unlike a rewrap it takes access away from who had the old file keys, but for copies of old bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from airflow_secure_ml.core.crypto_policy import governing
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry, Manifest
from airflow_secure_ml.core.ports import (
    DirectoryWriter,
    KeyWrapper,
    ObjectStore,
    ObjectWriter,
    RotatingKeys,
    Signer,
)
from airflow_secure_ml.core.sealed_file.header import MAGIC, Header
from airflow_secure_ml.core.sealed_file.keys import TYPE_DATASET_KEY
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError, SecureMLError
from airflow_secure_ml.services.artifact import Artifact, pin_artifact
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys
from airflow_secure_ml.services.manifests import build_outline
from airflow_secure_ml.services.passing import pass_opened
from airflow_secure_ml.services.rewrapping_below import Trail
from airflow_secure_ml.services.sealed_dataset import (
    DataSetRoot,
    create_dataset_key,
    dataset_key_name,
)
from airflow_secure_ml.services.sealed_header import ReaderKey, naming, read_sealed_header
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.services.signing import (
    Candidates,
    Demand,
    Verified,
    sign_artifact,
    statements_about,
)

ACT = "object.publish"
_BECAUSE = "sealed anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be sealed anew, and how.

    Attributes:
        uri: Canonical address of a sealed file, or of a directory of them.
        key: Name of the key, or of the group, that seals.
        anew: Whether it is sealed anew even where suite and keys are the wanted ones.
        now_ms: When, for the statement.
    """

    uri: str
    key: str
    anew: bool
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """What came of it.

    Attributes:
        digest: The artifact's digest now.
        replaced: Its digest before; None: it was as wanted already, and stayed.
        files: How many files it has.
        suite: Number of the suite they are of.
    """

    digest: str
    replaced: str | None
    files: int
    suite: int


def reseal_artifact(
    store: ObjectStore,
    asked: Asked,
    *,
    keys: RotatingKeys,
    demand: Demand,
    signer: Signer,
    trail: Trail,
) -> Resealed:
    """Open what is signed as demanded, seal it anew, sign that, and put it in its place.

    Suites that it passed, its context and its producer stay what the statement before said.

    Args:
        store: Where it lies.
        asked: What, and how.
        keys: Open it, and seal it anew.
        demand: What its statement must meet.
        signer: Signs the new statement.
        trail: Takes an intent and an outcome.

    Raises:
        FileNotFoundError: Nothing is there.
        FormatError: A plain file is there, or in it.
        IntegrityError: It is not what was signed, or somebody replaced it meanwhile.
        PolicyError: Nobody accepted signed it, no key opens it, or the policy says no.
        ServiceError: Store, key system or trail failed; it is as it was.
    """
    wanted = sealing_keys(keys, [asked.key])
    with pin_artifact(store, asked.uri) as artifact:
        work = _Work(store, asked, keys, demand, signer, trail, wanted, artifact)
        candidates = statements_about(store, artifact, demand)
        headers = work.headers()
        if not asked.anew and work.is_done(headers):
            digest = candidates.statements[0].digest
            return Resealed(
                digest=digest, replaced=None, files=len(headers), suite=work.suite_to_write
            )
        return work.recorded(candidates, headers)


@dataclass(frozen=True, slots=True)
class _Work:
    store: ObjectStore
    asked: Asked
    keys: RotatingKeys
    demand: Demand
    signer: Signer
    trail: Trail
    wanted: Sequence[KeyWrapper]
    artifact: Artifact

    @property
    def suite_to_write(self) -> int:
        return governing(self.wanted).suite_to_write

    def headers(self) -> dict[str, Header]:
        """By name, the header of each file."""
        found = {}
        for name in self.artifact.names():
            with self.artifact.open(name) as pinned:
                if pinned.read_at(0, len(MAGIC)) != MAGIC:
                    raise FormatError(
                        f"{pinned.uri}: plain, expected a sealed file; a secured task or "
                        "EncryptFileOperator seals it first"
                    )
                found[name] = read_sealed_header(pinned)
        return found

    def is_done(self, headers: Mapping[str, Header]) -> bool:
        """Whether every file is of the suite that is written, for exactly the wanted keys."""
        suite = self.suite_to_write
        return all(each.core.suite == suite for each in headers.values()) and all(
            _slots(each) == {(key.slot_type, key.slot_id) for key in self.wanted}
            for each in self._above(headers)
        )

    def _above(self, headers: Mapping[str, Header]) -> list[Header]:
        """The headers that the wanted keys open: files, or their data-set keys instead."""
        above = [each for each in headers.values() if not _data_set_keys(each)]
        for identifier in {name for each in headers.values() for name in _data_set_keys(each)}:
            uri = self.store.child(self.asked.uri, dataset_key_name(identifier))
            with self.store.open(uri) as pinned:
                above.append(read_sealed_header(pinned))
        return above

    def recorded(self, candidates: Candidates, headers: Mapping[str, Header]) -> Resealed:
        """Reseal, said in the trail before and after."""
        uri, before = self.asked.uri, candidates.statements[0].digest
        facts = {"uri": uri, "digest": before}
        more = {"signer": str(self.signer.ref), "replace": True, "replaced": before}
        intent = self.trail.intend(ACT, object=facts, more=more)
        self.trail.settle()
        try:
            with naming(uri):
                said = self._reseal(candidates, headers)
        except SecureMLError as error:
            self.trail.refused(ACT, error, of=intent, object=facts, more=more)
            self.trail.settle()
            raise
        after = said.manifest.digest
        facts = {"uri": uri, "digest": after}
        key = key_facts(self.wanted[0].ref)
        more |= {"because": _BECAUSE}
        self.trail.did(ACT, of=intent, object=facts, key=key, more=more)
        self.trail.settle()
        suite = self.suite_to_write
        return Resealed(digest=after, replaced=said.replaces, files=len(headers), suite=suite)

    def _reseal(self, candidates: Candidates, headers: Mapping[str, Header]) -> Statement:
        with contextlib.ExitStack() as stack:
            if not self.artifact.is_directory:
                file = stack.enter_context(self.store.create(self.asked.uri))
                old, new = self._file(file, "", headers[""], self.wanted, candidates.algorithm)
                said = self._signed(candidates.match(Manifest.of([old])), [new])
                file.commit(replace=True, if_version=self.artifact.version)
                return said
            directory = stack.enter_context(self.store.create_directory(self.asked.uri))
            sealing = self._data_set_key(directory, headers)
            entries = []
            for name, header in headers.items():
                with directory.create(name) as writer:
                    entries.append(self._file(writer, name, header, sealing, candidates.algorithm))
                    writer.commit(replace=False)
            opened = Manifest.of([old for old, _ in entries])
            verified = candidates.match(opened)
            said = self._signed(verified, [new for _, new in entries])
            self._check_same(opened)
            directory.commit(replace=True)
            return said

    def _data_set_key(
        self, directory: DirectoryWriter, headers: Mapping[str, Header]
    ) -> Sequence[KeyWrapper]:
        """A new key for all files, where they had one; else each has slots of its own."""
        if not any(_data_set_keys(header) for header in headers.values()):
            return self.wanted
        pairs = [set(header.core.context.items()) for header in headers.values()]
        shared = dict(set.intersection(*pairs)) or {"dataset": self.asked.uri}
        below = cast("ObjectStore", _Below(directory))
        made = create_dataset_key(below, self.asked.uri, keys=self.wanted, context=shared)
        return [made]

    def _file(
        self,
        writer: ObjectWriter,
        name: str,
        header: Header,
        sealing: Sequence[KeyWrapper],
        algorithm: str,
    ) -> tuple[Entry, Entry]:
        """Seal one file anew; returns what it was, and what it is."""
        with (
            self.artifact.open(name) as pinned,
            pass_opened(
                pinned,
                name,
                keys=self._readers(),
                expect=header.core.context,
                state_of=self.keys.state_of,
                algorithm=algorithm,
            ) as passing,
        ):
            context = header.core.context
            sealed = seal_object(passing.stream, writer, keys=sealing, context=context)
            passed = passing.finish()
        if passed.entry.core_id != header.core_id.hex():
            raise IntegrityError(f"{pinned.uri}: it was replaced while it was sealed anew")
        assert sealed.payload_digest is not None
        new = replace(
            passed.entry,
            size_bytes=sealed.payload_bytes,
            digest=Digest.parse(sealed.payload_digest),
            core_id=sealed.core_id.hex(),
        )
        return passed.entry, new

    def _readers(self) -> list[ReaderKey]:
        # Keys to receive with too: the signature is demanded.
        found = opening_keys(self.keys)
        root = DataSetRoot(self.store, self.asked.uri, keys=found, state_of=self.keys.state_of)
        return [*found, root]

    def _signed(self, verified: Verified, entries: Sequence[Entry]) -> Statement:
        before = verified.statement
        said = replace(
            before,
            object=self.asked.uri,
            manifest=Manifest.of(entries),
            act="write",
            signed_ms=self.asked.now_ms,
            suites=verified.suites,
            replaces=verified.digest,
        )
        sign_artifact(self.store, said, self.signer)
        return said

    def _check_same(self, opened: Manifest) -> None:
        # Not the directory's version: in S3, beginning to write has changed it. Whoever sealed
        # anything there meanwhile has left another core_id.
        if build_outline(self.store, self.asked.uri) != opened.outline:
            raise PolicyError(
                "somebody replaced it while it was sealed anew; it stays as they left it, "
                "begin again",
                why="address_taken",
            )


class _Below:
    """A directory that is being built, as the store of a data-set key's header."""

    def __init__(self, directory: DirectoryWriter) -> None:
        self._directory = directory

    def child(self, uri: str, relative: str) -> str:
        return relative

    def create(self, uri: str) -> ObjectWriter:
        return self._directory.create(uri)


def _data_set_keys(header: Header) -> list[str]:
    return [slot.id for slot in header.slots if slot.type == TYPE_DATASET_KEY]


def _slots(header: Header) -> set[tuple[int, str]]:
    return {(slot.type, slot.id) for slot in header.slots}
