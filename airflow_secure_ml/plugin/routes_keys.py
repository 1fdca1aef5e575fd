"""Keys: which there are, the runs that used a version of one, and leased credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Response

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.plugin import keys_view
from airflow_secure_ml.plugin.access import Scope, ScopeDep
from airflow_secure_ml.plugin.addresses import events_href
from airflow_secure_ml.plugin.lookup import position, position_of
from airflow_secure_ml.plugin.period import days_before, parse_period
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep, now_ms
from airflow_secure_ml.plugin.views import Row, unplaced, when
from airflow_secure_ml.plugin.wording import fields, number_of, plain, time_of, up_to, visible
from airflow_secure_ml.services.lease_lives import ALIVE, ENDLESS, REVOKED, UNNAMED, lease_lives

KEY_ROWS = 50
# Events that are looked at for one page of runs.
USE_EVENTS = 2000
STEP = 500
ACT_ROWS = 1000
MAX_NAME = 1024
COUNTED = 1000
GRANTS = 500
LEASE_DAYS = 30
# Keys are numbered from one: those that nobody rotated here are found by asking.
MAX_VERSIONS = 40

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A key in the list: its name, where it is, how many events, and the newest."""

    name: str
    system: str
    href: str
    count: str
    newest: Row


@router.get("/keys")
def keys(scope: ScopeDep, trail: TrailDep) -> Response:
    """The keys that events name, those with most events first."""
    values = trail.store.values(scope.limit(EventQuery()), "key", limit=KEY_ROWS + 1)
    rows = []
    for name, count in values.values[:KEY_ROWS]:
        newest = trail.store.page(scope.limit(EventQuery(key=name)), limit=1)
        if newest:
            rows.append(
                _Listed(
                    name=visible(name),
                    system=plain(fields(newest[0].event, "key").get("system", "")),
                    href=href("key", name=name),
                    count=number_of(count, is_exact=values.is_exact),
                    newest=unplaced(newest[0]),
                )
            )
    return page(
        "keys",
        "Keys",
        whole=scope.whole,
        rows=rows,
        has_more=len(values.values) > KEY_ROWS or not values.is_exact,
    )


@router.get("/key")
def key(
    scope: ScopeDep, trail: TrailDep, name: str = "", version: str = "", older: str = ""
) -> Response:
    """One key: its versions, and the runs that used one of them."""
    name, version = name[:MAX_NAME], version[:100]
    newest = trail.store.page(scope.limit(EventQuery(key=name)), limit=STEP) if name else []
    if not newest:
        raise HTTPException(404, "No event among those that you may read names such a key.")
    acts = _acts(trail, scope, name)
    uses, older_href = _uses(trail, scope, name, version, older, newest)
    return page(
        "key",
        "Keys",
        whole=scope.whole,
        label=visible(name),
        system=plain(fields(newest[0].event, "key").get("system", "")),
        key_version=visible(version),
        versions=_versions(trail, scope, name, version, newest, acts),
        all_href=href("key", name=name),
        uses=uses,
        older_href=older_href,
        is_first=not older,
        acts=[unplaced(leaf) for leaf in acts if _is_told(leaf)],
        events_href=events_href(("key", name), ("version", version)),
        event_href=lambda event: href("event", name=event),
    )


@router.get("/leases")
def leases(
    scope: ScopeDep,
    trail: TrailDep,
    after: str = "",
    before: str = "",
    show: str = "",
    older: str = "",
) -> Response:
    """Leased credentials: which were not revoked, and whether any may still be alive."""
    now = now_ms()
    period = parse_period(after or days_before(now, LEASE_DAYS), before)
    query = scope.limit(EventQuery(from_ms=period.from_ms, until_ms=period.until_ms))
    found = lease_lives(
        trail.store, query, now_ms=now, older_than=position_of(trail, scope, older), limit=GRANTS
    )
    counts = {state: sum(life.state == state for life in found.lives) for state in _STATES}
    left = [life for life in found.lives if life.state not in (REVOKED, UNNAMED)]
    # What may still be alive stands first.
    left.sort(key=lambda life: life.state not in (ALIVE, ENDLESS))
    shown = found.lives if show == "all" else left
    last = found.lives[-1].event if found.older_than else None
    same: dict[str, str] = {"after": period.after, "before": period.before, "show": show}
    return page(
        "leases",
        "Keys",
        whole=scope.whole,
        period=period,
        counts=counts,
        looked_at=found.looked_at,
        alive=counts[ALIVE] + counts[ENDLESS],
        left=len(left),
        rows=[keys_view.lease_row(life) for life in shown],
        show=show,
        all_href=href("leases", **(same | {"show": "all"})),
        left_href=href("leases", **(same | {"show": ""})),
        older_href=href("leases", **same, older=name_of(last)) if last else "",
        until=when(time_of(last)) if last else None,
    )


_STATES = tuple(keys_view.LEASE_MARKS)


def _acts(trail: Trail, scope: Scope, name: str) -> list[Leaf]:
    """What was done with a key itself, the newest first: among the newest such deeds of all keys.

    Asked for by name, a store may look through every use of the key.
    """
    found = trail.store.page(scope.limit(EventQuery(acts=("key.",))), limit=ACT_ROWS)
    return [leaf for leaf in found if fields(leaf.event, "key").get("name") == name]


def _is_told(leaf: Leaf) -> bool:
    return leaf.event.get("phase") != "intent"


def _uses(
    trail: Trail, scope: Scope, name: str, version: str, older: str, newest: Sequence[Leaf]
) -> tuple[list[keys_view.RunUse], str]:
    """The runs among the newest events, and the address to go on from.

    Args:
        trail: The trail.
        scope: What the reader may see.
        name: The key.
        version: One version; empty: all.
        older: The event to go on below; empty: from the newest.
        newest: The key's newest events, as many as one step has.
    """
    query = scope.limit(EventQuery(key=name, version=version or None))
    bound = position_of(trail, scope, older)
    is_read = bound is None and not version
    found = newest if is_read else trail.store.page(query, older_than=bound, limit=STEP)
    leaves = [*found]
    while len(found) == STEP and len(leaves) < USE_EVENTS:
        found = trail.store.page(query, older_than=position(found[-1]), limit=STEP)
        leaves += found
    uses = keys_view.run_uses(leaves, name, version)
    if len(found) < STEP:
        return uses, ""
    return uses, href("key", name=name, version=version, older=name_of(leaves[-1].event))


def _versions(
    trail: Trail,
    scope: Scope,
    name: str,
    chosen: str,
    newest: Sequence[Leaf],
    acts: Sequence[Leaf],
) -> list[keys_view.KeyVersionRow]:
    known = keys_view.versions_in([*newest, *acts, *_numbered(trail, scope, name, newest, acts)])
    return [_version(trail, scope, name, one, chosen, acts) for one in known[:MAX_VERSIONS]]


def _numbered(
    trail: Trail, scope: Scope, name: str, newest: Sequence[Leaf], acts: Sequence[Leaf]
) -> list[Leaf]:
    """An event of each lower version, if versions are numbers."""
    highest = next(iter(keys_view.versions_in([*newest, *acts])), "")
    if not (highest.isascii() and highest.isdecimal() and len(highest) < 9):
        return []
    lowest = max(int(highest) - MAX_VERSIONS, 0)
    found: list[Leaf] = []
    for number in range(lowest, int(highest)):
        query = scope.limit(EventQuery(key=name, version=str(number)))
        found.extend(trail.store.page(query, limit=1))
    return found


def _version(
    trail: Trail, scope: Scope, name: str, version: str, chosen: str, acts: Sequence[Leaf]
) -> keys_view.KeyVersionRow:
    query = scope.limit(EventQuery(key=name, version=version))
    span = trail.store.span(query)
    count = trail.store.count(query, at_most=COUNTED + 1)
    state, event = keys_view.state_of(acts, version)
    return keys_view.KeyVersionRow(
        version=visible(version),
        href=href("key", name=name, version=version),
        state=state,
        state_href=href("event", name=event) if event else "",
        first=when(span[0]) if span else None,
        last=when(span[1]) if span else None,
        count=up_to(count, COUNTED),
        is_chosen=version == chosen,
    )
