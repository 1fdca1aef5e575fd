"""Which requests to Airflow's API server are acts worth an event, and what each event says.

Pure. Routes, ids and numbers only: no body, no query but a map index, no token, no value ever
comes here. Recording is `act_recorder`'s business, identity `identities`'.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from airflow_secure_ml.core.audit.event import Fact, RunRef

Kind = Literal["read", "edit", "login", "logout", "denied"]

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
# Airflow's own ids end there; a longer one is cut, so that no client decides how large events are.
MAX_ID_CHARS = 250
# A query is looked at for one small number only.
MAX_QUERY_BYTES = 1024
# Segments of `/api/v2` patterns that show values, code, settings or what others did.
_SHOWS = frozenset(
    {
        *("connections", "variables", "xcomEntries", "state-store", "logs", "taskInstances"),
        *("dagSources", "config", "eventLogs", "importErrors", "hitlDetails"),
    }
)
# Below a task instance, but without anything of its data.
_SHOWS_NOTHING = frozenset({"dependencies", "links", "externalLogUrl", "dry_run"})
_READING_METHODS = frozenset({"GET", "HEAD"})
# The pages record by themselves what is done there.
_OWN = "/secure-ml"
_IN_RUN = {"dag_id": "dag", "dag_run_id": "run", "run_id": "run", "task_id": "task"}
_TRIES = ("try_number", "task_try_number")
_NUMBER = re.compile(r"-1|[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request as Airflow routed and answered it.

    Attributes:
        method: One of METHODS, or `OTHER`.
        pattern: The route's pattern, from the API server's root; empty: no route took it.
        action: The function behind the route, as Airflow's own log names it; empty: none.
        ids: What the pattern's names stand for in this request.
        place: Where no pattern tells: the path below a mounted application; else empty.
        query: The query, bytes; only a map index is taken from it.
        status: The answer's; None: there was none, the client or the server broke off.
        opens_session: Whether the answer sets Airflow's session cookie.
        peer: The address that the connection came from; empty: not known.
    """

    method: str
    pattern: str
    action: str = ""
    ids: Mapping[str, object]
    place: str = ""
    query: bytes = b""
    status: int | None
    opens_session: bool = False
    peer: str = ""


def kind_of(answered: Answered) -> Kind | None:
    """What a request was, as far as the trail is concerned; None: nothing to record."""
    pattern, status = answered.pattern, answered.status
    # Tasks' own calls: their acts are recorded where they are done.
    if pattern == "/execution" or pattern.startswith("/execution/"):
        return None
    if _is_login(answered):
        return "login"
    if status in (401, 403):
        return "denied"
    if not pattern or status == 405 or pattern == _OWN or pattern.startswith(f"{_OWN}/"):
        return None
    return _kind_of_route(answered.method, pattern)


@functools.lru_cache(maxsize=2048)
def _kind_of_route(method: str, pattern: str) -> Kind | None:
    # Methods and patterns are closed sets: no client can fill this.
    segments = pattern.split("/")
    if segments[-1] == "logout":
        return "logout"
    if method in _READING_METHODS:
        return "read" if _shows(segments) else None
    if segments[-1] in ("list", "dry_run"):
        return "read" if _shows(segments) else None
    return None if method == "OPTIONS" else "edit"


def _shows(segments: list[str]) -> bool:
    is_api = segments[:3] == ["", "api", "v2"]
    return is_api and not _SHOWS.isdisjoint(segments) and _SHOWS_NOTHING.isdisjoint(segments)


def _is_login(answered: Answered) -> bool:
    pattern = answered.pattern
    if pattern != "/auth" and not pattern.startswith("/auth/"):
        return False
    if answered.opens_session or pattern.startswith("/auth/token"):
        return answered.status != 405
    return answered.method == "POST" and "login" in pattern + answered.place


def result_of(answered: Answered, kind: Kind) -> tuple[str, str | None]:
    """How Airflow answered, as an event says it: result and why."""
    status = answered.status
    if status is None or status >= 500:
        return "unknown", None
    if status in (401, 403):
        return "refused", "access_denied"
    if status >= 400:
        return "failed", "request_invalid"
    # A form that leads back to itself and one that leads on look the same but for the cookie.
    if kind == "login" and status != 201 and not answered.opens_session:
        return "unknown", None
    return "ok", None


def repeats_as(answered: Answered, kind: Kind, who: str | None) -> Hashable | None:
    """What makes this request one more of the same; None: each is an event of its own.

    Pages ask again every few seconds. Who is not known gets no say in how many events there are:
    ids from them don't count as different.
    """
    about = (kind, answered.action, answered.method, answered.pattern, answered.status)
    ended = result_of(answered, kind)[0]
    if who is None and ended != "ok":
        return about
    if kind not in ("read", "denied"):
        return None
    ids = tuple((name, clean(value)) for name, value in answered.ids.items())
    return (*about, who, ids, _map_index(answered), clean(answered.place))


def fact_of(answered: Answered, kind: Kind, who: str | None, count: int | None = None) -> Fact:
    """The fact to record.

    Args:
        answered: The request.
        kind: What it was.
        who: Whose it was; None: not known.
        count: How many more of the same there were since the last event of this kind; None: this
            is the first.
    """
    result, why = result_of(answered, kind)
    run, rest = _run_of(answered)
    more = {
        # Where the method is not the route's, neither is the function.
        "action": clean(answered.action) or None,
        "method": answered.method,
        "path": clean(answered.pattern) or None,
        "resource": clean("/".join([*rest, *filter(None, [answered.place])])) or None,
        "status": answered.status,
        "count": count,
        "peer": clean(answered.peer) or None if who is None else None,
    }
    by = None if who is None else clean(who) or None
    return Fact(act="user.act", phase="seen", result=result, why=why, run=run, by=by, more=more)


def clean(value: object) -> str:
    """An id as an event holds it: cut, without what would hide, reorder or move other text."""
    text = str(value)
    cut = "".join(char if char.isprintable() else "?" for char in text[:MAX_ID_CHARS])
    return cut + "…" if len(text) > MAX_ID_CHARS else cut


def _run_of(answered: Answered) -> tuple[RunRef | None, list[str]]:
    """The run or task that a request was about, and its other ids in their order."""
    found: dict[str, str] = {}
    rest: list[str] = []
    number: int | None = None
    for name, value in answered.ids.items():
        text = clean(value)
        part = _IN_RUN.get(name)
        # `~` stands for all of them; a file's token is no name.
        if text == "~" or "token" in name:
            continue
        if part is not None and part not in found and len(text) <= MAX_ID_CHARS:
            found[part] = text
        elif name in _TRIES and _NUMBER.fullmatch(text):
            number = int(text)
        elif name != "map_index" or not _NUMBER.fullmatch(text):
            rest.append(text)
    if "dag" not in found:
        return None, [*found.values(), *rest]
    run = RunRef(
        dag=found["dag"],
        run=found.get("run", ""),
        task=found.get("task"),
        map_index=_map_index(answered),
        try_number=number,
    )
    return run, rest


def _map_index(answered: Answered) -> int:
    value = answered.ids.get("map_index")
    if value is None and b"map_index=" in answered.query[:MAX_QUERY_BYTES]:
        query = answered.query[:MAX_QUERY_BYTES].decode("ascii", "replace")
        value = parse_qs(query).get("map_index", ["-1"])[0]
    text = str(value)
    return int(text) if _NUMBER.fullmatch(text) else -1
