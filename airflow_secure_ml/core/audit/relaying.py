"""What goes out after the fact, as values and protocols: witnesses, anchors, time stamps.

The log does not need any of it; it needs the log. Who does the work is in `services`.

Source: AUDIT_TRAIL, What it proves; C2SP tlog-witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        status: The HTTP status.
        body: Its bytes, not more than was asked for.
        retry_after: Its header of that name; empty: it sent none.
    """

    status: int
    body: bytes
    retry_after: str = ""


class Poster(Protocol):
    """Sends one request to one server and brings back whatever it answers."""

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """Send it; a redirect is an answer like any other.

        Raises:
            ServiceUnavailableError: No connection, no answer in time, or one that is too long.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A checkpoint that a witness cosigned; verified before it became this.

    Attributes:
        size: The checkpoint's size.
        witness: The witness's verifier key.
        line: Its signature line, ended by a newline.
        time_s: When, by the witness's clock, seconds since 1970 UTC.
    """

    size: int
    witness: str
    line: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """A checkpoint's note that lies in a store which confirmed to keep it.

    Attributes:
        size: The checkpoint's size.
        uri: Where it lies.
        version: The object's version.
        until_ms: Until when the store keeps it, ms since 1970 UTC.
        time_ms: When that was confirmed, ms since 1970 UTC.
    """

    size: int
    uri: str
    version: str
    until_ms: int
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """A note with a time stamp over it; verified before it became this.

    Attributes:
        size: The checkpoint's size.
        note: The bytes under the stamp, as text.
        response: The time-stamp response, DER.
        time_ms: The time in it, ms since 1970 UTC.
    """

    size: int
    note: str
    response: bytes
    time_ms: int


class AnchorStore(Protocol):
    """A store that keeps notes, whoever wants them gone, until a day."""

    uri: str

    def put(self, name: str, data: bytes) -> Anchored | bytes:
        """Keep a note under a name where none is; what lies there already is returned instead.

        Returns:
            What the store confirmed, read back; `size` 0. Or the bytes of another object.

        Raises:
            ServiceError: It refused, did not answer, or did not confirm the lock.
            ConfigurationError: It cannot be asked.
        """

    def kept(self) -> Sequence[str]:
        """The text of notes that lie there, also of those that somebody marked as deleted.

        Raises:
            FormatError: What lies there is no text, too long, or too many objects.
            ServiceError: It refused, or did not answer.
        """


class Stamper(Protocol):
    """Has one authority stamp the time on bytes, and checks stamps."""

    url: str

    def stamp(self, data: bytes) -> tuple[bytes, int]:
        """Ask for a stamp over the SHA-256 of bytes.

        Returns:
            The response, DER, verified; the time in it, ms since 1970 UTC.

        Raises:
            ServiceUnavailableError: It did not answer.
            ServiceRefusedError: It gave no stamp.
            SignatureError: The stamp does not hold.
            FormatError: The answer is no response.
            ConfigurationError: No certificate to trust can be read, or the extra is missing.
        """

    def check(self, response: bytes, data: bytes) -> int:
        """The time in a stamp over bytes, ms since 1970 UTC; errors as in `stamp`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What keeps a job from its work.

    Attributes:
        job: The job's name.
        because: What happened last.
        since_ms: Since when, ms since 1970 UTC.
        told: The reason's code of the alert that was raised for it; empty: none was.
    """

    job: str
    because: str
    since_ms: int
    told: str = ""


class RelayBook(Protocol):
    """What the relay remembers; safe from many threads and processes."""

    def cosigned(self, size: int) -> Sequence[Cosigned]:
        """Every cosignature over the checkpoint of that size, by witness."""

    def last_cosigned(self, witness: str) -> Cosigned | None:
        """A witness's newest, by size."""

    def keep_cosigned(self, found: Cosigned) -> None:
        """Keep one, durably."""

    def anchors(self, limit: int) -> Sequence[Anchored]:
        """The newest anchors, newest first."""

    def keep_anchored(self, found: Anchored) -> None:
        """Keep one, durably."""

    def stamps(self, limit: int) -> Sequence[Stamped]:
        """The newest stamps, newest first."""

    def keep_stamped(self, found: Stamped) -> None:
        """Keep one, durably."""

    def cursor(self, job: str) -> str | None:
        """What a job remembers of itself; None: nothing yet."""

    def move(self, job: str, cursor: str) -> None:
        """Remember it, durably."""

    def troubles(self) -> Sequence[Trouble]:
        """What keeps jobs from their work now."""

    def set_trouble(self, trouble: Trouble) -> None:
        """Remember a job's trouble in the place of an older one."""

    def end_trouble(self, job: str) -> None:
        """Forget a job's trouble, if it has one."""
