"""A run whose body works elsewhere: verify and pin before it, verify and sign after it.

Nothing is opened here and no plaintext passes. What the job reads is held to what was verified: an
input that is another one afterwards is a refusal, and nothing is signed. What it wrote is visible
before it is signed, and no reader of this package takes it until then.

Source: API, remote=True.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.ports import KeyWrapper, ObjectStore
from airflow_secure_ml.core.sealed_file.context import check_context
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.core.sealed_file.keys import TYPE_DATASET_KEY
from airflow_secure_ml.core.sealed_file.slots import find_slot
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError, SecureMLError
from airflow_secure_ml.services.artifact import pin_artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import ask_rules, nothing_there, object_facts
from airflow_secure_ml.services.journal import in_words
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.promised_outputs import (
    output_facts,
    wrappers_of,
    written_statement,
)
from airflow_secure_ml.services.reference import reference
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.sealed_dataset import dataset_key_name
from airflow_secure_ml.services.sealed_header import naming, read_sealed_header
from airflow_secure_ml.services.several import several
from airflow_secure_ml.services.signing import sign_artifact
from airflow_secure_ml.services.vouching import verify_input

State: TypeAlias = "tuple[tuple[str, str], ...] | None"
"""Name and version of each file of an artifact; None: nothing is there."""

NOTHING = "nothing"
"""What is noted where nothing is."""


class RemoteWork:
    """The inputs and outputs of a body that runs elsewhere.

    Args:
        work: The run.

    Attributes:
        noted: What lay at each address before the job; for whoever goes on after a deferral.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self.noted: dict[str, str] = {}

    def before(self) -> dict[str, Any]:
        """Verify and pin the inputs, and take note of what lies where the outputs go.

        Returns:
            The address of each name; a list of them where a list was given.

        Raises:
            SecureMLError: The job must not run; recorded.
        """
        work, bound = self._work, dict[str, Any]()
        for at, item in enumerate(work.plan.inputs):
            # Pinned first: what is verified can only be this, or it shows afterwards.
            try:
                self._note(f"read {at}", item.uri)
            except SecureMLError as error:
                work.journal.refused("object.verify", error, object=object_facts(item))
                raise
            if work.plan.noted:
                self._require_unchanged(at, item)
            self._check_input(item)
            if item.name in work.plan.listed:
                bound.setdefault(item.name, []).append(item.uri)
            else:
                bound[item.name] = item.uri
        for output in work.plan.outputs:
            self._note(f"write {output.name}", output.uri)
            bound[output.name] = output.uri
        return bound

    def after(self, refuse_if_stopped: Callable[[], None]) -> Mapping[str, dict[str, Any]]:
        """Hold the inputs to what they were, then sign what the job wrote.

        Args:
            refuse_if_stopped: Raises if this try must not publish.

        Returns:
            A Reference for each output, by name.

        Raises:
            SecureMLError: Nothing more is signed; recorded.
        """
        for at, item in enumerate(self._work.plan.inputs):
            self._require_unchanged(at, item)
        written = [(output, *self._written(output)) for output in self._work.plan.outputs]
        references = {}
        for output, state, manifest in written:
            references[output.name] = self._sign(output, state, manifest, refuse_if_stopped)
        return references

    def _check_input(self, item: Input) -> None:
        work = self._work
        try:
            sealed = _is_sealed(work.desk.store(item.uri), item)
        except SecureMLError as error:
            work.journal.refused("object.verify", error, object=object_facts(item))
            raise
        ask_rules(work, item, sealed)
        if item.sealed and not sealed:
            refusal = FormatError(
                f"{item.name}: expected a sealed file at {item.uri}, found a plain one; say "
                "Reads(…, sealed=False) if the job reads plain data, which are verified as well",
                why="not_sealed",
            )
            work.journal.refused("object.verify", refusal, object=object_facts(item))
            raise refusal
        verify_input(work, item)

    def _note(self, what: str, uri: str) -> None:
        """Note what lies there; of a job that was deferred, what lay there before it."""
        before = self._work.plan.noted.get(what)
        self.noted[what] = before or _told(state_of(self._work.desk.store(uri), uri))

    def _require_unchanged(self, at: int, item: Input) -> None:
        if _told(state_of(self._work.desk.store(item.uri), item.uri)) == self.noted[f"read {at}"]:
            return
        error = IntegrityError(
            f"{item.name}: {item.uri} was replaced while the job ran, so it is not known what the "
            "job read; nothing was signed, run it again"
        )
        self._work.journal.refused("object.verify", error, object=object_facts(item))
        raise error

    def _written(self, item: Output) -> tuple[State, Manifest]:
        """What the job wrote; recorded where it is refused."""
        work = self._work
        store = work.desk.store(item.uri)
        try:
            state = state_of(store, item.uri)
            if state is None or _told(state) == self.noted[f"write {item.name}"]:
                raise PolicyError(
                    f"{item.name}: the job wrote nothing to {item.uri}; have it write exactly "
                    f"there, to {{{{ secure.{item.name} }}}}",
                    why="output_missing",
                )
            manifest = build_manifest(store, item.uri)
            if item.sealed:
                _check_sealed(store, item, manifest, wrappers_of(work, item))
        except FileNotFoundError as error:
            gone = IntegrityError(f"{item.name}: {item.uri} was removed while it was digested")
            work.journal.refused("object.publish", gone, object=output_facts(item))
            raise gone from error
        except SecureMLError as error:
            work.journal.refused("object.publish", error, object=output_facts(item))
            raise
        return state, manifest

    def _sign(
        self,
        item: Output,
        state: State,
        manifest: Manifest,
        refuse_if_stopped: Callable[[], None],
    ) -> dict[str, Any]:
        work, store = self._work, self._work.desk.store(item.uri)
        facts = {**output_facts(item), "digest": manifest.digest, "bytes": manifest.size_bytes}
        intent = work.journal.intend("object.publish", object=facts)
        work.journal.settle()
        try:
            refuse_if_stopped()
            signer = work.desk.keys.signer(work.desk.signing_key)
            sign_artifact(store, written_statement(work, item, manifest), signer)
            if state_of(store, item.uri) != state:
                raise IntegrityError(
                    f"{item.name}: {item.uri} was still written while it was signed; have the job "
                    "end only when all of it is there"
                )
        except SecureMLError as error:
            work.journal.refused("object.publish", error, of=intent, object=facts)
            raise
        more = {"signer": str(signer.ref), "because": "remote"}
        event = work.journal.did("object.publish", of=intent, object=facts, more=more)
        size = in_words(manifest.size_bytes)
        work.journal.tell(f"signed {item.name}: {size} at {item.uri}, by {signer.ref}")
        return reference(
            name=item.name,
            uri=item.uri,
            manifest=manifest,
            size_bytes=manifest.size_bytes,
            signed_by=[signer.ref.name],
            event=event,
            version=state[0][1] if state and not manifest.is_directory else "",
        )


def state_of(store: ObjectStore, uri: str) -> State:
    """What lies at an address now: the version of each file, the keys of a data set left out."""
    try:
        with pin_artifact(store, uri) as artifact:
            if not artifact.is_directory:
                return (("", artifact.version),)

            def version_of(name: str) -> tuple[str, str]:
                with artifact.open(name) as pinned:
                    return name, pinned.version

            return tuple(several(version_of, artifact.names(), at_once=artifact.files_at_once))
    except FileNotFoundError:
        return None


def _told(state: State) -> str:
    """A state as it is noted: as short for a hundred thousand files as for one."""
    if state is None:
        return NOTHING
    text = "".join(f"{len(part)}:{part}" for file in state for part in file)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_sealed(store: ObjectStore, item: Input) -> bool:
    """Whether every file of it begins as a sealed one does."""
    try:
        with pin_artifact(store, item.uri) as artifact:
            names = artifact.names()
            if not names:
                raise FormatError(f"{item.name}: {item.uri} is an empty directory; expected files")

            def begins_so(name: str) -> bool:
                with artifact.open(name) as pinned:
                    return pinned.read_at(0, len(MAGIC)) == MAGIC

            return all(several(begins_so, names, at_once=artifact.files_at_once))
    except FileNotFoundError as error:
        raise nothing_there(item, "an object") from error


def _check_sealed(
    store: ObjectStore, item: Output, manifest: Manifest, wrappers: list[KeyWrapper]
) -> None:
    """Require what readers will: sealed, made for this address, and open to this key.

    Without a key: a job that sealed otherwise than it says is found by the first reader.
    """
    for entry in manifest.entries:
        uri = store.child(item.uri, entry.path) if entry.path else item.uri
        if entry.core_id is None:
            raise FormatError(
                f"{item.name}: {uri} is plain, and this write is to be sealed; have the job seal "
                "it, or say Writes(…, sealed=False) if plain data are meant",
                why="not_sealed",
            )
        with store.open(uri) as pinned, naming(uri):
            header = read_sealed_header(pinned)
            check_context(header.core.context, {"object": uri, **item.context})
            slots = list(header.slots)
        for slot in header.slots:
            if slot.type == TYPE_DATASET_KEY and entry.path:
                with store.open(store.child(item.uri, dataset_key_name(slot.id))) as pinned:
                    slots += read_sealed_header(pinned).slots
        if not any(find_slot(slots, each.slot_type, each.slot_id) for each in wrappers):
            names = ", ".join(each.slot_id for each in wrappers)
            raise PolicyError(
                f"{item.name}: {uri} is sealed for others than {names}; have the job seal it for "
                "the key of this write",
                why="key_not_allowed",
            )
