"""Read from a try's events what it took in and what it gave out.

A work is a try of a task. Sealing anew, and what is done outside of tasks, is a work for each act:
who treats a hundred files so mixes none of them. Events may be forged or edited: what has another
type than it should is left out, never believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of, number, part, text
from airflow_secure_ml.core.audit.query import EventQuery

READS = ("object.open", "object.verify")
WRITES = ("object.publish", "object.quarantine")
# Everything that `work_in` looks at.
ACTS = (*READS, *WRITES, "task.secure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Bytes at an address.

    Attributes:
        uri: The address; empty: it is hidden.
        digest: `sha256:…`; empty: a plain input, whose digest nobody recorded.
    """

    uri: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A work read or wrote a version.

    Attributes:
        version: What.
        event: The name of the event that says so.
        at_ms: When, ms since 1970 UTC.
        is_read: Whether it was read; else it was written.
        is_declared: Only the try's own list of inputs names it, without a digest.
    """

    version: Version
    event: str
    at_ms: int
    is_read: bool
    is_declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What stands between two versions.

    Attributes:
        key: Tells it from every other work of a log.
        dag: The DAG; empty: it was done outside of Airflow's tasks.
        run: The DAG run's id.
        task: The task's id.
        map_index: -1: not mapped.
        number: The try, from 1; 0: not told.
        ti: The task-instance UUID; empty: not told.
        event: The event by which it was found.
        at_ms: That event's time.
        is_try: Whether all of the try's events belong to it; else this event alone does.
    """

    key: str
    dag: str
    run: str
    task: str
    map_index: int
    number: int
    ti: str
    event: str
    at_ms: int
    is_try: bool


def version_of(event: Mapping[str, Any]) -> Version | None:
    """The version that an event is about; None: it names none."""
    obj = part(event, "object")
    found = Version(uri=text(obj.get("uri")), digest=text(obj.get("digest")))
    return found if found.uri or found.digest else None


def work_in(event: Mapping[str, Any]) -> Work:
    """The work that an event belongs to."""
    run = part(event, "run")
    dag, ti, task = text(run.get("dag")), text(run.get("ti")), text(run.get("task"))
    run_id, attempt = text(run.get("run")), number(run.get("try"))
    mapped = number(run.get("map"), -1)
    is_try = bool(dag and (ti or task)) and not _replaced(event)
    if is_try and ti:
        key = "\0".join(("ti", dag, ti))
    elif is_try:
        key = "\0".join(("try", dag, run_id, task, str(mapped), str(attempt)))
    else:
        key = "\0".join(("act", text(event.get("of")) or name_of(event)))
    return Work(
        key=key,
        dag=dag,
        run=run_id,
        task=task,
        map_index=mapped,
        number=attempt,
        ti=ti,
        event=name_of(event),
        at_ms=number(event.get("time")),
        is_try=is_try,
    )


def query_of(work: Work, dags: tuple[str, ...] | None) -> EventQuery | None:
    """What finds a work's events, for a reader of these DAGs; None: its own event is all of it.

    Whoever asks has to drop what is of another work: events may name any task instance.
    """
    if not work.is_try:
        return None
    if work.ti:
        # Not by its DAG as well: a store may then look through all of that one's events.
        return EventQuery(dags=dags, ti=work.ti, acts=ACTS)
    return EventQuery(dags=dags, dag=work.dag, run=work.run, task=work.task, acts=ACTS)


def touches_in(events: Sequence[Mapping[str, Any]]) -> Iterator[Touch]:
    """What a work read and wrote, each version once, by its first event.

    Args:
        events: The work's own, oldest first.
    """
    seen: set[tuple[bool, Version]] = set()
    opened: set[str] = set()
    declared: list[Touch] = []
    for event in events:
        for touch in _touches(event):
            if touch.is_declared:
                declared.append(touch)
                continue
            if touch.is_read:
                opened.add(touch.version.uri)
            if (touch.is_read, touch.version) not in seen:
                seen.add((touch.is_read, touch.version))
                yield touch
    opened |= _refused(events)
    for touch in declared:
        if touch.version.uri not in opened:
            opened.add(touch.version.uri)
            yield touch


def result_in(events: Iterable[Mapping[str, Any]]) -> str:
    """How a work ended, by its task.secure; empty: nothing says so."""
    found = ""
    for event in events:
        if event.get("act") == "task.secure" and event.get("phase") == "outcome":
            found = text(event.get("result"))
    return found


def _touches(event: Mapping[str, Any]) -> Iterator[Touch]:
    act, phase, result = event.get("act"), event.get("phase"), event.get("result")
    if act == "task.secure" and phase == "intent":
        for item in _listed(part(event, "more").get("reads")):
            yield _touch(event, Version(uri=item, digest=""), is_declared=True)
        return
    version = version_of(event)
    if version is None or act not in (*READS, *WRITES):
        return
    if phase == "intent":
        # Inputs that no longer fit into task.secure stand in intents of their own.
        if act in READS and version.uri and not version.digest:
            yield _touch(event, version, is_declared=True)
    elif result == "ok":
        yield _touch(event, version, is_read=act in READS)
        before = _replaced(event)
        if before and before != version.digest:
            yield _touch(event, Version(uri=version.uri, digest=before))


def _replaced(event: Mapping[str, Any]) -> str:
    """The digest that an object had before it was sealed anew; empty: it was not."""
    is_write = event.get("act") in WRITES
    return text(part(event, "more").get("replaced")) if is_write else ""


def _touch(
    event: Mapping[str, Any], version: Version, *, is_read: bool = True, is_declared: bool = False
) -> Touch:
    return Touch(
        version=version,
        event=name_of(event),
        at_ms=number(event.get("time")),
        is_read=is_read,
        is_declared=is_declared,
    )


def _listed(value: object) -> Iterator[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            uri = text(item.get("uri")) if isinstance(item, Mapping) else ""
            if uri:
                yield uri


def _refused(events: Iterable[Mapping[str, Any]]) -> set[str]:
    return {
        text(part(event, "object").get("uri"))
        for event in events
        if event.get("act") in READS and event.get("result") in ("refused", "failed")
    }
