"""Follow objects through the trail: which try wrote a version, what that try had read, and so on.

Breadth first in both directions, bounded in nodes, fan and steps; where a bound was met, the graph
says so. A reader of some DAGs gets their works alone, as if there were no others.

Source: PAGES, the ten questions and "Trust boundary".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from airflow_secure_ml.core.audit.event_fields import name_of, number
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.services.lineage_graph import READ, SAME, WROTE, Ended, Lineage, Link
from airflow_secure_ml.services.works import (
    READS,
    WRITES,
    Touch,
    Version,
    Work,
    query_of,
    result_in,
    touches_in,
    version_of,
    work_in,
)

# Tries whose text holds an address, of which those that read it are picked.
_PAGE, _PAGES = 200, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a graph is followed.

    Attributes:
        steps: Works between the start and the farthest version, in each direction.
        nodes: Versions and works in all.
        fan: Works that wrote, or read, one version; and versions of one work.
        events: Events that are looked at of one work.
    """

    steps: int = 8
    nodes: int = 90
    fan: int = 10
    events: int = 250


def trace(
    store: AuditStore,
    starts: Sequence[Version],
    *,
    dags: tuple[str, ...] | None,
    up: bool = True,
    down: bool = True,
    limits: Limits | None = None,
) -> Lineage:
    """Follow versions to where they come from and where they went.

    Args:
        store: The log.
        starts: Where to begin. Nothing is told of a version that no event of `dags` names.
        dags: What the reader may see; None: the whole log.
        up: Whether to look for what they were made from.
        down: Whether to look for what was made from them.
        limits: How far.
    """
    tracer = _Tracer(store, dags, limits or Limits())
    known = [start for start in dict.fromkeys(starts) if tracer.is_named(start)]
    for start in known:
        tracer.add(start)
    if up:
        tracer.follow_up(known)
    if down:
        tracer.follow_down(known)
    return tracer.found(known)


def declaring(
    store: AuditStore,
    version: Version,
    *,
    dags: tuple[str, ...] | None,
    limit: int,
    from_ms: int | None = None,
    until_ms: int | None = None,
) -> list[Leaf]:
    """Tries that name a plain input, the newest first; only their own list of inputs does.

    Args:
        store: The log.
        version: An address, without a digest.
        dags: What the reader may see; None: the whole log.
        limit: How many at most.
        from_ms: From this time on, ms since 1970 UTC.
        until_ms: Before this time.
    """
    query = EventQuery(
        dags=dags,
        acts=("task.secure",),
        results=("intent",),
        text=version.uri,
        from_ms=from_ms,
        until_ms=until_ms,
    )
    found: list[Leaf] = []
    bound: tuple[int, int] | None = None
    for _ in range(_PAGES):
        leaves = store.page(query, older_than=bound, limit=_PAGE)
        # Longer addresses, and what a try writes to, are in the same text.
        found += [leaf for leaf in leaves if _declares(leaf, version)]
        if len(leaves) < _PAGE or len(found) >= limit:
            break
        bound = (number(leaves[-1].event.get("time")), leaves[-1].index)
    return found[:limit]


def _declares(leaf: Leaf, version: Version) -> bool:
    return any(touch.version == version for touch in touches_in([leaf.event]))


class _Tracer:
    """A graph that grows."""

    def __init__(self, store: AuditStore, dags: tuple[str, ...] | None, limits: Limits) -> None:
        self._store, self._dags, self._limits = store, dags, limits
        self._versions: dict[Version, None] = {}
        self._works: dict[str, Ended] = {}
        self._touches: dict[str, tuple[Touch, ...]] = {}
        self._links: dict[tuple[Version | str, Version | str], Link] = {}
        self._before: set[Version | str] = set()
        self._after: set[Version | str] = set()

    def found(self, starts: Iterable[Version]) -> Lineage:
        return Lineage(
            starts=tuple(starts),
            versions=tuple(self._versions),
            works=tuple(self._works.values()),
            links=tuple(self._links.values()),
            more_before=frozenset(self._before),
            more_after=frozenset(self._after),
        )

    def is_named(self, version: Version) -> bool:
        """Whether an event that the reader may see names the version."""
        if self._dags is None:
            return bool(version.uri or version.digest)
        found = self._store.page(_about(version, (), self._dags), limit=1)
        return bool(found) or bool(
            not version.digest and declaring(self._store, version, dags=self._dags, limit=1)
        )

    def add(self, version: Version) -> bool:
        """Take a version into the graph; False: there is no room for it."""
        if version in self._versions:
            return True
        if len(self._versions) + len(self._works) >= self._limits.nodes:
            return False
        self._versions[version] = None
        return True

    def follow_up(self, starts: Sequence[Version]) -> None:
        edge: dict[Version, int | None] = dict.fromkeys(starts)
        done: set[Version] = set()
        for _ in range(self._limits.steps):
            ahead: dict[Version, int | None] = {}
            for version, before_ms in edge.items():
                done.add(version)
                ahead |= self._sources(version, before_ms)
            edge = {version: at for version, at in ahead.items() if version not in done}
            if not edge:
                return
        self._mark_cut(edge, WRITES)

    def follow_down(self, starts: Sequence[Version]) -> None:
        edge = list(starts)
        done: set[Version] = set()
        for _ in range(self._limits.steps):
            done.update(edge)
            ahead = [one for version in edge for one in self._uses(version)]
            edge = [version for version in dict.fromkeys(ahead) if version not in done]
            if not edge:
                return
        self._mark_cut(edge, READS)

    def _sources(self, version: Version, before_ms: int | None) -> dict[Version, int | None]:
        """Link who wrote a version; the versions that those had read, and when."""
        leaves = self._writers(version, before_ms)
        ahead: dict[Version, int | None] = {}
        for leaf in leaves:
            work = self._take(leaf)
            if work is None:
                self._before.add(version)
                continue
            sure = bool(version.digest)
            self._link(work.key, version, WROTE, name_of(leaf.event), is_sure=sure)
            for touch in self._of(work, reads=True):
                self._link(
                    touch.version, work.key, READ, touch.event, is_sure=not touch.is_declared
                )
                ahead.setdefault(touch.version, touch.at_ms)
        if not leaves and version.digest and version.uri:
            ahead |= dict.fromkeys(self._same_bytes(version, WRITES))
        return ahead

    def _uses(self, version: Version) -> list[Version]:
        """Link who read a version; the versions that those wrote."""
        ahead: list[Version] = []
        for leaf in self._readers(version):
            work = self._take(leaf)
            if work is None:
                self._after.add(version)
                continue
            sure = bool(version.digest)
            self._link(version, work.key, READ, name_of(leaf.event), is_sure=sure)
            for touch in self._of(work, reads=False):
                self._link(work.key, touch.version, WROTE, touch.event, is_sure=True)
                ahead.append(touch.version)
        if version.digest and version.uri:
            ahead += self._same_bytes(version, READS)
        return ahead

    def _writers(self, version: Version, before_ms: int | None) -> Sequence[Leaf]:
        """The publishes of a version; of one that was read, the last one before."""
        query = _about(version, WRITES, self._dags)
        if before_ms is None:
            found = self._some(query, version)
            return found if version.digest else found[:1]
        earlier = replace(query, until_ms=before_ms + 1)
        found = self._some(earlier, version)
        # Two machines' clocks may differ by more than lay between the write and the read.
        return (found or self._some(query, version))[:1]

    def _readers(self, version: Version) -> Sequence[Leaf]:
        if version.digest:
            found = self._some(_about(version, READS, self._dags), version)
        else:
            found = declaring(self._store, version, dags=self._dags, limit=self._limits.fan + 1)
        works: dict[str, Leaf] = {}
        for leaf in found:
            works.setdefault(work_in(leaf.event).key, leaf)
        if len(works) > self._limits.fan:
            self._after.add(version)
        return list(works.values())[: self._limits.fan]

    def _some(self, query: EventQuery, version: Version) -> list[Leaf]:
        """The newest leaves; that there are more is noted."""
        # Each read is two events, a verify and an open.
        limit = 2 * self._limits.fan + 1
        found = list(self._store.page(query, limit=limit))
        if len(found) == limit:
            (self._before if query.acts is WRITES else self._after).add(version)
        return found

    def _same_bytes(self, version: Version, acts: tuple[str, ...]) -> list[Version]:
        """Link versions elsewhere with these bytes that nobody is known to have put there."""
        query = EventQuery(dags=self._dags, digest=version.digest, acts=acts, results=("ok",))
        others: dict[Version, None] = {}
        for leaf in self._store.page(query, limit=2 * self._limits.fan):
            other = version_of(leaf.event)
            if other is not None and other.uri and other.uri != version.uri:
                others[other] = None
        found = []
        for other in list(others)[: self._limits.fan]:
            pair = (other, version) if acts is WRITES else (version, other)
            if acts is READS and self._store.count(_about(other, WRITES, self._dags), at_most=1):
                continue
            if self.add(other):
                self._link(*pair, SAME, "", is_sure=True)
                found.append(other)
        return found

    def _take(self, leaf: Leaf) -> Work | None:
        """Take the work of an event into the graph; None: there is no room for it."""
        work = work_in(leaf.event)
        if work.key in self._works:
            return self._works[work.key].work
        if len(self._versions) + len(self._works) >= self._limits.nodes:
            return None
        events = [leaf.event]
        query = query_of(work, self._dags)
        if query is not None:
            leaves = self._store.page(query, limit=self._limits.events)
            events = [
                each.event for each in reversed(leaves) if work_in(each.event).key == work.key
            ]
            if len(leaves) == self._limits.events:
                self._before.add(work.key)
        self._works[work.key] = Ended(work=work, result=result_in(events))
        self._touches[work.key] = tuple(touches_in(events))
        return work

    def _of(self, work: Work, *, reads: bool) -> list[Touch]:
        """What a work read, or wrote, as far as the graph has room for it."""
        found = [touch for touch in self._touches[work.key] if touch.is_read is reads]
        kept = [touch for touch in found[: self._limits.fan] if self.add(touch.version)]
        if len(kept) < len(found):
            (self._before if reads else self._after).add(work.key)
        return kept

    def _link(
        self,
        source: Version | str,
        target: Version | str,
        kind: str,
        event: str,
        *,
        is_sure: bool,
    ) -> None:
        self._links.setdefault(
            (source, target),
            Link(source=source, target=target, kind=kind, event=event, is_sure=is_sure),
        )

    def _mark_cut(self, edge: Iterable[Version], acts: tuple[str, ...]) -> None:
        """Tell of versions at the end of the way that it goes on there."""
        for version in edge:
            if self._store.count(_about(version, acts, self._dags), at_most=1):
                (self._before if acts is WRITES else self._after).add(version)


def _about(version: Version, acts: tuple[str, ...], dags: tuple[str, ...] | None) -> EventQuery:
    """What finds the events about a version: all of them, or acts that succeeded."""
    return EventQuery(
        dags=dags,
        acts=acts,
        results=("ok",) if acts else (),
        uri=version.uri or None,
        digest=version.digest or None,
    )
