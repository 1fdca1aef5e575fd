"""A request passes the middleware as it came, whatever the request, the application or we do."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from jwt import InvalidTokenError

from airflow_secure_ml.plugin.act_recorder import MAX_REPEATS, REPEAT_S, ActRecorder, Passed
from airflow_secure_ml.plugin.airflow_plugin import SecureMLPlugin
from airflow_secure_ml.plugin.identities import MAX_REMEMBERED, Identities
from airflow_secure_ml.plugin.reads_middleware import ReadsMiddleware
from airflow_secure_ml.plugin.user_acts import Answered
from airflow_secure_ml.settings import reset_settings
from airflow_secure_ml.testing.ports import MemoryAudit

CONNECTION = "/api/v2/connections/{connection_id}"
START = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]}
BODY = {"type": "http.response.body", "body": b"{}"}


class Recorder:
    """Keeps what it is given."""

    def __init__(self, broken=False):
        self.passed, self.lost, self.stopped, self.broken = [], 0, 0, broken

    def put(self, passed):
        if self.broken:
            raise RuntimeError("secret")
        self.passed.append(passed)

    def lose(self):
        self.lost += 1

    def stop(self):
        self.stopped += 1


def get_connection():
    """Stands for Airflow's own function behind the route."""


def scope_of(**more):
    return {
        "type": "http",
        "method": "GET",
        "path": "/api/v2/connections/aws",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("10.0.0.7", 1234),
        "state": {"user": SimpleNamespace(get_name=lambda: "vera")},
    } | more


def routed(scope, pattern=CONNECTION, prefix="", **ids):
    """What Airflow's router writes into a scope."""
    scope["route"] = SimpleNamespace(path=pattern, methods={"GET"})
    scope["endpoint"] = get_connection
    scope["root_path"] += prefix
    scope["path_params"] = ids or {"connection_id": "aws"}


def through(scope, *messages, recorder=None, route=routed, send=None):
    """Pass a request; returns what the server got and the recorder."""
    recorder, sent = recorder or Recorder(), []

    async def app(scope, receive, send):
        route(scope)
        for message in messages:
            if isinstance(message, BaseException):
                raise message
            await send(message)

    async def keep(message):
        sent.append(message)

    asyncio.run(ReadsMiddleware(app, recorder)(scope, None, send or keep))
    return sent, recorder


def test_messages_pass_as_they_are():
    sent, recorder = through(scope_of(), START, BODY)

    assert sent[0] is START
    assert sent[1] is BODY
    (passed,) = recorder.passed
    assert (passed.kind, passed.who, passed.token) == ("read", "vera", "")
    assert passed.answered == Answered(
        method="GET",
        pattern=CONNECTION,
        action="get_connection",
        ids={"connection_id": "aws"},
        status=200,
        peer="10.0.0.7",
    )


def test_a_stream_is_noted_when_it_begins():
    noted = []
    recorder = Recorder()

    async def send(message):
        noted.append((message["type"], len(recorder.passed)))

    through(scope_of(), START, BODY | {"more_body": True}, BODY, recorder=recorder, send=send)

    assert noted == [
        ("http.response.start", 0),
        ("http.response.body", 1),
        ("http.response.body", 1),
    ]
    assert len(recorder.passed) == 1


def test_a_websocket_is_left_alone():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    scope, receive, send, recorder = {"type": "websocket"}, object(), object(), Recorder()

    asyncio.run(ReadsMiddleware(app, recorder)(scope, receive, send))

    assert seen == [(scope, receive, send)]
    assert recorder.passed == []


@pytest.mark.parametrize("ending", ["complete", "failed"])
def test_all_is_recorded_before_the_server_hears_that_it_may_end(ending):
    recorder, seen = Recorder(), []

    async def send(message):
        seen.append((message["type"], recorder.stopped))

    async def app(scope, receive, send):
        await send({"type": "lifespan.startup.complete"})
        await send({"type": f"lifespan.shutdown.{ending}"})

    asyncio.run(ReadsMiddleware(app, recorder)({"type": "lifespan"}, None, send))

    assert seen == [("lifespan.startup.complete", 0), (f"lifespan.shutdown.{ending}", 1)]


def test_the_request_is_never_read():
    """`receive` is handed on as it is: who does not call it buffers nothing."""
    got = []

    async def app(scope, receive, send):
        got.append(receive)

    receive = object()
    asyncio.run(ReadsMiddleware(app, Recorder())(scope_of(), receive, None))

    assert got == [receive]


@pytest.mark.parametrize(
    "error", [RuntimeError("theirs"), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_an_applications_error_passes_and_is_an_act(error):
    recorder = Recorder()

    with pytest.raises(type(error)) as raised:
        through(scope_of(), error, recorder=recorder)

    assert raised.value is error or isinstance(error, asyncio.CancelledError)
    assert [passed.answered.status for passed in recorder.passed] == [None]


def test_a_client_that_left_raises_as_without_us():
    recorder = Recorder()

    async def gone(message):
        raise OSError("client disconnected")

    with pytest.raises(OSError, match="client disconnected"):
        through(scope_of(), START, recorder=recorder, send=gone)

    assert [passed.answered.status for passed in recorder.passed] == [None]


@pytest.mark.parametrize(
    "broken",
    [
        {"recorder": Recorder(broken=True)},
        {"route": lambda scope: scope.update(route=3, client=7, headers=None, path_params=5)},
        {"route": lambda scope: routed(scope) or scope.update(headers=[1])},
        {"route": lambda scope: routed(scope) or scope.update(query_string="text")},
    ],
    ids=["recorder", "scope", "headers", "query"],
)
def test_our_own_errors_stay_here_and_are_said_once(broken, caplog):
    recorder = broken.get("recorder") or Recorder()
    middleware = None

    async def app(scope, receive, send):
        broken.get("route", routed)(scope)
        await send(START)
        await send(BODY)

    middleware, sent = ReadsMiddleware(app, recorder), []

    async def keep(message):
        sent.append(message)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asyncio.run(middleware(scope_of(), None, keep))

    assert sent == [START, BODY] * 3
    assert recorder.lost == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the audit trail misses requests" in line
    assert "secret" not in line


def test_a_token_wins_over_the_cookie_and_is_never_shown():
    headers = [(b"authorization", b"Bearer abc.def"), (b"cookie", b"_token=other")]

    _, recorder = through(scope_of(headers=headers), START)

    (passed,) = recorder.passed
    assert (passed.who, passed.token) == (None, "abc.def")
    assert "abc.def" not in repr(passed)


def test_a_user_whose_name_cannot_be_had_is_nobody():
    def detached():
        raise RuntimeError("not bound to a session")

    _, recorder = through(scope_of(state={"user": SimpleNamespace(get_name=detached)}), START)

    assert [passed.who for passed in recorder.passed] == [None]


@pytest.mark.parametrize(
    "route", [{"route": SimpleNamespace(path="")}, {}], ids=["mount", "no route named"]
)
@pytest.mark.parametrize("root", ["", "/airflow"])
def test_a_session_that_is_handed_out_names_who_logged_in(root, route):
    """As behind the Flask application of an auth manager."""
    start = START | {"status": 302, "headers": [(b"set-cookie", b"_token=new.one; Path=/")]}

    _, recorder = through(
        scope_of(method="POST", path=f"{root}/auth/login/", root_path=root),
        start,
        route=lambda scope: scope.update(root_path=f"{root}/auth", path_params={}, **route),
    )

    (passed,) = recorder.passed
    assert (passed.kind, passed.who, passed.token) == ("login", None, "new.one")
    assert (passed.answered.place, passed.answered.opens_session) == ("/login/", True)


def test_a_session_that_is_taken_away_is_no_login():
    gone = START | {"headers": [(b"set-cookie", b'_token=""; Max-Age=0')]}

    _, recorder = through(scope_of(), gone, route=lambda scope: routed(scope, "/logout", "/auth"))

    (passed,) = recorder.passed
    assert (passed.kind, passed.answered.opens_session) == ("logout", False)


def test_a_huge_request_takes_little_room_while_it_waits():
    huge = "x" * 60_000
    headers = [(b"authorization", b"Bearer " + huge.encode())]

    _, recorder = through(
        scope_of(path=huge, query_string=huge.encode(), headers=headers, method=huge),
        START,
        route=lambda scope: routed(scope, connection_id=huge, other=huge),
    )

    (passed,) = recorder.passed
    assert len(pickle.dumps(passed)) < 12_000


@pytest.mark.parametrize("root", ["", "/airflow"])
def test_applications_below_and_prefixes_in_front_don_t_hide_a_route(root):
    _, recorder = through(
        scope_of(method="POST", path=f"{root}/auth/token", root_path=root),
        START | {"status": 201},
        route=lambda scope: routed(scope, "/token", "/auth", none="x"),
    )

    assert [passed.answered.pattern for passed in recorder.passed] == ["/auth/token"]


@pytest.mark.parametrize("root", ["", "/airflow"])
def test_tasks_own_calls_are_not_recorded(root):
    _, recorder = through(
        scope_of(path=f"{root}/execution/connections/aws", root_path=root),
        START,
        route=lambda scope: routed(scope, "/connections/{connection_id}", "/execution"),
    )

    assert recorder.passed == []


def test_a_path_cannot_pass_for_a_tasks_own_call():
    """What counts is the route that Airflow took, not how the path reads."""
    _, recorder = through(scope_of(path="/execution/../api/v2/connections/aws"), START)

    assert len(recorder.passed) == 1


@pytest.mark.parametrize(("switch", "there"), [("true", 1), ("false", 0)])
def test_it_can_be_switched_off(monkeypatch, switch, there):
    monkeypatch.setenv("AIRFLOW__SECURE_ML__RECORD_READS", switch)
    reset_settings()
    try:
        assert len(SecureMLPlugin().fastapi_root_middlewares) == there
    finally:
        reset_settings()


# ---------------------------------------------------------------- the recorder


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def passed_of(status=200, who="vera", kind="read", token="", **ids):
    read = Answered(
        method="GET", pattern=CONNECTION, ids=ids or {"connection_id": "aws"}, status=status
    )
    return Passed(answered=read, kind=kind, who=who, token=token)


@pytest.fixture
def make():
    """Recorders that are stopped in the end; facts lie in `audit`."""
    made = []

    def recorder(audit=None, **more):
        audit = audit or MemoryAudit()
        settings = {
            "open_sink": lambda: audit,
            "who": lambda token: token or None,
            "ensure_sequencer": lambda: None,
        } | more
        made.append(ActRecorder(**settings))
        return audit, made[-1]

    yield recorder
    for each in made:
        each.stop()


def counts(audit):
    return [fact.more.get("count") for fact in audit.facts if fact.act == "user.act"]


def test_what_is_put_is_durable_after_stop(make):
    audit, recorder = make()

    for number in range(100):
        recorder.put(passed_of(connection_id=str(number)))
    recorder.stop()

    assert [fact.more["resource"] for fact in audit.facts] == [str(n) for n in range(100)]
    assert {fact.by for fact in audit.facts} == {"vera"}
    assert audit.settled == 100


def test_the_same_again_is_counted_and_said_at_the_end(make):
    audit, recorder = make()

    for _ in range(41):
        recorder.put(passed_of())
    recorder.put(passed_of(who="olaf"))
    recorder.stop()

    assert sorted(counts(audit), key=str) == [40, None, None]
    assert {fact.by for fact in audit.facts if fact.more["count"]} == {"vera"}


def test_who_comes_again_later_is_told_again(make):
    clock, audit = Clock(), MemoryAudit()
    _, recorder = make(audit, clock=clock)
    for _ in range(3):
        recorder.put(passed_of())
    recorder.stop()

    clock.now += REPEAT_S + 1
    recorder.put(passed_of())
    recorder.stop()

    assert counts(audit) == [None, 2, None]


def test_many_different_requests_don_t_fill_memory(make):
    audit, recorder = make()

    for number in range(MAX_REPEATS + 50):
        recorder.put(passed_of(connection_id=str(number)))
    recorder.stop()

    assert len(audit.facts) == MAX_REPEATS + 50
    assert len(recorder._repeats) <= MAX_REPEATS


def test_what_does_not_fit_is_counted_and_the_count_is_an_event(make):
    audit, go_on, is_in = MemoryAudit(), threading.Event(), threading.Event()

    def slow_sink():
        is_in.set()
        go_on.wait(30)
        return audit

    _, recorder = make(audit, open_sink=slow_sink, max_waiting=5)
    recorder.put(passed_of(connection_id="first"))
    assert is_in.wait(30)
    for number in range(12):
        recorder.put(passed_of(connection_id=str(number)))
    go_on.set()
    recorder.stop()

    told = [fact.more.get("resource") for fact in audit.facts if fact.act == "user.act"]
    lost = [fact for fact in audit.facts if fact.act == "emitter.loss"]
    assert told == ["first", "0", "1", "2", "3", "4"]
    assert sum(fact.more["events"] for fact in lost) == 7
    assert {fact.why for fact in lost} == {"audit_unavailable"}


def test_a_spool_that_cannot_be_written_costs_no_memory_and_says_what_it_lost(make, caplog):
    audit, recorder = make()
    audit.broken = True

    with caplog.at_level(logging.WARNING):
        recorder.put(passed_of(connection_id="kept"))
        recorder.stop()
        for number in range(20):
            recorder.put(passed_of(connection_id=str(number)))
            recorder.stop()
        held = len(audit.facts)
        audit.broken = False
        recorder.put(passed_of(connection_id="after"))
        recorder.stop()

    assert held == 1
    told = [fact.more.get("resource") for fact in audit.facts if fact.act == "user.act"]
    assert told == ["kept", "after"]
    assert [fact.more["events"] for fact in audit.facts if fact.act == "emitter.loss"] == [20]
    assert len(caplog.records) == 1


def test_settings_that_cannot_be_read_cost_one_line(make, caplog):
    def no_sink():
        raise RuntimeError("secret")

    _, recorder = make(open_sink=no_sink)

    with caplog.at_level(logging.WARNING):
        for number in range(50):
            recorder.put(passed_of(connection_id=str(number)))
        recorder.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "the audit trail has no record of some requests: RuntimeError"
    ]


def test_an_identity_that_fails_loses_one_request(make):
    def who(token):
        if token == "bad":
            raise RuntimeError("auth manager")
        return "olaf"

    audit, recorder = make(who=who)
    recorder.put(passed_of(who=None, token="bad"))
    recorder.put(passed_of(who=None, token="good"))
    recorder.stop()

    assert [(fact.act, fact.by) for fact in audit.facts] == [
        ("user.act", "olaf"),
        ("emitter.loss", None),
    ]


def test_a_token_that_airflow_refused_names_nobody(make):
    audit, recorder = make()

    recorder.put(passed_of(401, who=None, kind="denied", token="olaf"))
    recorder.put(passed_of(403, who=None, kind="denied", token="olaf"))
    recorder.stop()

    assert [(fact.more["status"], fact.by) for fact in audit.facts] == [(401, None), (403, "olaf")]


def test_a_token_is_let_go_of_at_once(make):
    audit, recorder = make()

    for _ in range(3):
        recorder.put(passed_of(who=None, token="eyJhbGciOi"))
    until = time.monotonic() + 30
    while not audit.settled and time.monotonic() < until:
        time.sleep(0.01)

    assert audit.settled == 1
    assert {each.passed.token for each in recorder._repeats.values()} == {""}


def test_a_thread_that_cannot_start_is_tried_again(make, monkeypatch):
    audit, recorder = make()
    real = threading.Thread.start
    refusals = [RuntimeError("can't start new thread")]

    def start(thread):
        if refusals:
            raise refusals.pop()
        real(thread)

    # Patched: no test may use up the threads of the machine.
    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(RuntimeError):
        recorder.put(passed_of(connection_id="first"))
    recorder.lose()
    recorder.put(passed_of(connection_id="second"))
    recorder.stop()

    assert [(f.act, f.more.get("resource")) for f in audit.facts] == [
        ("user.act", "second"),
        ("emitter.loss", None),
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_server_records_for_itself(make):
    audit, recorder = make()
    recorder.put(passed_of())
    read, write = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            audit.facts.clear()
            recorder.put(passed_of(connection_id="child"))
            recorder.stop()
            os.write(write, audit.facts[0].more["resource"].encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)

    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"child"


# ---------------------------------------------------------------- identities


def test_a_token_is_asked_for_once():
    asked = []

    async def lookup(token):
        asked.append(token)
        return SimpleNamespace(get_name=lambda: f"user of {token}")

    found = Identities(lookup)

    assert [found.who("a"), found.who("a"), found.who("b")] == [
        "user of a",
        "user of a",
        "user of b",
    ]
    assert asked == ["a", "b"]


def test_a_wrong_token_is_nobodys_and_no_wrong_tokens_fill_memory():
    async def lookup(token):
        raise InvalidTokenError("no")

    found = Identities(lookup)

    assert {found.who(str(number)) for number in range(MAX_REMEMBERED + 10)} == {None}
    assert len(found._known) == MAX_REMEMBERED


def test_an_outage_is_not_remembered():
    answers = [TimeoutError("database"), SimpleNamespace(get_name=lambda: "vera")]

    async def lookup(token):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = Identities(lookup)

    assert [found.who("t"), found.who("t")] == [None, "vera"]


def test_tokens_are_not_kept():
    async def lookup(token):
        return SimpleNamespace(get_name=lambda: "vera")

    found = Identities(lookup)
    found.who("eyJhbGciOi")

    assert "eyJhbGciOi" not in repr(vars(found))


@pytest.mark.parametrize("token", ["", "x" * 100_000])
def test_no_token_and_a_huge_one_ask_nobody(token):
    async def lookup(token):
        raise AssertionError

    assert Identities(lookup).who(token) is None
