"""Turn leaves of the log into what a row and a drawer show.

Pure. Nothing here is markup: templates escape every string, `wording.visible` has already made
control and bidirectional characters visible. An event may hold anything, since a tampered store
must still be readable.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.core.audit.event_fields import END_MS, name_of
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin.sentences import sentence, thing
from airflow_secure_ml.plugin.wording import (
    duration,
    fields,
    is_hidden,
    key_label,
    last_part,
    plain,
    reason,
    shortened,
    size,
    visible,
)

# result: (icon, word, tone); tones are the style sheet's four meanings.
RESULTS = {
    "ok": ("check", "allowed", "plain"),
    "refused": ("stop", "refused", "bad"),
    "failed": ("cross", "failed", "bad"),
    "unknown": ("question", "outcome unknown", "look"),
}
INTENT = ("hollow", "intent", "quiet")
SEEN = ("dot", "seen", "quiet")
LOOK_AT = ("warn", "look at this", "look")
LOST = ("emitter.loss", "trail.refused")
BROKEN_STATES = ("cut", "gap", "torn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An icon, its word and its colour's meaning; never the colour alone."""

    icon: str
    word: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A moment. `iso` is for the browser, which adds the viewer's own zone."""

    iso: str
    day: str
    clock: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the list of events.

    Attributes:
        name: `<emitter>:<seq>`, what links carry.
        number: The leaf's index with thousands separators; empty where it must not be told.
        covered: Whether the newest checkpoint covers the leaf.
        finds: What the filter has to say to find others like it, by field; only what it can say.
    """

    name: str
    number: str
    covered: bool
    when: When
    mark: Mark
    sentence: str
    dag: str
    run: str
    task: str
    attempt: str
    object: str
    uri: str
    finds: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A labelled value in the drawer.

    Attributes:
        label: What it is.
        text: The value for the eye, perhaps shortened.
        full: The whole value, to copy; empty if `text` is all of it.
        finds: Fields and values of the filter that find it; empty if there are none.
        event: The event's name, if it is one.
        person: The hash of the hidden value behind it; empty if it is not hidden.
    """

    label: str
    text: str
    full: str = ""
    finds: tuple[tuple[str, str], ...] = ()
    event: str = ""
    person: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the drawer."""

    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawer:
    """Everything known about one event.

    Attributes:
        row: The event as the list shows it.
        sections: What was asked and done, the object, key, lease and who.
        stored: The event's bytes as text, hidden characters escaped.
        stored_base64: The very bytes, for the check in the browser.
        leaf_hash: Hex.
        byte_count: How many bytes the event has.
    """

    row: Row
    sections: tuple[Section, ...]
    stored: str
    stored_base64: str
    leaf_hash: str
    byte_count: int


def when(ms: object) -> When:
    """A moment from milliseconds since 1970 UTC; one out of range is shown as it stands."""
    if not isinstance(ms, int) or not 0 <= ms < END_MS:
        return When(iso="", day="", clock=visible(ms))
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return When(
        iso=f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z",
        day=f"{moment:%Y-%m-%d}",
        clock=f"{moment:%H:%M:%S}.{ms % 1000:03d}",
    )


def mark(event: Mapping[str, Any]) -> Mark:
    """What kind of row this is, at a glance."""
    act, phase, result = (str(event.get(name, "")) for name in ("act", "phase", "result"))
    if act in LOST or fields(event, "more").get("state") in BROKEN_STATES:
        icon, word, tone = LOOK_AT
    elif phase == "intent":
        icon, word, tone = INTENT
    elif result in RESULTS and not (phase == "seen" and result == "ok"):
        icon, word, tone = RESULTS[result]
    elif phase == "seen":
        icon, word, tone = SEEN
    else:
        icon, word, tone = RESULTS["unknown"]
    return Mark(icon=icon, word=word, tone=tone)


def row(leaf: Leaf, *, covered_size: int, numbered: bool = True) -> Row:
    """A leaf as one line.

    Args:
        leaf: The leaf.
        covered_size: The newest checkpoint's size; 0 if there is none.
        numbered: Whether the reader may know the leaf's place in the whole log.
    """
    event = leaf.event
    run, obj = fields(event, "run"), fields(event, "object")
    attempt = f"try {plain(run['try'])}" if "try" in run else ""
    map_index = run.get("map", -1)
    if isinstance(map_index, int) and map_index >= 0:
        attempt = f"[{map_index}] {attempt}".strip()
    return Row(
        name=name_of(event),
        number=f"{leaf.index:,}" if numbered else "",
        covered=leaf.index < covered_size,
        when=when(event.get("time")),
        mark=mark(event),
        sentence=sentence(event),
        dag=plain(run.get("dag", "")),
        run=plain(run.get("run", "")),
        task=plain(run.get("task", "")),
        attempt=attempt,
        object=_object_label(event, obj),
        uri=plain(obj["uri"]) if "uri" in obj else "",
        finds={
            field: value
            for field, value in (
                ("dag", run.get("dag")),
                ("task", run.get("task")),
                ("object", obj.get("uri")),
            )
            if isinstance(value, str)
        },
    )


def unplaced(leaf: Leaf) -> Row:
    """A leaf as one line that tells nothing of its place in the log, nor whether it is proven."""
    return row(leaf, covered_size=0, numbered=False)


def _object_label(event: Mapping[str, Any], obj: Mapping[str, Any]) -> str:
    uri = obj.get("uri")
    if isinstance(uri, str):
        return last_part(uri)
    return "" if "rule" in event and not obj else thing(event)


def drawer(leaf: Leaf, *, covered_size: int, numbered: bool = True) -> Drawer:
    """A leaf with everything it says; arguments as for `row`."""
    parts = (
        Section(title=title, items=tuple(items(leaf.event)))
        for title, items in (
            ("What happened", _happened),
            ("Object", _object),
            ("Key and lease", _key_and_lease),
            ("Who", _who),
            ("More", _more),
        )
    )
    return Drawer(
        row=row(leaf, covered_size=covered_size, numbered=numbered),
        sections=tuple(part for part in parts if part.items),
        stored=visible(leaf.data.decode("utf-8", "backslashreplace"), limit=len(leaf.data)),
        stored_base64=base64.b64encode(leaf.data).decode(),
        leaf_hash=leaf.hash.hex(),
        byte_count=len(leaf.data),
    )


def _item(label: str, value: object, *, field: str = "", code: bool = False) -> Item:
    if is_hidden(value) and isinstance(value, Mapping):
        finds = ((field, str(value["h"])),) if field == "by" else ()
        return Item(label=label, text=plain(value), person=visible(value["h"]), finds=finds)
    text = plain(value)
    short = shortened(text, keep=12) if code and "/" not in text else text
    finds = ((field, value),) if field and isinstance(value, str) else ()
    return Item(label=label, text=short, full=text if code else "", finds=finds, code=code)


def _happened(event: Mapping[str, Any]) -> Iterator[Item]:
    yield _item("Activity", event.get("act", "?"), field="act")
    asked = {
        "intent": "asked, before it was done",
        "outcome": "done",
        "seen": "observed, nobody asked",
    }
    yield _item("Phase", asked.get(str(event.get("phase")), event.get("phase", "?")))
    if "result" in event:
        word, result = mark(event).word, event["result"]
        finds = (("status", word),) if RESULTS.get(str(result), ("", ""))[1] == word else ()
        yield Item(label="Result", text=word, finds=finds)
    if "why" in event:
        yield Item(label="Reason", text=f"{reason(event['why'])} ({visible(event['why'])})")
    rule = fields(event, "rule")
    if rule:
        yield _item("Rule", rule.get("id", "?"))
        yield _item("Decision", rule.get("decision", "?"))
        if "digest" in rule:
            yield _item("Rule digest", rule["digest"], code=True)
    if "of" in event:
        label = (
            "Lease granted in" if str(event.get("act", "")).startswith("lease.re") else "Asked in"
        )
        yield replace(_item(label, event["of"], code=True), event=str(event["of"]))


def _object(event: Mapping[str, Any]) -> Iterator[Item]:
    obj = fields(event, "object")
    for name, label in (
        ("name", "Name"),
        ("uri", "Address"),
        ("version", "Version"),
        ("digest", "Digest"),
    ):
        if name in obj:
            field = {"uri": "object", "digest": "digest"}.get(name, "")
            yield _item(label, obj[name], field=field, code=name != "name")
    if "bytes" in obj:
        yield Item(label="Size", text=f"{size(obj['bytes'])} ({plain(obj['bytes'])} bytes)")
    if "rows" in obj:
        yield _item("Rows", obj["rows"])


def _key_and_lease(event: Mapping[str, Any]) -> Iterator[Item]:
    key, lease = fields(event, "key"), fields(event, "lease")
    if key:
        name = _item("Key", key.get("name", "?"), field="key")
        version = _item("Version", key.get("version", ""), field="version")
        yield name
        text = f"{key_label(key)}, in {plain(key.get('system', '?'))}"
        is_known = bool(name.finds and version.finds)
        yield replace(version, text=text, finds=name.finds + version.finds if is_known else ())
    if lease:
        yield _item("Lease", lease.get("path", "?"))
        if "ttl_s" in lease:
            yield Item(label="Lives for", text=duration(lease["ttl_s"]))
        if "id" in lease:
            yield _item("Lease id (hashed)", lease["id"], field="lease", code=True)


def _who(event: Mapping[str, Any]) -> Iterator[Item]:
    run = fields(event, "run")
    if "by" in event:
        yield _item("Person", event["by"], field="by")
    for name, label in (("dag", "DAG"), ("run", "Run"), ("task", "Task")):
        if name in run:
            yield _item(label, run[name], field=name)
    if "try" in run:
        mapped = run.get("map", -1)
        suffix = f", mapped instance {plain(mapped)}" if mapped != -1 else ""
        yield Item(label="Try", text=plain(run["try"]) + suffix)
    if "ti" in run:
        yield _item("Task instance", run["ti"], field="ti", code=True)
    yield _item("Recorded by", event.get("emitter", "?"), field="emitter", code=True)


def _more(event: Mapping[str, Any]) -> Iterator[Item]:
    for name, value in fields(event, "more").items():
        label = visible(name).replace("_", " ").capitalize()
        if isinstance(value, list):
            yield Item(label=label, text=", ".join(_one_of_many(item) for item in value[:20]))
        else:
            code = isinstance(value, str) and len(value) > 40
            yield _item(label, value, field="host" if name == "host" else "", code=code)


def _one_of_many(item: object) -> str:
    if isinstance(item, Mapping) and not is_hidden(item):
        return " ".join(plain(value) for value in item.values())
    return plain(item)
