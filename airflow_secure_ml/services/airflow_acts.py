"""Turn rows of Airflow's own event log and DAG runs into facts about who did what.

Only names of things are taken over: what a request or a command line held besides may be secret.
Airflow writes its row before it knows how the request ends, so the result is `unknown`.

Source: AUDIT_TRAIL, Producers; FACTS, Airflow's own `log` table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event import Fact, RunRef

MAX_NAME_CHARS = 200
_COMMAND = "cli_"
_STATE = re.compile(r"[a-z_]{1,32}", re.ASCII)
_METHOD = re.compile(r"[A-Z]{1,10}", re.ASCII)
_INDEX = re.compile(r"-1|[0-9]{1,9}", re.ASCII)
_ACTION = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)
# By a word in the event's name: the keys under which the thing's own name stands.
_THINGS = {
    "connection": ("connection_id", "conn_id"),
    "variable": ("variable_key", "key"),
    "pool": ("pool_name", "name"),
    "backfill": ("backfill_id",),
    "asset": ("asset_id",),
    "xcom": ("xcom_key", "key"),
}
# Airflow's words for who had a run made; the others are Airflow itself.
PEOPLES = frozenset({"cli", "rest_api", "ui"})

Seen = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A row of Airflow's event log.

    Attributes:
        id: Its number; Airflow may give it again once the table was emptied.
        at_ms: When, ms since 1970 UTC.
        event: What, such as `patch_task_instance`, `cli_dags_trigger`.
        owner: Who.
        extra: JSON about the request or command.
    """

    id: int
    at_ms: int
    event: str
    owner: str = ""
    extra: str = ""
    dag: str = ""
    run: str = ""
    task: str = ""
    map_index: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A DAG run that somebody had made.

    Attributes:
        id: Its row's number.
        at_ms: When it was made, ms since 1970 UTC.
        by: Who; empty: Airflow does not know.
        how: Airflow's word: `rest_api`, `ui`, `cli`.
    """

    id: int
    at_ms: int
    dag: str
    run: str
    by: str
    how: str


def act_of_row(row: LogRow) -> Fact | None:
    """The fact that a row stands for; None: Airflow did it itself."""
    facts = _facts_of(row.extra)
    is_request = isinstance(facts.get("method"), str)
    if not is_request and not row.event.startswith(_COMMAND):
        return None
    more = {
        "action": row.event if _ACTION.fullmatch(row.event) else _plain(row.event),
        "method": _matching(_METHOD, facts.get("method")),
        "resource": _resource(row.event, facts) if is_request else None,
        "state": _matching(_STATE, facts.get("new_state") or facts.get("state")),
        "log_id": row.id,
        "at": row.at_ms,
    }
    run = _run_of(row, facts)
    by = _plain(row.owner) or None
    return Fact(act="user.act", phase="seen", result="unknown", run=run, by=by, more=more)


def act_of_run(row: RunRow) -> Fact:
    """The fact that somebody had a DAG run made."""
    more = {"action": "run_triggered", "method": row.how, "dag_run_id": row.id, "at": row.at_ms}
    run = RunRef(dag=_plain(row.dag), run=_plain(row.run))
    by = _plain(row.by) or None
    return Fact(act="user.act", phase="seen", result="ok", run=run, by=by, more=more)


def seen_row(more: Mapping[str, Any]) -> Seen | None:
    """Which row of Airflow's a user.act was read from; None: it was seen otherwise."""
    at = more.get("at")
    for name in ("log_id", "dag_run_id"):
        number = more.get(name)
        if isinstance(number, int) and isinstance(at, int):
            return (name, number, at)
    return None


def new_acts(facts: Iterable[Fact | None], known: set[Seen]) -> Iterator[Fact]:
    """The facts that the trail does not have yet; each is counted as known from then on."""
    for fact in facts:
        key = None if fact is None else seen_row(fact.more or {})
        if fact is None or key is None or key in known:
            continue
        known.add(key)
        yield fact


def _facts_of(extra: str) -> Mapping[str, Any]:
    try:
        found = json.loads(extra) if extra else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _run_of(row: LogRow, facts: Mapping[str, Any]) -> RunRef | None:
    if not row.dag:
        return None
    at = facts.get("map_index", row.map_index)
    map_index = int(at) if _INDEX.fullmatch(str(at)) else -1
    return RunRef(
        dag=_plain(row.dag),
        run=_plain(row.run),
        task=_plain(row.task) or None,
        map_index=map_index,
    )


def _resource(event: str, facts: Mapping[str, Any]) -> str | None:
    for thing, keys in _THINGS.items():
        if thing not in event:
            continue
        named = [_name(facts, keys), *_names_in(facts.get("actions"), keys)]
        names = [name for name in named if name]
        return f"{thing} {', '.join(names)}"[:MAX_NAME_CHARS] if names else thing
    return None


def _names_in(actions: object, keys: Iterable[str]) -> Iterator[str | None]:
    """Names in the body of a bulk request."""
    for action in actions if isinstance(actions, list) else ():
        entities = action.get("entities") if isinstance(action, dict) else None
        for entity in entities if isinstance(entities, list) else ():
            yield _name(entity, keys) if isinstance(entity, dict) else _text_or_none(entity)


def _name(facts: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return next((text for key in keys if (text := _text_or_none(facts.get(key)))), None)


def _text_or_none(found: object) -> str | None:
    return _plain(str(found))[:MAX_NAME_CHARS] if isinstance(found, (str, int)) else None


def _matching(pattern: re.Pattern[str], found: object) -> str | None:
    return found if isinstance(found, str) and pattern.fullmatch(found) else None


def _plain(text: str) -> str:
    """As an event can hold it: valid UTF-8 without U+0000, and not so long that it is hidden."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:250]
