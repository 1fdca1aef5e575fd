"""A use of a key or a credential, as the log of the system that holds it tells of it."""

from __future__ import annotations

from dataclasses import dataclass

USED, REFUSED, UNANSWERED = "used", "refused", "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideUse:
    """One request to a key system.

    Attributes:
        time_ms: When it was answered, ms since 1970 UTC by that system's clock.
        kind: What was done, in that system's word: `decrypt`, `grant`, `read`.
        about: Of which key (`mount/name`) or path; empty: the log does not tell.
        state: `used`, `refused` (nothing came of it), or `unanswered` (its answer is not logged).
        units: How many were done at once.
        version: The key's version; empty: not told.
        lease: `sha256:` of the lease's id; empty: none, or hidden.
        hashed: The lease's id as the log hides it.
        names_lease: Whether `lease` and `hashed` are of one id.
        request: The request's id.
        accessor: Names the token, as the log hides it.
        display_name: The token's name.
        remote: Where the request came from.
    """

    time_ms: int
    kind: str
    about: str
    state: str = USED
    units: int = 1
    version: str = ""
    lease: str = ""
    hashed: str = ""
    request: str = ""
    accessor: str = ""
    display_name: str = ""
    remote: str = ""
    names_lease: bool = False
