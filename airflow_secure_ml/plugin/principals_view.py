"""Tell of whoever acts: a person, a DAG or a worker.

Pure over the store. Nothing here names a person: what names one is asked for by the routes, which
have that recorded first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from airflow_secure_ml.core.audit.event_fields import number, text
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.plugin.addresses import events_href
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.views import Row, When, unplaced, when
from airflow_secure_ml.plugin.wording import fields, last_part, number_of, plain, up_to, visible
from airflow_secure_ml.services.works import READS, WRITES

DAG, WORKER, PERSON = "dag", "worker", "person"
# The filter's field of each.
FIELDS = {DAG: "dag", WORKER: "host", PERSON: "by"}
TOP = 12
COUNTED = 1000
TALLIED = 1000
NEWEST, NEWEST_REFUSED = 15, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A value with how many events have it."""

    label: str
    title: str
    href: str
    count: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The values of one field, the most frequent first."""

    title: str
    rows: tuple[Counted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalView:
    """What somebody did.

    Attributes:
        counts: (label, number, link, tone) of all events, and of those that did not go well.
        tallies: What they touched.
        refused: The newest refusals and failures.
        newest: The newest events.
        first: When the first was.
        last: When the newest was.
        tallied: Of how many of the newest events `tallies` speak; empty: of all.
    """

    counts: tuple[tuple[str, str, str, str], ...]
    tallies: tuple[Tally, ...]
    refused: tuple[Row, ...]
    newest: tuple[Row, ...]
    first: When | None
    last: When | None
    tallied: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A machine on which something was recorded."""

    host: str
    href: str
    programs: str
    count: str
    last: When


def query_of(kind: str, name: str) -> EventQuery | None:
    """What finds the events of a principal; None: there is no such kind."""
    queries = {
        DAG: EventQuery(dag=name),
        WORKER: EventQuery(host=name),
        PERSON: EventQuery(by=name),
    }
    return queries.get(kind)


def tell(store: AuditStore, query: EventQuery, kind: str, name: str) -> PrincipalView:
    """Tell what a principal did.

    Args:
        store: The log.
        query: Its events, as far as the reader may see them.
        kind: DAG, WORKER or PERSON.
        name: Its id, or the hash that stands for a person.
    """
    span = store.span(query)
    bad = replace(query, results=("refused", "failed"))
    # The log's own news of a process say nothing of what it was for.
    own = store.page(replace(query, acts=_TOLD), limit=TALLIED)
    return PrincipalView(
        counts=(
            ("events", _count(store, query), _events(kind, name), ""),
            *(_bad(store, query, kind, name, word) for word in ("refused", "failed")),
        ),
        tallies=tuple(_tallies(own, kind, is_all=len(own) < TALLIED)),
        refused=_rows(store.page(bad, limit=NEWEST_REFUSED)),
        newest=_rows(own[:NEWEST]),
        tallied="" if len(own) < TALLIED else f"{TALLIED:,}",
        first=when(span[0]) if span else None,
        last=when(span[1]) if span else None,
    )


_TOLD = (
    *("task.", "rule.", "object.", "dataset.", "scratch.", "lease.", "secret.", "xcom.", "key."),
    *("run.", "user.", "alert.", "review.", "trail.view", "trail.export", "trail.verify"),
    *("trail.erase", "trail.prune", "trail.hold", "trail.key", "trail.adopt"),
)


def workers(leaves: Iterable[Leaf]) -> list[Worker]:
    """The machines that processes began to record on, the most active first.

    Args:
        leaves: emitter.open events, the newest first.
    """
    found: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        host = text(fields(leaf.event, "more").get("host"))
        if host:
            found.setdefault(host, []).append(leaf)
    rows = [_worker(host, opened) for host, opened in found.items()]
    return sorted(rows, key=lambda one: (-len(found[one.host]), one.host))


def _worker(host: str, opened: list[Leaf]) -> Worker:
    programs = {plain(fields(leaf.event, "more").get("program", "?")): None for leaf in opened}
    return Worker(
        host=visible(host),
        href=href("principal", kind=WORKER, id=host),
        programs=", ".join(programs),
        count=f"{len(opened):,}",
        last=when(max(number(leaf.event.get("time")) for leaf in opened)),
    )


def _count(store: AuditStore, query: EventQuery) -> str:
    return up_to(store.count(query, at_most=COUNTED + 1), COUNTED)


def _bad(
    store: AuditStore, query: EventQuery, kind: str, name: str, word: str
) -> tuple[str, str, str, str]:
    count = _count(store, replace(query, results=(word,)))
    link = events_href((FIELDS[kind], name), ("status", word))
    return word, count, link, "" if count == "0" else "bad"


def _events(kind: str, name: str) -> str:
    return events_href((FIELDS[kind], name))


def _tallies(leaves: Sequence[Leaf], kind: str, *, is_all: bool) -> Iterable[Tally]:
    """What a principal touched, counted in its newest events."""
    read: Counter[str] = Counter()
    wrote: Counter[str] = Counter()
    keys, acts, places = Counter[str](), Counter[str](), Counter[str]()
    for leaf in leaves:
        event = leaf.event
        act, uri = text(event.get("act")), text(fields(event, "object").get("uri"))
        if event.get("result") == "ok" and uri:
            counter = {**dict.fromkeys(READS, read), **dict.fromkeys(WRITES, wrote)}.get(act)
            if counter is not None:
                counter[uri] += 1
        keys[text(fields(event, "key").get("name"))] += 1
        acts[act] += 1
        places[text(fields(event, "run").get("task" if kind == DAG else "dag"))] += 1
    place = ("Tasks", places, "") if kind == DAG else ("DAGs", places, "principal")
    wanted = (("Read", read, "object"), ("Wrote", wrote, "object"), ("Keys", keys, "key"), place)
    for title, counter, target in (*wanted, ("Activities", acts, "")):
        counted = [pair for pair in counter.most_common(TOP + 1) if pair[0]][:TOP]
        rows = tuple(_counted(value, count, target, is_all=is_all) for value, count in counted)
        yield Tally(title=title, rows=rows)


def _counted(value: str, count: int, target: str, *, is_all: bool) -> Counted:
    links = {
        "object": href("object", uri=value),
        "key": href("key", name=value),
        "principal": href("principal", kind=DAG, id=value),
    }
    return Counted(
        label=last_part(value) if target == "object" else visible(value),
        title=visible(value),
        href=links.get(target, ""),
        count=number_of(count, is_exact=is_all),
    )


def _rows(leaves: Iterable[Leaf]) -> tuple[Row, ...]:
    return tuple(unplaced(leaf) for leaf in leaves)
