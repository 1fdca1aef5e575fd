"""An audit event, version 1: its fields, their types, and how a fact becomes one.

What may be said is `catalogue`'s business, what must be hidden `core.redaction`'s. An event is
forever, so writers are held to closed sets; readers keep and show what they do not know.

Source: AUDIT_TRAIL, Event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES, PHASES, RESULTS, WHYS, fits
from airflow_secure_ml.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """Which task try, or DAG run, an event belongs to.

    Attributes:
        dag: DAG id.
        run: DAG run id; empty where an event is about the DAG as such.
        task: Task id; None for events of a DAG run.
        map_index: -1 if unmapped.
        try_number: From 1.
        ti: Airflow's task-instance UUID, one per try: the join key for coverage.
    """

    dag: str
    run: str
    task: str | None = None
    map_index: int = -1
    try_number: int | None = None
    ti: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a producer says; the emitter adds v, emitter, seq, prev, time and mono.

    Attributes:
        act: An activity of the catalogue.
        phase: intent, outcome or seen.
        result: ok, refused, failed, unknown; None exactly for an intent.
        why: A code, exactly with refused and failed.
        of: Name of the intent this is the outcome of.
        run: The task try or DAG run; None: the emitter's own (what it was opened for), if any.
        object: name, uri, version, digest, bytes, rows: what is known.
        key: system, name, version.
        lease: path, id, ttl_s.
        rule: id, digest, decision.
        by: A person; always stored as a hidden value.
        more: Facts that the catalogue lists for the activity.
    """

    act: str
    phase: str
    result: str | None = None
    why: str | None = None
    of: str | None = None
    run: RunRef | None = None
    object: Mapping[str, Any] | None = None
    key: Mapping[str, Any] | None = None
    lease: Mapping[str, Any] | None = None
    rule: Mapping[str, Any] | None = None
    by: str | None = None
    more: Mapping[str, Any] | None = None


_HEX32 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[0-9a-f]{32}:(0|[1-9][0-9]{0,15})", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ACT = re.compile(r"[a-z][a-z0-9_.]{0,63}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


def assemble(
    fact: Fact,
    *,
    emitter: str,
    seq: int,
    prev: str | None,
    time: int,
    mono: int,
    run: RunRef | None = None,
) -> dict[str, Any]:
    """Make a record of a fact; nothing is hidden yet.

    Facts that are None inside `object`, `key`, `lease`, `rule` and `more` are left out.

    Args:
        fact: What happened.
        emitter: 32 hex digits.
        seq: Its number, from 0.
        prev: Hex leaf hash of this emitter's event before; None exactly for the first.
        time: Wall clock, ms since 1970 UTC.
        mono: ms since the emitter opened.
        run: What a fact belongs to that names no run itself.

    Raises:
        FormatError: A word outside the closed sets or a value of another type (why `bug`).
    """
    _check_words(fact)
    record: dict[str, Any] = {"v": 1, "emitter": emitter, "seq": seq, "time": time, "mono": mono}
    record |= {"act": fact.act, "phase": fact.phase}
    parts = {name: _present(getattr(fact, name)) for name in ("object", "key", "lease", "rule")}
    own_run = run if fact.run is None else fact.run
    optional = {
        **parts,
        "prev": prev,
        "result": fact.result,
        "why": fact.why,
        "of": fact.of,
        "by": fact.by,
        "run": own_run and _run_fields(own_run),
        "more": _checked_more(fact),
    }
    record |= {name: value for name, value in optional.items() if value}
    _check_fields(record, _WRITTEN)
    return record


def parse_event(data: bytes) -> dict[str, Any]:
    """Parse a leaf; keys and activities that this release does not know are kept.

    Raises:
        FormatError: Not canonical, another version, or a field of another type than documented.
    """
    record = canonical.decode(data)
    if not isinstance(record, dict):
        raise FormatError("audit event: not an object")
    if not _is_int(record.get("v")) or record["v"] != 1:
        raise FormatError(f"audit event: version {record.get('v')!r}, this release reads 1")
    for name in ("emitter", "seq", "time", "mono", "act", "phase"):
        if name not in record:
            raise FormatError(f"audit event: no {name}")
    _check_fields(record, _READ)
    if ("prev" in record) != (record["seq"] > 0):
        raise FormatError("audit event: prev belongs to every event but an emitter's first")
    _check_result(record["phase"], record.get("result"), record.get("why"))
    return record


def _check_words(fact: Fact) -> None:
    activity = ACTIVITIES.get(fact.act)
    if activity is None:
        raise _bug(f"activity {fact.act!r} is not in the catalogue")
    if fact.phase not in activity.facts:
        raise _bug(f"{fact.act} has the phases {sorted(activity.facts)}, not {fact.phase!r}")
    if fact.why is not None and fact.why not in WHYS:
        raise _bug(f"{fact.act}: why {fact.why!r} is not in the catalogue")
    _check_result(fact.phase, fact.result, fact.why)


def _check_result(phase: str, result: str | None, why: str | None) -> None:
    if (result is None) != (phase == "intent"):
        raise _bug(f"a result is absent exactly in an intent; phase {phase}, result {result}")
    if (why is not None) != (result in {"refused", "failed"}):
        raise _bug(f"why is present exactly with refused and failed; result {result}, why {why}")


def _run_fields(run: RunRef) -> dict[str, Any]:
    fields: dict[str, Any] = {"dag": run.dag}
    if run.run:
        fields["run"] = run.run
    if run.task is not None:
        fields |= {"task": run.task, "map": run.map_index, "try": run.try_number, "ti": run.ti}
    return _present(fields)


def _checked_more(fact: Fact) -> dict[str, Any]:
    more = _present(fact.more)
    allowed = ACTIVITIES[fact.act].facts[fact.phase]
    for name, value in more.items():
        if name not in allowed:
            raise _bug(f"{fact.act} {fact.phase} has no fact {name!r}, only {sorted(allowed)}")
        if not fits(value, allowed[name]):
            raise _bug(f"{fact.act}: fact {name!r} is of type {type(value).__name__}")
    return more


def _present(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _bug(message: str) -> FormatError:
    return FormatError(f"audit event: {message}", why="bug")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0 and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def is_hidden(value: Any) -> bool:
    """Tell whether a value of an event is a hidden one: `{"h": 64 hex, "n": bytes}`."""
    return (
        isinstance(value, Mapping)
        and set(value) == {"h", "n"}
        and _like(_HEX64)(value["h"])
        and _count(value["n"])
    )


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _among(words: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _or_hidden(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: test(value) or is_hidden(value)


_SHOWN: dict[str, Any] = {
    "v": _count,
    "emitter": _like(_HEX32),
    "seq": _count,
    "prev": _like(_HEX64),
    "time": _is_int,
    "mono": _count,
    "act": _like(_ACT),
    "phase": _among(PHASES),
    "result": _among(RESULTS),
    "why": _like(_WORD),
    "of": _like(_NAME),
    "more": lambda value: isinstance(value, Mapping),
}
_PARTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "object": {
        "name": _text,
        "uri": _text,
        "version": _text,
        "digest": _like(_DIGEST),
        "bytes": _count,
        "rows": _count,
    },
    "key": {"system": _text, "name": _text, "version": _text},
    "lease": {"path": _text, "id": _like(_DIGEST), "ttl_s": _count},
    "rule": {"id": _text, "digest": _text, "decision": _among(frozenset({"allow", "deny"}))},
}
_RUN: dict[str, Callable[[Any], bool]] = {
    "dag": _text,
    "run": _or_hidden(_text),
    "task": _or_hidden(_text),
    "map": _is_int,
    "try": _is_int,
    "ti": _text,
}
# Before anything is hidden; and as it lies in the log, where every text of a part may be.
_WRITTEN = {**_SHOWN, **_PARTS, "run": _RUN, "by": _text}
_READ = {
    **_SHOWN,
    **{
        part: {name: _or_hidden(test) for name, test in fields.items()}
        for part, fields in _PARTS.items()
    },
    "run": _RUN,
    "by": is_hidden,
}
# What can be asked of an event by name, but for the facts in `more`.
FIELDS = frozenset(
    [
        *(_SHOWN.keys() - {"v", "prev", "mono", "more"}),
        "by",
        *(f"{part}.{name}" for part, fields in _PARTS.items() for name in fields),
        *(f"run.{name}" for name in _RUN),
    ]
)


def _check_fields(record: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Check the types of the fields that are known; `run` needs its `dag`."""
    for name, value in record.items():
        test = fields.get(name)
        if test is None:
            continue
        if not isinstance(test, dict):
            if not test(value):
                raise FormatError(f"audit event: field {name} has another type than documented")
            continue
        if not isinstance(value, Mapping) or (name == "run" and "dag" not in value):
            raise FormatError(f"audit event: field {name} has another type than documented")
        for inner, inner_value in value.items():
            if inner in test and not test[inner](inner_value):
                raise FormatError(
                    f"audit event: field {name}.{inner} has another type than documented"
                )
            if fields is _WRITTEN and inner not in test:
                raise _bug(f"field {name} has no {inner!r}, only {sorted(test)}")
