"""Turn a lineage into a picture and a table that say the same.

Pure. Every text may hold what a task wrote: `visible` has made it harmless for the eye, templates
escape the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from airflow_secure_ml.plugin.addresses import run_href
from airflow_secure_ml.plugin.graph_layout import Box, lay_out
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.views import RESULTS, When, when
from airflow_secure_ml.plugin.wording import last_part, shortened, visible
from airflow_secure_ml.services.lineage_ends import ends_of
from airflow_secure_ml.services.lineage_graph import READ, SAME, WROTE, Ended, Lineage
from airflow_secure_ml.services.works import Version, Work

OBJECT_SIZE, WORK_SIZE = (164.0, 44.0), (140.0, 58.0)
# Letters that fit into a line: an object's name, a task, and what stands under a task.
OBJECT_CHARS, TASK_CHARS, WORK_CHARS = 16, 13, 17
# A picture up to this width is made to fit the window; a wider one scrolls, or none could read it.
FITTING_PX = 1500
BAD = ("refused", "failed")
_RUN_ID = re.compile(r"[a-z_]+__([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}):", re.ASCII)
OUTSIDE = "no task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of the picture; lengths in pixels.

    Attributes:
        kind: object, work or more: its shape.
        lines: What stands in it, shortened.
        title: The same in full, for whoever points at it or cannot see.
        href: Where it leads; empty: nowhere.
        tone: start, bad, or empty.
    """

    kind: str
    lines: tuple[str, ...]
    title: str
    href: str
    tone: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An arrow of the picture.

    Attributes:
        path: Its `d`.
        title: What it says.
        tone: unsure: by the address alone; same: equal bytes, nobody saw them go; or empty.
    """

    path: str
    title: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A version in a table."""

    name: str
    title: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A work in the table: what went in, what came out."""

    when: When
    event_href: str
    dag: str
    task: str
    attempt: str
    run: str
    run_href: str
    word: str
    icon: str
    tone: str
    reads: tuple[Named, ...]
    writes: tuple[Named, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRow:
    """A version that nothing more was made from, and the works that lead to it."""

    version: Named
    digest: str
    way: tuple[StepRow, ...]

    @property
    def runs(self) -> tuple[tuple[str, str, str, str], ...]:
        """DAG, run, its id in short and its link, of each run on the way once."""
        found = (
            (step.dag or OUTSIDE, step.run, short_run(step.run), step.run_href) for step in self.way
        )
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphView:
    """A lineage as the page shows it.

    Attributes:
        fits: Whether the picture is made to fit the window.
        is_cut: Whether the trail holds more than is shown.
        is_unsure: Whether an arrow rests on an address alone.
        has_same: Whether one stands for equal bytes that nobody saw go.
    """

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float
    fits: bool
    steps: tuple[StepRow, ...]
    ends: tuple[EndRow, ...]
    is_cut: bool
    is_unsure: bool
    has_same: bool


@dataclass(slots=True)
class _Drawing:
    """Boxes and arrows before they have places."""

    nodes: dict[str, Node] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    def join(self, source: str, target: str, title: str, tone: str = "") -> None:
        self.pairs.append((source, target))
        self.said.append((title, tone))


def draw(found: Lineage) -> GraphView:
    """Draw a lineage."""
    drawing = _Drawing()
    keys = {version: f"v{at}" for at, version in enumerate(found.versions)}
    for version, key in keys.items():
        drawing.nodes[key] = _object(version, is_start=version in found.starts)
    for at, ended in enumerate(found.works):
        drawing.nodes[f"w{at}"] = _work(ended)
    works = {ended.work.key: f"w{at}" for at, ended in enumerate(found.works)}
    for link in found.links:
        source, target = _key(link.source, keys, works), _key(link.target, keys, works)
        drawing.join(source, target, *_said(link.kind, is_sure=link.is_sure))
    ends: list[Version | str] = [*found.versions, *(ended.work.key for ended in found.works)]
    for end in ends:
        key = _key(end, keys, works)
        if end in found.more_before:
            drawing.join(_add_more(drawing, key, end, found, sign="<"), key, "comes from more")
        if end in found.more_after:
            drawing.join(key, _add_more(drawing, key, end, found, sign=">"), "went into more")
    return _placed(drawing, found)


def named(version: Version) -> Named:
    """A version as a table shows it."""
    return Named(
        name=_name(version.uri),
        title=visible(version.uri) or "its address is hidden",
        href=href("object", uri=version.uri, digest=version.digest),
    )


def short_digest(digest: str) -> str:
    """A digest for the eye."""
    kind, _, value = visible(digest).partition(":")
    return f"{kind} {shortened(value, keep=6)}" if value else "no digest recorded"


def short_run(run: str) -> str:
    """A run's id for a narrow place: the time in it, if Airflow made the id."""
    found = _RUN_ID.match(run)
    return f"{found[1]} {found[2]}" if found else visible(run)


def _key(end: Version | str, keys: Mapping[Version, str], works: Mapping[str, str]) -> str:
    return works[end] if isinstance(end, str) else keys[end]


def _name(uri: str) -> str:
    return last_part(uri) or "hidden address"


def _fit(text: str, chars: int) -> str:
    """A text cut in the middle: names differ at both ends."""
    if len(text) <= chars:
        return text
    left = (chars - 1) // 2
    return f"{text[:left]}…{text[-(chars - 1 - left) :]}"


def _object(version: Version, *, is_start: bool) -> Node:
    own = named(version)
    digest = short_digest(version.digest)
    return Node(
        kind="object",
        lines=(_fit(own.name, OBJECT_CHARS), digest.removeprefix("sha256 ")),
        title=f"{own.title}, {visible(version.digest) or digest}",
        href=own.href,
        tone="start" if is_start else "",
        width=OBJECT_SIZE[0],
        height=OBJECT_SIZE[1],
    )


def _work(ended: Ended) -> Node:
    work, attempt = ended.work, _attempt(ended.work)
    lines = (
        _fit(" ".join(filter(None, (visible(work.task), attempt))) or OUTSIDE, TASK_CHARS),
        _fit(visible(work.dag) or "by a command", WORK_CHARS),
        _fit(short_run(work.run), WORK_CHARS),
    )
    words = (visible(work.dag), visible(work.task), attempt, visible(work.run))
    title = ", ".join(filter(None, words)) or OUTSIDE
    is_bad = ended.result in BAD
    return Node(
        kind="work",
        lines=lines if lines[2] else lines[:2],
        title=f"{title}: {RESULTS[ended.result][1]}" if is_bad else title,
        href=_run_href(work),
        tone="bad" if is_bad else "",
        width=WORK_SIZE[0],
        height=WORK_SIZE[1],
    )


def _attempt(work: Work) -> str:
    mapped = f"[{work.map_index}]" if work.map_index >= 0 else ""
    again = f"try {work.number}" if work.number > 1 else ""
    return " ".join(filter(None, (mapped, again)))


def _run_href(work: Work) -> str:
    return run_href(work.dag, work.run) or href("event", name=work.event)


def _said(kind: str, *, is_sure: bool) -> tuple[str, str]:
    if kind == SAME:
        return "the same bytes at another address; nobody saw them go there", "same"
    words = {READ: "read", WROTE: "wrote"}[kind]
    return (words, "") if is_sure else (f"{words}, by its address: no digest is recorded", "unsure")


def _add_more(drawing: _Drawing, key: str, end: Version | str, found: Lineage, *, sign: str) -> str:
    own = drawing.nodes[key]
    # On from a version is its own lineage; what more a work did is in its events.
    target = (
        _run_href(next(one.work for one in found.works if one.work.key == end))
        if isinstance(end, str)
        else href("lineage", uri=end.uri, digest=end.digest)
    )
    more = f"{key}+{sign}"
    drawing.nodes[more] = Node(
        kind="more",
        lines=("and more …",),
        title=f"more than is shown here: {own.title}",
        href=target,
        width=84,
        height=26,
    )
    return more


def _placed(drawing: _Drawing, found: Lineage) -> GraphView:
    boxes = [
        Box(key=key, width=node.width, height=node.height) for key, node in drawing.nodes.items()
    ]
    layout = lay_out(boxes, drawing.pairs)
    nodes = tuple(
        replace(node, x=layout.placed[key].x, y=layout.placed[key].y)
        for key, node in drawing.nodes.items()
    )
    arrows = tuple(
        Arrow(path=path, title=title, tone=tone)
        for path, (title, tone) in zip(layout.paths, drawing.said, strict=True)
    )
    steps = {ended.work.key: _step(ended, found) for ended in found.works}
    return GraphView(
        nodes=nodes,
        arrows=arrows,
        width=layout.width,
        height=layout.height,
        fits=layout.width <= FITTING_PX,
        steps=tuple(sorted(steps.values(), key=lambda step: step.when.iso)),
        ends=tuple(_ends(found, steps)),
        is_cut=found.is_cut,
        is_unsure=any(arrow.tone == "unsure" for arrow in arrows),
        has_same=any(arrow.tone == "same" for arrow in arrows),
    )


def _step(ended: Ended, found: Lineage) -> StepRow:
    work = ended.work
    icon, word, tone = RESULTS.get(ended.result, ("question", "end not recorded", "quiet"))
    return StepRow(
        when=when(work.at_ms),
        event_href=href("event", name=work.event),
        dag=visible(work.dag),
        task=visible(work.task) or OUTSIDE,
        attempt=_attempt(work),
        run=visible(work.run),
        run_href=_run_href(work),
        word="finished" if ended.result == "ok" else word,
        icon=icon,
        tone=tone,
        reads=_versions(
            link.source for link in found.links if link.target == work.key and link.kind == READ
        ),
        writes=_versions(
            link.target for link in found.links if link.source == work.key and link.kind == WROTE
        ),
    )


def _versions(ends: Iterable[Version | str]) -> tuple[Named, ...]:
    return tuple(named(end) for end in ends if isinstance(end, Version))


def _ends(found: Lineage, steps: Mapping[str, StepRow]) -> Iterator[EndRow]:
    for made in ends_of(found):
        way = sorted((steps[key] for key in made.works), key=lambda step: step.when.iso)
        yield EndRow(
            version=named(made.version), digest=visible(made.version.digest), way=tuple(way)
        )
