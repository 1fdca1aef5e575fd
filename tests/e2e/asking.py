"""Ask the pages of a running Airflow as a program would, and every route that there is."""

from __future__ import annotations

import functools
import html
import itertools
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import NamedTuple

# Asked for by programs, with a token of their own: tests/attacks/ingest.
OF_PROGRAMS = {"/ingest"}


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


_OPENER = urllib.request.build_opener(_Stay)


class Answer(NamedTuple):
    """What came back: status, text, headers."""

    status: int
    text: str
    headers: object


class Asker:
    """A reader without scripts, and without cookies of its own if nobody's."""

    def __init__(self, airflow, user=None):
        self.base = f"{airflow.url}/secure-ml/"
        self.cookie = f"_token={_token(airflow, user)}" if user else ""

    def ask(self, path, form=None, *, method=None, **headers):
        body = None if form is None else urllib.parse.urlencode(form).encode()
        asked = urllib.request.Request(
            self.base + path, body, {"Cookie": self.cookie} | headers, method=method
        )
        try:
            with _OPENER.open(asked, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode(), answer.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), error.headers)

    def lists(self, path):
        """The answers of a list of events, the newest first, to its end."""
        while path:
            answer = self.ask(path)
            yield answer
            head, is_more, _ = answer.text.partition('rel="next"')
            older = head.rpartition('href="')[2].partition('"')[0]
            path = html.unescape(older) if is_more else ""

    def form_token(self, path="integrity"):
        """The token that a page's form carries for this reader."""
        text = self.ask(path).text
        token = text.partition('name="token" value="')[2].partition('"')[0]
        assert token, text[:2000]
        return token


def rows_in(page):
    """The names of the events that a page lists."""
    return [part.partition('"')[0] for part in page.split('<tr data-event="')[1:]]


def until(condition, seconds=60):
    """What a condition finds, once it finds something: what a page records comes a little later."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@functools.cache
def _token(airflow, user):
    return airflow.token(user)


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the pages.

    Attributes:
        path: Its pattern.
        method: GET or POST.
        takes: The names of its parameters, in the address or the form.
        needs: Those without which it answers 422.
    """

    path: str
    method: str
    takes: tuple[str, ...]
    needs: frozenset[str]

    def values(self, event):
        """What it may be asked about an event, by the names of its parameters."""
        known = values_of(event)
        meant = {name: _MEANT.get((self.path, name), name) for name in self.takes}
        return {name: known[field] for name, field in meant.items() if field in known}

    def address(self, values):
        """The path below the pages, with a value for each parameter that `values` has."""
        unknown = {name for name in self.needs if name not in values}
        assert not unknown, f"{self.path}: no value is known for {sorted(unknown)}; add them"
        given = {name: values[name] for name in self.takes if name in values}
        path = self.path.lstrip("/")
        for name in [name for name in given if f"{{{name}}}" in path]:
            path = path.replace(f"{{{name}}}", urllib.parse.quote(given.pop(name), safe=""))
        return f"{path}?{urllib.parse.urlencode(given)}" if given else path


# Where a parameter's name says something else than `values_of` does.
_MEANT = {("/key", "name"): "key", ("/principal", "id"): "dag"}


@functools.cache
def schema():
    """The pages' OpenAPI schema, which they do not serve."""
    from fastapi.openapi.utils import get_openapi

    from airflow_secure_ml.plugin.app import create_app

    return get_openapi(title="Security audit", version="1", routes=create_app().routes)


def routes(method):
    """All routes of a method, but those of programs."""
    found = schema()
    return [
        _route(found, path, method, operations[method.lower()])
        for path, operations in found["paths"].items()
        if method.lower() in operations and path not in OF_PROGRAMS
    ]


def _route(found, path, method, operation):
    parameters = operation.get("parameters", ())
    takes = [each["name"] for each in parameters]
    needs = {each["name"] for each in parameters if each.get("required")}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        form = content["schema"]
        if "$ref" in form:
            form = found["components"]["schemas"][form["$ref"].rpartition("/")[2]]
        takes += form.get("properties", ())
        needs |= set(form.get("required", ()))
    return Route(path, method, tuple(dict.fromkeys(takes)), frozenset(needs))


def values_of(event):
    """Everything of an event that a route may be asked about, by the names that routes use."""
    run, obj, key, lease = (event.get(name, {}) for name in ("run", "object", "key", "lease"))
    name = f"{event['emitter']}:{event['seq']}"
    found = {
        **dict.fromkeys(("name", "event", "older", "newer", "of"), name),
        **dict.fromkeys(("dag_id", "dag"), run.get("dag")),
        **dict.fromkeys(("run_id", "run"), run.get("run")),
        **dict.fromkeys(("task_id", "task"), run.get("task")),
        **dict.fromkeys(("uri", "object", "address"), obj.get("uri")),
        **dict.fromkeys(("key", "key_name"), key.get("name")),
        "emitter": event["emitter"],
        "digest": obj.get("digest"),
        "system": key.get("system"),
        "version": key.get("version"),
        "kind": "dag",
        "lease": lease.get("id"),
        "ti": run.get("ti"),
    }
    return {field: value for field, value in found.items() if isinstance(value, str)}


def events_of(store, **query):
    """All events of a query, newest first."""
    from airflow_secure_ml.core.audit.query import EventQuery

    found, bound = [], None
    while True:
        page = store.page(EventQuery(**query), older_than=bound, limit=200)
        found += [leaf.event for leaf in page]
        if len(page) < 200:
            return found
        bound = (page[-1].event["time"], page[-1].index)


def first_of_each(events, field):
    """The first event for each value of a field of `values_of`."""
    by_value = itertools.groupby(
        sorted(events, key=lambda event: values_of(event).get(field, "")),
        key=lambda event: values_of(event).get(field, ""),
    )
    return [next(group) for value, group in by_value if value]
