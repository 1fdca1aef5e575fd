"""Name the recordings that did not end as they should, and what was heard of them last.

A recording is cut (no emitter.close), torn (its last bytes are no event), has a gap (events are
missing), or part of it was refused. All of it is what the sequencer's own leaves say; nothing here
tells whether a process was killed or its last words were taken away: both look the same.

Source: AUDIT_TRAIL, Must be caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore

BAD_STATES = ("cut", "gap", "torn")
REFUSED = "refused"
# Named in a report or on a page; the others are counted.
MAX_NAMED = 20
# Of each state, newest first; more of them than a person can look at anyway.
_LOOKED_AT = 500
_LAST_LOOKED_AT = 5
# A log's first sequencer begins with the log.
_OPENINGS = ("emitter.open", "trail.start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A recording that did not end well. Texts are as a task may have written them.

    Attributes:
        emitter: 32 hex digits.
        state: cut, gap, torn or refused.
        program: What the process said it is; empty: its first event is missing or hidden.
        host: Where it said it runs.
        pid: Its process, as it said; None: not said.
        run: Run and task that it recorded for: dag, run, task as far as known.
        events: How many of its events are in the log.
        last: Name of the newest of them; empty: none is.
        last_act: What that one says.
        last_ms: Its time, ms since 1970 UTC; None: none.
        refused: How many of its frames were refused.
    """

    emitter: str
    state: str
    program: str = ""
    host: str = ""
    pid: int | None = None
    run: Mapping[str, str] = field(default_factory=dict)
    events: int = 0
    last: str = ""
    last_act: str = ""
    last_ms: int | None = None
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """The newest of them.

    Attributes:
        named: At most `MAX_NAMED`, the newest first.
        more: How many are not named.
        is_all: Whether `more` counts all of them.
    """

    named: tuple[Ending, ...] = ()
    more: int = 0
    is_all: bool = True


@dataclass(slots=True, kw_only=True)
class _Story:
    """What an emitter said of itself, and the last it said."""

    opened: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    events: int = 0
    seq: int = -1
    act: str = ""
    time: int | None = None


@dataclass(slots=True, kw_only=True)
class EndTracker:
    """Follows a log from its first leaf on; what ended whole is forgotten at once."""

    _stories: dict[str, _Story] = field(default_factory=dict)
    _bad: dict[str, str] = field(default_factory=dict)
    _refused: dict[str, int] = field(default_factory=dict)

    def note(self, event: Mapping[str, Any]) -> None:
        """Take the next leaf's event."""
        more = event.get("more")
        more = more if isinstance(more, Mapping) else {}
        story = self._stories.get(event["emitter"])
        if story is None:
            story = self._stories[event["emitter"]] = _Story()
        story.events += 1
        if event["seq"] > story.seq:
            story.seq, story.act, story.time = event["seq"], event["act"], event["time"]
        if event["act"] in _OPENINGS:
            story.opened, story.run = _said_of_itself(event), event.get("run", {})
        elif event["act"] == "trail.emitter" and more.get("state") != "found":
            self._end(str(more.get("emitter")), str(more.get("state")))
        elif event["act"] == "trail.refused":
            emitter = str(more.get("emitter"))
            self._refused[emitter] = self._refused.get(emitter, 0) + 1

    def _end(self, emitter: str, state: str) -> None:
        if state in BAD_STATES:
            self._bad[emitter] = state
            return
        self._bad.pop(emitter, None)
        # Part of it is missing all the same.
        if emitter not in self._refused:
            self._stories.pop(emitter, None)

    def endings(self) -> Endings:
        """Those that did not end well, so far."""
        states = dict.fromkeys(self._refused, REFUSED) | self._bad
        found = [self._ending(emitter, state) for emitter, state in states.items()]
        return _newest(found)

    def _ending(self, emitter: str, state: str) -> Ending:
        story = self._stories.get(emitter, _Story())
        return _ending(
            emitter,
            state,
            opened=story.opened,
            run=story.run,
            events=story.events,
            last=(story.seq, story.act, story.time),
            refused=self._refused.get(emitter, 0),
        )


def badly_ended(store: AuditStore) -> Endings:
    """The newest recordings that did not end well, from the leaves that say so.

    Args:
        store: The log; a few hundred of its leaves are read.
    """
    states: dict[str, tuple[str, Leaf]] = {}
    is_all = True
    refused = Counter[str]()
    for leaf in _said(store, "trail.refused", ""):
        states.setdefault(_about(leaf), (REFUSED, leaf))
        refused[_about(leaf)] += 1
    for state in BAD_STATES:
        leaves = _said(store, "trail.emitter", state)
        is_all = is_all and len(leaves) < _LOOKED_AT
        for leaf in leaves:
            if leaf.event["more"].get("state") == state and _is_newer(leaf, states):
                states[_about(leaf)] = (state, leaf)
    newest = sorted(states.items(), key=lambda item: -item[1][1].index)
    named: list[Ending] = []
    passed_over = 0
    for emitter, (state, leaf) in newest:
        if len(named) == MAX_NAMED:
            break
        ending = _look_up(store, emitter, state, leaf, refused=refused[emitter])
        named += [] if ending is None else [ending]
        passed_over += ending is None
    more = len(newest) - passed_over - len(named)
    return Endings(named=tuple(named), more=more, is_all=is_all)


def _said(store: AuditStore, act: str, text: str) -> Sequence[Leaf]:
    query = EventQuery(acts=(act,), text=text or None)
    leaves = store.page(query, limit=_LOOKED_AT)
    return [leaf for leaf in leaves if isinstance(leaf.event.get("more"), Mapping)]


def _about(leaf: Leaf) -> str:
    return str(leaf.event["more"].get("emitter"))


def _is_newer(leaf: Leaf, states: Mapping[str, tuple[str, Leaf]]) -> bool:
    before = states.get(_about(leaf))
    return before is None or before[0] == REFUSED or before[1].index < leaf.index


def _look_up(
    store: AuditStore, emitter: str, state: str, said: Leaf, *, refused: int
) -> Ending | None:
    """What the log holds of an emitter; None: it went on after this was said, and ended whole."""
    newest = store.page(EventQuery(emitter=emitter), limit=_LAST_LOOKED_AT)
    digest = said.event["more"].get("last")
    # By time, as a page is sorted; whose clock went back has another last event than the newest.
    last = next(
        (leaf for leaf in newest if leaf.hash.hex() == digest), newest[0] if newest else None
    )
    closed_at = [leaf.index for leaf in newest if leaf.event.get("act") == "emitter.close"]
    if state != REFUSED and max(closed_at, default=-1) > said.index:
        return None
    first = store.find(f"{emitter}:0")
    opened = {} if first is None else first.event
    is_opened = opened.get("act") in _OPENINGS
    event: Mapping[str, Any] = {} if last is None else last.event
    counted = said.event["more"].get("events")
    return _ending(
        emitter,
        state,
        opened=_said_of_itself(opened) if is_opened else {},
        run=opened.get("run", {}) if is_opened else {},
        events=counted if isinstance(counted, int) else len(newest),
        last=(event.get("seq", -1), event.get("act", ""), event.get("time")),
        refused=refused,
    )


def _ending(
    emitter: str,
    state: str,
    *,
    opened: object,
    run: object,
    events: int,
    last: tuple[Any, Any, Any],
    refused: int,
) -> Ending:
    facts = opened if isinstance(opened, Mapping) else {}
    of = run if isinstance(run, Mapping) else {}
    seq, act, time_ms = last
    return Ending(
        emitter=emitter,
        state=state,
        program=_text(facts.get("program")),
        host=_text(facts.get("host")),
        pid=facts["pid"] if isinstance(facts.get("pid"), int) else None,
        run={name: _text(of[name]) for name in ("dag", "run", "task") if name in of},
        events=events,
        last=f"{emitter}:{seq}" if isinstance(seq, int) and seq >= 0 else "",
        last_act=_text(act),
        last_ms=time_ms if isinstance(time_ms, int) else None,
        refused=refused,
    )


def _said_of_itself(event: Mapping[str, Any]) -> Mapping[str, Any]:
    more = event.get("more")
    if event["act"] == "trail.start":
        return {"program": "sequencer"}
    return more if isinstance(more, Mapping) else {}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "(hidden)"
    return value if isinstance(value, str) else ""


def _newest(found: Sequence[Ending]) -> Endings:
    newest = sorted(found, key=lambda ending: (-(ending.last_ms or 0), ending.emitter))
    return Endings(named=tuple(newest[:MAX_NAMED]), more=max(len(newest) - MAX_NAMED, 0))
