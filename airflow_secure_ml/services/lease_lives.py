"""Say of leased credentials whether they were revoked, and whether any may still be alive.

What the trail tells is an upper bound: a source may end a lease earlier than it said, and never
later. A lease of which nobody recorded for how long it lives is said to have no known end.

Source: PAGES, the ten questions (4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of, number, part, text
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore

REVOKED, EXPIRED, ALIVE, ENDLESS, UNNAMED = "revoked", "expired", "alive", "endless", "unnamed"
ACTS = ("lease.grant", "lease.renew", "lease.revoke")
# Events of one lease that are looked at: a lease may be renewed for weeks.
MAX_OF_ONE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLife:
    """A lease from its grant to its end.

    Attributes:
        event: The grant.
        state: REVOKED; EXPIRED: not revoked, and over by itself; ALIVE: not revoked, and not over;
            ENDLESS: not revoked, and nobody told when it ends; UNNAMED: a credential without a
            lease, which nothing can revoke.
        ends_ms: When it was revoked, or ends by itself; None: not known.
        ended: The event that revoked it; empty: none.
        failed: The newest event that says it could not be revoked; empty: none.
    """

    event: Mapping[str, Any]
    state: str
    ends_ms: int | None
    ended: str
    failed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """The leases of some time.

    Attributes:
        lives: The newest first.
        looked_at: How many grants that are.
        older_than: (time, index) to go on from; None: that was all.
    """

    lives: tuple[LeaseLife, ...]
    looked_at: int
    older_than: tuple[int, int] | None


def lease_lives(
    store: AuditStore,
    query: EventQuery,
    *,
    now_ms: int,
    older_than: tuple[int, int] | None = None,
    limit: int = 500,
) -> Leases:
    """The leases granted in some time, the newest first, each with its end.

    Args:
        store: The log.
        query: Whose leases, and when they were granted; `acts` and `results` do not count.
        now_ms: The wall clock, ms since 1970 UTC.
        older_than: Go on below this grant.
        limit: How many grants are looked at.
    """
    granted = replace(query, acts=("lease.grant",), results=("ok",))
    found = store.page(granted, older_than=older_than, limit=limit)
    later = _later(store, query, found)
    lives = []
    for leaf in found:
        digest = text(part(leaf.event, "lease").get("id"))
        events = later.get(digest, ())
        if digest and not any(_is_end(event) for event in events):
            # Its end may lie far behind the others', or be told by a clock that goes wrong.
            own = EventQuery(dags=query.dags, lease=digest, acts=ACTS)
            events = [each.event for each in store.page(own, limit=MAX_OF_ONE)]
        lives.append(life_of(leaf.event, events, now_ms=now_ms))
    last = found[-1] if len(found) == limit else None
    bound = None if last is None else (number(last.event.get("time")), last.index)
    return Leases(lives=tuple(lives), looked_at=len(found), older_than=bound)


def life_of(
    grant: Mapping[str, Any], events: Iterable[Mapping[str, Any]], *, now_ms: int
) -> LeaseLife:
    """What became of a lease.

    Args:
        grant: The event that says it was granted.
        events: Others about the same lease, in any order.
        now_ms: The wall clock, ms since 1970 UTC.
    """
    lease, events = part(grant, "lease"), list(events)
    if not text(lease.get("id")):
        return LeaseLife(event=grant, state=UNNAMED, ends_ms=None, ended="", failed="")
    ends = sorted((event for event in events if _is_end(event)), key=_time)
    failures = [
        event
        for event in events
        if event.get("act") == "lease.revoke" and event.get("result") in ("refused", "failed")
    ]
    failed = name_of(max(failures, key=_time)) if failures else ""
    if ends:
        return LeaseLife(
            event=grant,
            state=REVOKED,
            ends_ms=_time(ends[0]),
            ended=name_of(ends[0]),
            failed=failed,
        )
    ttl_s = lease.get("ttl_s")
    if not isinstance(ttl_s, int):
        return LeaseLife(event=grant, state=ENDLESS, ends_ms=None, ended="", failed=failed)
    renewals = [_time(e) for e in events if e.get("act") == "lease.renew" and _is_ok(e)]
    until = max([_time(grant), *renewals]) + number(ttl_s) * 1000
    state = ALIVE if until > now_ms else EXPIRED
    return LeaseLife(event=grant, state=state, ends_ms=until, ended="", failed=failed)


def _later(
    store: AuditStore, query: EventQuery, grants: Sequence[Leaf]
) -> Mapping[str, list[Mapping[str, Any]]]:
    """Renewals and ends that followed some grants closely, by lease."""
    if not grants:
        return {}
    times = [_time(leaf.event) for leaf in grants]
    # Most leases end with their task, within the hour.
    near = EventQuery(
        dags=query.dags,
        dag=query.dag,
        run=query.run,
        acts=("lease.renew", "lease.revoke"),
        from_ms=min(times),
        until_ms=max(times) + 3_600_000,
    )
    found: dict[str, list[Mapping[str, Any]]] = {}
    for leaf in store.page(near, limit=2 * len(grants)):
        digest = text(part(leaf.event, "lease").get("id"))
        found.setdefault(digest, []).append(leaf.event)
    return found


def _is_ok(event: Mapping[str, Any]) -> bool:
    return event.get("phase") == "outcome" and event.get("result") == "ok"


def _is_end(event: Mapping[str, Any]) -> bool:
    return event.get("act") == "lease.revoke" and _is_ok(event)


def _time(event: Mapping[str, Any]) -> int:
    return number(event.get("time"))
