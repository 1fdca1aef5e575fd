"""Objects: which there are, the life of one, and what was made from what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Response

from airflow_secure_ml.core.audit.event_fields import name_of
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.plugin import objects_view
from airflow_secure_ml.plugin.access import Scope, ScopeDep
from airflow_secure_ml.plugin.addresses import events_href
from airflow_secure_ml.plugin.lineage_view import GraphView, draw, short_digest
from airflow_secure_ml.plugin.lookup import position_of
from airflow_secure_ml.plugin.period import Period, parse_period
from airflow_secure_ml.plugin.rendering import href, page
from airflow_secure_ml.plugin.trail import Trail, TrailDep
from airflow_secure_ml.plugin.views import Row, unplaced
from airflow_secure_ml.plugin.wording import last_part, number_of, visible
from airflow_secure_ml.services.lineage import Limits, declaring, trace
from airflow_secure_ml.services.works import READS, Version, touches_in, version_of

PAGE_ROWS = 50
# Events that tell of an address's versions; older ones are under Events.
LIFE_ROWS = 200
MAX_URI = 4096
# The picture on an object's own page: its neighbours.
NEAR = Limits(steps=2, nodes=36, fan=6)
# Addresses that a part of one is looked for in.
ADDRESSES = 5000

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """An object in the list: its address, its name, how many events, and the newest."""

    uri: str
    name: str
    href: str
    count: str
    newest: Row


@router.get("/objects")
def objects(scope: ScopeDep, trail: TrailDep, q: str = "") -> Response:
    """The objects that events name, those with most events first."""
    q = q.strip()[:MAX_URI]
    found, is_exact = _found(scope, trail, q)
    rows = [_listed(scope, trail, uri, n, is_exact=is_exact) for uri, n in found[:PAGE_ROWS]]
    return page(
        "objects",
        "Objects",
        whole=scope.whole,
        q=q,
        rows=[one for one in rows if one is not None],
        has_more=len(found) > PAGE_ROWS or not is_exact,
    )


@router.get("/object")
def object_page(
    scope: ScopeDep,
    trail: TrailDep,
    uri: str = "",
    digest: str = "",
    after: str = "",
    before: str = "",
    older: str = "",
) -> Response:
    """One object: who opened it and by which leave, its versions, where it comes from."""
    uri, digest = uri[:MAX_URI], digest[:100]
    life = _life(scope, trail, uri, digest)
    chosen = digest or _newest_digest(life)
    period = parse_period(after, before)
    opened, older_href = _accesses(trail, scope, uri, digest, period, older)
    start = Version(uri=uri, digest=chosen)
    return page(
        "object",
        "Objects",
        whole=scope.whole,
        uri=visible(uri, limit=MAX_URI),
        raw_uri=uri,
        digest=digest,
        shown_digest=short_digest(digest) if digest else "",
        label=last_part(uri) or short_digest(digest),
        period=period,
        accesses=opened,
        older_href=older_href,
        versions=objects_view.versions(life, uri, chosen),
        graph=draw(trace(trail.store, [start], dags=scope.dags, limits=NEAR)),
        lineage_href=href("lineage", uri=uri, digest=chosen),
        events_href=events_href(("object", uri)) if uri and life else "",
        event_href=lambda name: href("event", name=name),
        all_href=href("object", uri=uri),
    )


@router.get("/lineage")
def lineage(
    scope: ScopeDep, trail: TrailDep, uri: str = "", digest: str = "", way: str = ""
) -> Response:
    """What an object was made from, and what was made from it, across runs."""
    uri, digest = uri[:MAX_URI], digest[:100]
    life = _life(scope, trail, uri, digest)
    chosen = digest or _newest_digest(life)
    start = Version(uri=uri, digest=chosen)
    found = trace(trail.store, [start], dags=scope.dags, up=way != "down", down=way != "up")
    graph: GraphView = draw(found)
    return page(
        "lineage",
        "Objects",
        whole=scope.whole,
        uri=visible(uri, limit=MAX_URI),
        label=last_part(uri) or short_digest(digest),
        shown_digest=short_digest(chosen),
        graph=graph,
        way=way,
        ways=[
            (label, href("lineage", uri=uri, digest=chosen, way=value), value == way)
            for label, value in (("both", ""), ("made from", "up"), ("made into", "down"))
        ],
        object_href=href("object", uri=uri, digest=digest),
        versions=objects_view.versions(life, uri, chosen),
    )


def _found(scope: Scope, trail: Trail, q: str) -> tuple[list[tuple[str, int]], bool]:
    """Addresses with a part, each with how many events name it; and whether that is all of them."""
    store = trail.store
    values = store.values(scope.limit(EventQuery()), "uri", limit=ADDRESSES)
    if not q:
        return list(values.values), values.is_exact
    part = q.casefold()
    found = [(uri, n) for uri, n in values.values if part in uri.casefold() and uri != q]
    if store.page(_about(scope, q, ""), limit=1):
        count = dict(values.values).get(q, 0)
        found.insert(0, (q, count))
    if not found:
        found = [(uri, 0) for uri in _named_elsewhere(scope, trail, q)]
    return found, values.is_exact


def _named_elsewhere(scope: Scope, trail: Trail, q: str) -> list[str]:
    """Addresses with a part that nobody named lately, or that are plain inputs of a try alone.

    The whole log is searched, which may take a while.
    """
    opened = scope.limit(EventQuery(acts=("object.open", "object.publish"), text=q))
    named = scope.limit(EventQuery(acts=("task.secure",), results=("intent",), text=q))
    events = [leaf.event for query in (opened, named) for leaf in trail.store.page(query)]
    versions = [*map(version_of, events), *(touch.version for touch in touches_in(events))]
    uris = dict.fromkeys(version.uri for version in versions if version is not None)
    return [uri for uri in uris if q.casefold() in uri.casefold()]


def _newest_digest(life: Sequence[Leaf]) -> str:
    done = (version_of(leaf.event) for leaf in life if leaf.event.get("result") == "ok")
    return next((version.digest for version in done if version and version.digest), "")


def _about(scope: Scope, uri: str, digest: str, **more: Any) -> EventQuery:
    return scope.limit(EventQuery(uri=uri or None, digest=digest or None, **more))


def _life(scope: Scope, trail: Trail, uri: str, digest: str) -> list[Leaf]:
    """The newest events of an address, or of a digest whose address is hidden.

    Raises:
        HTTPException: 404: the reader may see none.
    """
    store = trail.store
    if uri or digest:
        found = [
            *store.page(_about(scope, uri, digest, acts=objects_view.LIFE), limit=LIFE_ROWS),
            *store.page(_about(scope, uri, digest, acts=READS), limit=PAGE_ROWS),
        ]
        plain = Version(uri=uri, digest="")
        if found or (uri and not digest and declaring(store, plain, dags=scope.dags, limit=1)):
            return found
    # One answer for "not there" and "not yours": which of the two must not be told.
    raise HTTPException(404, "No event among those that you may read names such an object.")


def _accesses(
    trail: Trail, scope: Scope, uri: str, digest: str, period: Period, older: str
) -> tuple[list[objects_view.Access], str]:
    """A page of who opened an object, and the address of the next one."""
    times = {"from_ms": period.from_ms, "until_ms": period.until_ms}
    query = _about(scope, uri, digest, acts=READS, **times)
    bound = position_of(trail, scope, older)
    leaves = list(trail.store.page(query, older_than=bound, limit=PAGE_ROWS + 1))
    outcomes = [each for each in leaves[:PAGE_ROWS] if each.event.get("phase") != "intent"]
    found = objects_view.accesses(outcomes, trail.store, scope.dags)
    if not leaves and not older:
        found = _plain_accesses(trail, scope, uri, period)
    if len(leaves) <= PAGE_ROWS:
        return found, ""
    name = name_of(leaves[PAGE_ROWS - 1].event)
    return found, href(
        "object", uri=uri, digest=digest, after=period.after, before=period.before, older=name
    )


def _plain_accesses(
    trail: Trail, scope: Scope, uri: str, period: Period
) -> list[objects_view.Access]:
    """Tries that name an address as a plain input."""
    leaves: Sequence[Leaf] = declaring(
        trail.store,
        Version(uri=uri, digest=""),
        dags=scope.dags,
        limit=PAGE_ROWS,
        from_ms=period.from_ms,
        until_ms=period.until_ms,
    )
    return objects_view.accesses(leaves, trail.store, scope.dags)


def _listed(scope: Scope, trail: Trail, uri: str, count: int, *, is_exact: bool) -> _Listed | None:
    newest = trail.store.page(_about(scope, uri, ""), limit=1)
    newest = newest or declaring(trail.store, Version(uri=uri, digest=""), dags=scope.dags, limit=1)
    if not newest:
        return None
    return _Listed(
        uri=visible(uri),
        name=last_part(uri),
        href=href("object", uri=uri),
        count=number_of(count, is_exact=is_exact) if count else "",
        newest=unplaced(newest[0]),
    )
