"""Tell of a key: its versions, and the runs that used one; and of leases, how they ended.

Pure. Every text may hold what a task wrote; `visible` has made it harmless for the eye, templates
escape the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of, number, text
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin.addresses import events_href, run_href
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.sentences import sentence
from airflow_secure_ml.plugin.views import Mark, When, when
from airflow_secure_ml.plugin.wording import duration, fields, plain, visible, where
from airflow_secure_ml.services.lease_lives import (
    ALIVE,
    ENDLESS,
    EXPIRED,
    REVOKED,
    UNNAMED,
    LeaseLife,
)

# What a key did in a run, by activity.
USES = {
    "object.open": "opened",
    "object.seal": "sealed",
    "object.quarantine": "sealed",
    "object.sign": "signed",
    "object.verify": "verified",
    "object.rewrap": "rewrapped",
    "xcom.write": "sealed",
    "xcom.read": "opened",
    "secret.read": "opened",
}
# state: (icon, word, tone)
LEASE_MARKS = {
    REVOKED: ("check", "revoked", "good"),
    EXPIRED: ("clock", "not revoked, over by itself", "look"),
    ALIVE: ("stop", "not revoked, may be alive", "bad"),
    ENDLESS: ("warn", "not revoked, no known end", "bad"),
    UNNAMED: ("dot", "nothing to revoke", "quiet"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUse:
    """A run that used a key.

    Attributes:
        dag: Its DAG; empty: outside of a run.
        uses: What the key did, such as `opened 3, sealed 1`.
        refused: How many uses were refused or failed.
    """

    dag: str
    run: str
    href: str
    events_href: str
    tasks: str
    uses: str
    refused: int
    versions: str
    first: When
    last: When


@dataclass(slots=True)
class _Group:
    """Uses in one run while they are counted."""

    event: Mapping[str, Any]
    tasks: dict[str, None] = field(default_factory=dict)
    versions: dict[str, None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """A leased credential."""

    mark: Mark
    path: str
    event_href: str
    granted: When
    lives: str
    ends: When | None
    ended_href: str
    failed_href: str
    where: str
    run_href: str


def run_uses(leaves: Iterable[Leaf], key: str, version: str) -> list[RunUse]:
    """The runs in which a key was used, those with the newest use first.

    Args:
        leaves: Events that name the key, the newest first.
        key: Its name.
        version: One version; empty: all.
    """
    groups: dict[tuple[str, str], _Group] = {}
    for leaf in leaves:
        event = leaf.event
        verb = USES.get(str(event.get("act")))
        if verb is None or event.get("phase") == "intent":
            continue
        run = fields(event, "run")
        name = text(run.get("dag")), text(run.get("run"))
        group = groups.setdefault(name, _Group(event, last_ms=number(event.get("time"))))
        group.first_ms = number(event.get("time"))
        group.tasks[plain(run.get("task", ""))] = None
        group.versions[plain(fields(event, "key").get("version", ""))] = None
        if event.get("result") == "ok":
            group.counts[verb] = group.counts.get(verb, 0) + 1
        else:
            group.refused += 1
    return [_run_use(*name, group, key, version) for name, group in groups.items()]


def _run_use(dag: str, run: str, group: _Group, key: str, version: str) -> RunUse:
    words = (("dag", dag), ("run", run), ("key", key), ("version", version))
    return RunUse(
        dag=visible(dag),
        run=visible(run),
        href=run_href(dag, run) or href("event", name=name_of(group.event)),
        events_href=events_href(*words) if dag else "",
        tasks=", ".join(task for task in group.tasks if task),
        uses=", ".join(f"{verb} {count:,}" for verb, count in sorted(group.counts.items())),
        refused=group.refused,
        versions=", ".join(one for one in sorted(group.versions) if one),
        first=when(group.first_ms),
        last=when(group.last_ms),
    )


def lease_row(life: LeaseLife) -> LeaseRow:
    """A lease as the table shows it."""
    event, lease, run = life.event, fields(life.event, "lease"), fields(life.event, "run")
    icon, word, tone = LEASE_MARKS[life.state]
    return LeaseRow(
        mark=Mark(icon=icon, word=word, tone=tone),
        path=plain(lease.get("path", "?")),
        event_href=href("event", name=name_of(event)),
        granted=when(event.get("time")),
        lives=duration(lease["ttl_s"]) if "ttl_s" in lease else "not told",
        ends=None if life.ends_ms is None else when(life.ends_ms),
        ended_href=href("event", name=life.ended) if life.ended else "",
        failed_href=href("event", name=life.failed) if life.failed else "",
        where=where(event),
        run_href=run_href(text(run.get("dag")), text(run.get("run"))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersionRow:
    """A version of a key.

    Attributes:
        version: As events name it.
        state: The last thing that was done with the version itself, as a sentence.
        first: Its first event; None: none.
        last: Its newest.
        count: How many events name it.
    """

    version: str
    href: str
    state: str
    state_href: str
    first: When | None
    last: When | None
    count: str
    is_chosen: bool


def state_of(leaves: Iterable[Leaf], version: str) -> tuple[str, str]:
    """The newest thing done with a version of a key: a sentence, and its event's name."""
    for leaf in leaves:
        event = leaf.event
        if event.get("result") == "ok" and _version(event) == version:
            return sentence(event), name_of(event)
    return "", ""


def versions_in(leaves: Iterable[Leaf]) -> list[str]:
    """The versions that events name, the highest first."""
    found = {_version(leaf.event) for leaf in leaves} - {""}
    return sorted(found, key=lambda one: (len(one), one), reverse=True)


def _version(event: Mapping[str, Any]) -> str:
    return text(fields(event, "key").get("version"))
