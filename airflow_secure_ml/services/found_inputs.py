"""Find out what lies at an input's address and whose statement may stand for it.

No key is used and no byte is opened: what is found stays pinned for who opens it
(`services.secured_inputs`), moves it or lends its keys.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.errors import FormatError, IntegrityError, SecureMLError
from airflow_secure_ml.services.artifact import Artifact, pin_artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.parquet_inputs import (
    check_declared,
    is_column_sealed,
)
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.sealed_header import ReaderKey
from airflow_secure_ml.services.signing import Candidates, Demand, statements_about


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInput:
    """An input after its statement was found and before it was opened."""

    item: Input
    store: ObjectStore
    artifact: Artifact
    sealed: bool
    column_sealed: bool
    candidates: Candidates | None
    object: str
    keys: list[ReaderKey]


def find_input(work: Work, item: Input, held: contextlib.ExitStack) -> FoundInput:
    """Pin what lies there and find out whose statement may stand for it, without a key."""
    store, journal = work.desk.store(item.uri), work.journal
    try:
        artifact = held.enter_context(pin_artifact(store, item.uri))
        first = _first_bytes(artifact, item)
        column_sealed = is_column_sealed(first)
        sealed = first == MAGIC or column_sealed
        ask_rules(work, item, sealed)
        if item.sealed and not sealed:
            raise FormatError(
                f"{item.name}: expected a sealed file at {item.uri}, found a plain one; seal it, "
                "or say Reads(…, sealed=False) if plain data is meant",
                why="not_sealed",
            )
        check_declared(item, column_sealed)
        must_be_signed = sealed or item.pin is not None or _named_signers(work, item) is not None
        candidates = (
            statements_about(store, artifact, demand_for(work, item)) if must_be_signed else None
        )
        keys = _reader_keys(work, store, artifact) if sealed and not column_sealed else []
    except FileNotFoundError as error:
        refusal = nothing_there(item, "an object")
        journal.refused("object.verify", refusal, object=object_facts(item))
        raise refusal from error
    except SecureMLError as error:
        journal.refused("object.verify", error, object=object_facts(item), more=pin_facts(item))
        raise
    return FoundInput(
        item=item,
        store=store,
        artifact=artifact,
        sealed=sealed,
        column_sealed=column_sealed,
        candidates=candidates,
        object=_original(work, item),
        keys=keys,
    )


def ask_rules(work: Work, item: Input, sealed: bool) -> None:
    """Return if the rules let this task read it; recorded. PolicyError or FormatError if not."""
    if work.desk.rules is None:
        return
    decision = work.desk.rules.decide_read(
        item.uri, dag_id=work.plan.dag_id or None, sealed=sealed, key=None, today=work.today
    )
    work.obey(decision, "read", item.name)


def _original(work: Work, item: Input) -> str:
    """The address that an object was made for: a rule may call this place a copy of another."""
    rules = work.desk.rules
    return (rules.same_as(item.uri) if rules is not None else None) or item.uri


def demand_for(work: Work, item: Input) -> Demand:
    """What a reader demands of the statements about an input."""
    desk, pin = work.desk, item.pin
    produced_by = None
    if pin is not None and pin.dag_id is not None and pin.run_id is not None:
        produced_by = (pin.dag_id, pin.run_id)
    return Demand(
        verifiers=desk.keys.verifiers(_named_signers(work, item) or desk.trusted_signers),
        digest=None if pin is None else pin.digest,
        context=item.context,
        same_as=_original(work, item),
        produced_by=produced_by,
    )


def _named_signers(work: Work, item: Input) -> tuple[str, ...] | None:
    """Whom the task or a rule names; None: nobody does, and the trusted signers count."""
    rules = work.desk.rules
    return item.signed_by or (rules.signers_for_read(item.uri) if rules is not None else None)


def _first_bytes(artifact: Artifact, item: Input) -> bytes:
    """How what lies there begins, which tells whether it is sealed; a directory: its first file."""
    first = next(iter(artifact.names()), None)
    if first is None:
        raise FormatError(f"{item.name}: {item.uri} is an empty directory; expected files")
    with artifact.open(first) as pinned:
        return pinned.read_at(0, len(MAGIC))


def _reader_keys(work: Work, store: ObjectStore, artifact: Artifact) -> list[ReaderKey]:
    """The keys that may open it, in order; a data set's own lie below its root."""
    desk = work.desk
    only = None if desk.rules is None else desk.rules.key_for_write(artifact.uri)
    # Whatever is sealed was verified before it is opened.
    keys = opening_keys(desk.keys, None if only is None else {only})
    root = artifact.uri if artifact.is_directory else artifact.uri.rpartition("/")[0]
    return [*keys, DataSetRoot(store, root, keys=keys, state_of=desk.keys.state_of)]


def nothing_there(item: Input, what: str) -> FormatError:
    """The refusal to read where nothing is; raised from the FileNotFoundError."""
    return FormatError(
        f"{item.name}: expected {what} at {item.uri}, found nothing; run the task that writes it "
        "first",
        why="not_sealed",
    )


def object_facts(item: Input) -> dict[str, object]:
    """An input as events name it before it was read."""
    return {"name": item.name, "uri": item.uri}


def pin_facts(item: Input) -> dict[str, object]:
    """What an input must be, as events say it."""
    if item.pin is None:
        return {}
    return {"pinned_by": item.pin.by, "expected": item.pin.digest}


def as_refusal(item: Input, error: SecureMLError | FileNotFoundError) -> SecureMLError:
    if isinstance(error, SecureMLError):
        return error
    return IntegrityError(f"{item.name}: {item.uri} was removed while it was read; read it again")
