"""Find the event that an address names, for those who may see it, and say that they looked."""

from __future__ import annotations

from fastapi import HTTPException

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.plugin.wording import fields, time_of

# An event's name has 32 hex digits, a colon and a number.
MAX_NAME_CHARS = 100


def visible_leaf(trail: Trail, scope: Scope, name: str) -> Leaf:
    """The event of that name.

    Raises:
        HTTPException: 404: it is not there, or not for this reader.
    """
    leaf = trail.store.find(name[:MAX_NAME_CHARS])
    # One answer for "not there" and "not yours": which of the two must not be told.
    if leaf is None or not scope.covers(leaf.event):
        raise HTTPException(
            404, f"There is no such event among those that you may read.{_gone(trail, scope)}"
        )
    return leaf


def position(leaf: Leaf) -> tuple[int, int]:
    """Where a page of events goes on: from this one."""
    return (time_of(leaf.event), leaf.index)


def position_of(trail: Trail, scope: Scope, name: str) -> tuple[int, int] | None:
    """Where a page of events goes on; None: no event of that name is for this reader."""
    leaf = trail.store.find(name[:MAX_NAME_CHARS]) if name else None
    return position(leaf) if leaf and scope.covers(leaf.event) else None


def looked(scope: Scope, page: str, query: str = "") -> Fact:
    """That a reader looked at what is personal: on which page, and what they asked for."""
    return Fact(
        act="trail.view",
        phase="seen",
        result="ok",
        by=scope.user,
        more={"page": page, "query": query or None},
    )


def _gone(trail: Trail, scope: Scope) -> str:
    """What a log that was pruned adds to that answer, whatever was asked for."""
    found = trail.store.page(EventQuery(acts=("trail.prune",)), limit=1)
    more = fields(found[0].event, "more") if found else {}
    if "below" not in more:
        return ""
    # How many there were, and where they lie, is for those who may read all of them.
    if not scope.whole:
        return " Older events were pruned."
    archive = f", archived at {more['archive']}" if "archive" in more else ""
    return f" Events below leaf {more['below']} were pruned{archive}."
