"""Reviews as the log tells them: who is to look at which period, what they noted, what they signed.

Nothing is kept beside the log, and what a task says of a review is not believed. A sign-off names
a checkpoint's size and root; whether the log still extends that tree is derived from its hashes,
not believed.

Source: PAGES, Alerts, Reports, Export; RFC 9162, 2.1.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.event import is_hidden
from airflow_secure_ml.core.audit.event_fields import END_MS, is_of_a_task, name_of, number, part
from airflow_secure_ml.core.audit.ports import ProvableStore
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import check_consistency, consistency_proof
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.errors import AuditLogError

# Of all reviews' events together; what is older than the newest so many is not shown.
MAX_EVENTS = 2000
MAX_LATE = 1000
_PAGE = 1000
_ROOT_HEX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a reviewer wrote.

    Attributes:
        event: The name of the event that says so.
        of: The name of the event it is about; a review's own for one about the whole of it.
        time_ms: When, ms since 1970 UTC.
        by: Hash of who wrote it; empty: the event does not say.
        text: Hash of what was written; empty: nothing was.
    """

    event: str
    of: str
    time_ms: int
    by: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """The end of a review.

    Attributes:
        note: When, who, and what was written with it.
        size: Number of leaves of the checkpoint that was looked at.
        root: Their root, hex.
        signer: Whose checkpoint it was: the log's name.
        index: The leaf that says so.
    """

    note: Note
    size: int
    root: str
    signer: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A period that somebody is to look at.

    Attributes:
        name: The name of the event that assigned it.
        from_ms: Where the period begins, ms since 1970 UTC.
        until_ms: Where it ends; the first moment after it.
        asked: When, by whom, and what to look at.
        assignee: Hash of who is to review it.
        notes: What was written since, oldest first.
        sign_offs: What claims to end it, oldest first; `sign_off_of` tells which one does.
    """

    name: str
    from_ms: int
    until_ms: int
    asked: Note
    assignee: str
    notes: tuple[Note, ...] = ()
    sign_offs: tuple[SignOff, ...] = ()


def reviews(store: AuditStore) -> tuple[list[Review], bool]:
    """Every review, newest first; and whether these are all."""
    leaves: list[Leaf] = []
    bound: tuple[int, int] | None = None
    query = EventQuery(acts=("review.",))
    while len(leaves) < MAX_EVENTS:
        found = store.page(query, older_than=bound, limit=_PAGE)
        leaves += found
        if len(found) < _PAGE:
            return reviews_in(reversed(leaves)), True
        bound = (number(found[-1].event.get("time")), found[-1].index)
    return reviews_in(reversed(leaves)), False


def reviews_in(leaves: Iterable[Leaf]) -> list[Review]:
    """Reviews from their events.

    Args:
        leaves: Of `review.assign`, `review.note`, `review.sign`, oldest first; others are passed
            over, and so are a task's, and those that a changed log holds in another shape.

    Returns:
        Newest first.
    """
    found: dict[str, Review] = {}
    for leaf in leaves:
        event = leaf.event
        if is_of_a_task(event):
            continue
        act, more = event.get("act"), part(event, "more")
        if act == "review.assign":
            _assigned(found, event, more)
        elif act == "review.note":
            _noted(found, event, more)
        elif act == "review.sign":
            _signed(found, leaf, more)
    return sorted(found.values(), key=lambda review: review.asked.time_ms, reverse=True)


def _assigned(found: dict[str, Review], event: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    begin, end = number(more.get("from_ms"), -1), number(more.get("until_ms"), -1)
    assignee = _hash(more.get("assignee"))
    if 0 <= begin < end < END_MS and assignee:
        note = _note(event, more)
        found[note.event] = Review(
            name=note.event, from_ms=begin, until_ms=end, asked=note, assignee=assignee
        )


def _noted(found: dict[str, Review], event: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    note = _note(event, more)
    name = str(more.get("review", note.of))
    if name in found:
        found[name] = replace(found[name], notes=(*found[name].notes, note))


def _signed(found: dict[str, Review], leaf: Leaf, more: Mapping[str, Any]) -> None:
    note = _note(leaf.event, more)
    review = found.get(note.of)
    size, root = more.get("size"), more.get("root")
    if review is None:
        return
    if isinstance(size, int) and size >= 0 and isinstance(root, str) and len(root) == _ROOT_HEX:
        signed = SignOff(
            note=note, size=size, root=root, signer=str(more.get("signer", "")), index=leaf.index
        )
        found[note.of] = replace(review, sign_offs=(*review.sign_offs, signed))


def _note(event: Mapping[str, Any], more: Mapping[str, Any]) -> Note:
    return Note(
        event=name_of(event),
        of=str(event.get("of", "")),
        time_ms=number(event.get("time")),
        by=_hash(event.get("by")),
        text=_hash(more.get("note")),
    )


def _hash(value: object) -> str:
    return str(value["h"]) if isinstance(value, Mapping) and is_hidden(value) else ""


def sign_off_of(review: Review, reveal: Callable[[str], str | None]) -> SignOff | None:
    """The first sign-off that the review's assignee made; None: it is open.

    Anybody who can write to the log may claim one. Where the assignee was erased nobody can tell
    them apart any more, and the first counts.

    Args:
        review: The review.
        reveal: Gives the value behind a hash; None: erased.
    """
    who = reveal(review.assignee)
    for signed in review.sign_offs:
        if who is None or (signed.note.by and reveal(signed.note.by) == who):
            return signed
    return None


def notes_on(event: str, all_reviews: Sequence[Review]) -> list[Note]:
    """The notes that reviewers wrote on one event, oldest first."""
    return [
        note
        for review in reversed(all_reviews)
        for note in review.notes
        if note.of == event and note.of != review.name
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What became of the log since a sign-off.

    Attributes:
        by: How many leaves were added; None: it is not the same log any more.
        problem: Why not, in words; empty: it is.
        late: How many of the period's events were taken in after the sign-off, counted no further
            than `MAX_LATE`.
    """

    by: int | None
    problem: str = ""
    late: int = 0


def grown_since(
    log: ProvableStore, review: Review, signed: SignOff, newest: Checkpoint | None
) -> Grown:
    """Hold a sign-off against the log: does its newest checkpoint extend what was signed off?

    Args:
        log: The log.
        review: What was signed off.
        signed: The sign-off.
        newest: The newest checkpoint, its signature checked; None: none holds.
    """
    if newest is None:
        return Grown(by=None, problem="no checkpoint holds now, so nothing can be told")
    if newest.size < signed.size:
        return Grown(
            by=None,
            problem=f"the log was cut: its newest checkpoint covers {newest.size:,} events",
        )
    node = node_reader(log.leaf_hashes, log.tile)
    try:
        proof = consistency_proof(signed.size, newest.size, node)
        check_consistency(signed.size, bytes.fromhex(signed.root), newest.size, newest.root, proof)
    except (AuditLogError, ValueError):
        return Grown(
            by=None,
            problem=f"another history: the log's first {signed.size:,} events are not those "
            "that were signed off",
        )
    late = EventQuery(from_ms=review.from_ms, until_ms=review.until_ms, above_index=signed.size - 1)
    return Grown(by=newest.size - signed.size, late=log.count(late, at_most=MAX_LATE))
