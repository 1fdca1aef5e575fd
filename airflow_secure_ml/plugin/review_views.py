"""Turn reviews into what their pages show; who somebody is stays hidden unless it was asked for.

Pure but for the log that notes are read from. Every text is made visible here and escaped by the
templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.plugin.views import When, when
from airflow_secure_ml.plugin.wording import visible
from airflow_secure_ml.services.report_figures import stamp
from airflow_secure_ml.services.report_html import period_of
from airflow_secure_ml.services.reviewing import (
    MAX_LATE,
    Grown,
    Note,
    Review,
    grown_since,
    sign_off_of,
)

MAX_NOTE_CHARS = 2000
ERASED = "erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownNote:
    """A note: when, by whom, its text, and the event it is about (empty: the whole review)."""

    when: When
    who: str
    text: str
    event: str
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a review stands: a mark, and what was found of the log since it was signed off."""

    tone: str
    icon: str
    word: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A review as a row and a page show it.

    Attributes:
        name: The event that assigned it.
        period: Its first and last day, or moments where it does not begin and end with days.
        after: Its begin as a filter takes it.
        before: Its end.
        who: Whose it is.
        is_mine: Whether that is the reader.
        asked: What was asked for, when and by whom.
        notes: What was written since.
        signed: The sign-off's note; None: it is open.
        size: How many events the sign-off covers; empty: it is open.
        root: Their root, hex.
        state: How it stands.
    """

    name: str
    period: str
    after: str
    before: str
    who: str
    is_mine: bool
    asked: ShownNote
    notes: tuple[ShownNote, ...]
    signed: ShownNote | None
    size: str
    root: str
    state: State


class ReviewViews:
    """Makes views for one reader and one request.

    Args:
        log: Where notes and names lie.
        user: The reader.
        named: Whether names may be shown: that this was asked for is on record.
    """

    def __init__(self, log: AuditReader, user: str, *, named: bool) -> None:
        self._log, self._user, self._named = log, user, named
        # One person has one hash a process, so there are few.
        self._reveal = cache(log.reveal)

    def show(self, review: Review, newest: Checkpoint | None, *, compares: bool = True) -> Shown:
        """A review.

        Args:
            review: The review.
            newest: The newest checkpoint that holds.
            compares: Whether a sign-off is held against the log; it reads some hashes.
        """
        signed = sign_off_of(review, self._reveal)
        grown = grown_since(self._log, review, signed, newest) if signed and compares else None
        return Shown(
            name=review.name,
            period=period_of(review.from_ms, review.until_ms),
            after=stamp(review.from_ms),
            before=stamp(review.until_ms),
            who=self._who(review.assignee),
            is_mine=self.is_mine(review),
            asked=self.note(review.asked, review),
            notes=tuple(self.note(note, review) for note in review.notes),
            signed=None if signed is None else self.note(signed.note, review),
            size="" if signed is None else f"{signed.size:,}",
            root="" if signed is None else visible(signed.root),
            state=_state(signed is not None, grown),
        )

    def is_mine(self, review: Review) -> bool:
        """Whether the review was given to the reader."""
        return self._reveal(review.assignee) == self._user

    def is_open(self, review: Review) -> bool:
        """Whether nobody who may has signed it off."""
        return sign_off_of(review, self._reveal) is None

    def note(self, note: Note, review: Review | None) -> ShownNote:
        """A note."""
        text = self._reveal(note.text) if note.text else ""
        is_whole = review is not None and note.of in ("", review.name)
        return ShownNote(
            when=when(note.time_ms),
            who=self._who(note.by),
            text=ERASED if text is None else visible_lines(text),
            event=note.event,
            of="" if is_whole else note.of,
        )

    def _who(self, h: str) -> str:
        if not h:
            return "nobody says who"
        name = self._reveal(h)
        if name is None:
            return ERASED
        if name == self._user:
            return "you"
        return visible(name) if self._named else "somebody else"


def visible_lines(text: str) -> str:
    """A note as it may be shown; its lines stay lines."""
    cut = text[: 2 * MAX_NOTE_CHARS].replace("\r\n", "\n")
    return "\n".join(visible(line, limit=2 * MAX_NOTE_CHARS) for line in cut.split("\n"))


def _state(is_signed: bool, grown: Grown | None) -> State:
    if not is_signed:
        return State(tone="quiet", icon="hollow", word="open", text="not signed off yet")
    if grown is None:
        return State(tone="plain", icon="check", word="signed off", text="open it to compare")
    if grown.by is None:
        return State(tone="bad", icon="stop", word="does not hold", text=grown.problem)
    more = f"grown by {grown.by:,} since" if grown.by else "nothing added since"
    if not grown.late:
        return State(tone="good", icon="check", word="signed off", text=f"same log, {more}")
    count = f"{grown.late:,} or more" if grown.late == MAX_LATE else f"{grown.late:,}"
    text = f"same log, {more}; {count} events of the period came in after it was signed off"
    return State(tone="look", icon="warn", word="signed off", text=text)
