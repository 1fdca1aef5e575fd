"""Receivers of events, well and ill: what is confirmed, what is not, and what never hangs."""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import pytest
from google.protobuf import json_format
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from airflow_secure_ml.adapters.relay import SqliteBook
from airflow_secure_ml.adapters.siem import SyslogReceiver, WebhookReceiver
from airflow_secure_ml.core.audit.siem import Cursor, Place, parse_cursor
from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    FormatError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.forwarding import ForwardJob
from airflow_secure_ml.services.relaying import JobRunner
from tests.adapters.receivers import make_certificate, messages_of, syslog_server, web_hook
from tests.services.audit.conftest import ALICE, chain, site  # noqa: F401 - a fixture

LEAVES = 260
LIMITS = {"timeout_s": 0.5, "deadline_s": 1.0}
LATEST_S = 5.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def log(site):  # noqa: F811 - the fixture
    site.put(ALICE, 0, chain(ALICE, LEAVES))
    site.run()
    return site


@pytest.fixture
def hook(certificates):
    with web_hook(certificates[1]) as (found, url):
        found.url = url
        yield found


class Forwarding:
    """A job over a real log and book, with a clock that the test sets."""

    def __init__(self, log, receiver):
        self.book, self.now_s, self.facts = SqliteBook(log.path / "relay.db"), 100.0, []
        self.reader = log.reader()
        self.job = ForwardJob(
            receiver=receiver, reader=self.reader, book=self.book, clock_s=lambda: self.now_s
        )
        self.runner = JobRunner(
            self.job,
            self.book,
            tell=self.tell,
            now_ms=lambda: 1_000_000,
            on_trouble=lambda *_: None,
        )

    def tell(self, fact):
        self.facts.append((fact.act, fact.why, fact.more["about"]))
        return True

    def cursor(self):
        text = self.book.cursor(self.job.name)
        return 0 if text is None else parse_cursor(text).next

    def drain(self):
        while not self.job.step().is_done:
            pass


def webhook(hook, certificates, form="ocsf", path="/hook", **more):
    return WebhookReceiver(hook.url + path, form=form, ca=str(certificates[0]), **(LIMITS | more))


def test_every_leaf_arrives_once_and_in_order(log, hook, certificates):
    run = Forwarding(log, webhook(hook, certificates))

    run.drain()

    size = run.reader.size()
    assert hook.indices() == list(range(size))
    assert run.cursor() == size
    assert max(len(body.splitlines()) for _, body in hook.requests) <= 100
    headers, body = hook.requests[0]
    assert (headers["path"], headers["Content-Type"]) == ("/hook", "application/x-ndjson")
    assert json.loads(body.splitlines()[1])["raw_data"].encode() == run.reader.leaf(1).data


def test_opentelemetry_reads_what_is_sent(log, hook, certificates):
    run = Forwarding(log, webhook(hook, certificates, "otlp", ""))

    run.drain()

    assert {headers["path"] for headers, _ in hook.requests} == {"/v1/logs"}
    found = []
    for _, body in hook.requests:
        parsed = json_format.Parse(body, LogsData())
        for record in parsed.resource_logs[0].scope_logs[0].log_records:
            found += [
                pair.value.int_value for pair in record.attributes if pair.key == "asml.index"
            ]
    assert found == list(range(run.reader.size()))


def test_cloud_events_come_in_batches(log, hook, certificates):
    run = Forwarding(log, webhook(hook, certificates, "cloudevents"))

    run.drain()

    assert hook.requests[0][0]["Content-Type"] == "application/cloudevents-batch+json"
    found = [each["subject"] for _, body in hook.requests for each in json.loads(body)]
    assert found == [str(index) for index in range(run.reader.size())]


def test_a_batch_without_confirmation_is_sent_again(log, hook, certificates):
    def answer(n, handler):
        return (500, {}, b"") if n == 2 else (200, {}, b"")

    hook.answer = answer
    run = Forwarding(log, webhook(hook, certificates))
    run.job.step()

    with pytest.raises(ServiceUnavailableError, match="500"):
        run.job.step()
    before = run.cursor()
    run.drain()

    assert before == 100
    assert hook.requests[1][1] == hook.requests[2][1]
    assert hook.indices() == [*range(200), *range(100, run.reader.size())]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_skips_nothing_and_is_told_once(log, hook, certificates, status):
    hook.answer = lambda n, handler: (status, {}, b"no\x1b[2Jthanks")
    run = Forwarding(log, webhook(hook, certificates))

    waits = [run.runner.once() for _ in range(4)]

    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert run.facts == [("alert.raise", "misconfigured", "siem")]
    assert run.cursor() == 0
    assert "\x1b" not in run.book.troubles()[0].because
    hook.answer = lambda n, handler: (204, {}, b"")
    run.runner.once()
    assert run.facts[1:] == [("alert.close", None, "siem")]
    assert run.cursor() == 100


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_not_followed(log, hook, certificates, status):
    hook.answer = lambda n, handler: (status, {"Location": hook.url + "/else"}, b"")
    run = Forwarding(log, webhook(hook, certificates))

    with pytest.raises(ServiceRefusedError, match="redirect"):
        run.job.step()

    assert [headers["path"] for headers, _ in hook.requests] == ["/hook"]
    assert run.cursor() == 0


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [("7", 7.0), ("999999999", 300.0), ("-5", 0.0), ("soon", 0.0), ("9" * 40, 0.0)],
    ids=["seconds", "years", "negative", "words", "absurd"],
)
@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_receiver_may_say_when_to_come_again(log, hook, certificates, status, said, wait_s):
    hook.answer = lambda n, handler: (status, {"Retry-After": said}, b"")
    run = Forwarding(log, webhook(hook, certificates))
    with pytest.raises(ServiceUnavailableError):
        run.job.step()
    hook.answer = lambda n, handler: (200, {}, b"")

    run.now_s += wait_s - 0.1
    if wait_s:
        with pytest.raises(ServiceUnavailableError, match="asked to wait"):
            run.job.step()
    asked = len(hook.requests)
    run.now_s += 0.2
    run.job.step()

    assert asked == 1
    assert run.cursor() == 100


def trickle(n, handler):
    """One byte now and then, for as long as somebody reads."""
    stop = threading.Event()
    try:
        while not stop.wait(0.1):
            handler.wfile.write(b"H")
            handler.wfile.flush()
    except OSError:
        return


def silent(n, handler):
    handler.rfile.read(1)


def cut(n, handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def endless(n, handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            handler.wfile.write(b"x" * 4096)
    except OSError:
        return


def nothing(n, handler):
    return None


@pytest.mark.parametrize("answer", [trickle, silent, cut, endless, nothing])
def test_an_ill_receiver_ends_in_time_and_confirms_nothing(log, hook, certificates, answer):
    hook.answer = answer
    run = Forwarding(log, webhook(hook, certificates))
    begun = time.monotonic()

    with pytest.raises(ServiceUnavailableError):
        run.job.step()

    assert time.monotonic() - begun < LATEST_S
    assert run.cursor() == 0


def test_records_that_a_collector_rejects_are_not_passed_over(log, hook, certificates):
    said = json.dumps({"partialSuccess": {"rejectedLogRecords": "3"}}).encode()
    hook.answer = lambda n, handler: (200, {}, said)
    run = Forwarding(log, webhook(hook, certificates, "otlp", ""))

    with pytest.raises(ServiceRefusedError, match="rejected 3"):
        run.job.step()

    assert run.cursor() == 0


def test_a_stranger_with_another_certificate_gets_nothing(log, hook, certificates, tmp_path):
    other = make_certificate(tmp_path)
    run = Forwarding(log, webhook(hook, other))

    with pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        run.job.step()

    assert hook.requests == []


def test_a_token_comes_from_a_private_file_alone(log, hook, certificates, tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("s3cret-token\n")
    run = Forwarding(log, webhook(hook, certificates, token_path=path))
    run.job.step()
    path.chmod(0o640)

    with pytest.raises(ConfigurationError, match="siem_token_path") as told:
        run.job.step()

    assert hook.requests[0][0]["Authorization"] == "Bearer s3cret-token"
    assert "s3cret" not in str(told.value)
    assert len(hook.requests) == 1


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ä", "x" * 5000])
def test_what_is_no_token_is_never_sent(log, hook, certificates, tmp_path, token):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_bytes(token.encode())
    run = Forwarding(log, webhook(hook, certificates, token_path=path))

    with pytest.raises(ConfigurationError, match="siem_token_path"):
        run.job.step()

    assert hook.requests == []


def syslog(port, certificates):
    return SyslogReceiver(Place(host="127.0.0.1", port=port), ca=str(certificates[0]), **LIMITS)


def test_syslog_gets_frames_that_count_octets(log, certificates):
    with syslog_server(certificates[1]) as (said, port):
        run = Forwarding(log, syslog(port, certificates))
        run.drain()

    messages = messages_of(b"".join(said))
    assert len(messages) == run.reader.size() == run.cursor()
    head = re.compile(
        r"<1(0[4-9]|1[01])>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z - \S+ - \S{1,32} - CEF:0\|"
    )
    assert all(head.match(message) for message in messages)
    assert all("\n" not in message for message in messages)
    found = [int(re.search(r" cn1=(\d+) ", message)[1]) for message in messages]
    assert found == list(range(run.reader.size()))


@pytest.mark.parametrize(
    ("host", "is_known", "reason"),
    [
        ("127.0.0.1", False, "CERTIFICATE_VERIFY_FAILED"),
        # The same receiver, and its certificate does not name this host.
        ("localhost", True, "Hostname mismatch"),
    ],
    ids=["another certificate", "another name"],
)
def test_a_stranger_at_the_place_of_syslog_gets_nothing(
    log, certificates, tmp_path, host, is_known, reason
):
    trusted, _ = certificates if is_known else make_certificate(tmp_path)
    with syslog_server(certificates[1]) as (said, port):
        place = Place(host=host, port=port)
        run = Forwarding(log, SyslogReceiver(place, ca=str(trusted), **LIMITS))

        with pytest.raises(ServiceUnavailableError, match=reason):
            run.job.step()

    assert b"".join(said) == b""
    assert run.cursor() == 0


def bare_end(line):
    line.shutdown(socket.SHUT_RDWR)


def never(line):
    line.settimeout(10.0)
    socket.socket.recv(line, 1)


@pytest.mark.parametrize("end", [bare_end, never])
def test_an_end_that_anybody_on_the_way_could_make_confirms_nothing(log, certificates, end):
    begun = time.monotonic()
    with syslog_server(certificates[1], end=end) as (_, port):
        run = Forwarding(log, syslog(port, certificates))

        with pytest.raises(ServiceUnavailableError):
            run.job.step()

    assert time.monotonic() - begun < LATEST_S
    assert run.cursor() == 0


def test_another_log_under_the_same_cursor_is_an_alarm(log, hook, certificates):
    run = Forwarding(log, webhook(hook, certificates))
    run.job.step()
    cursor = parse_cursor(run.book.cursor(run.job.name))
    wrong = [
        Cursor(origin="example.org/else", next=cursor.next, last=cursor.last),
        Cursor(origin=cursor.origin, next=cursor.next, last=b"\7" * 32),
        Cursor(origin=cursor.origin, next=9_999, last=cursor.last),
    ]

    for each in wrong:
        run.book.move(run.job.name, each.encode())
        with pytest.raises(AuditLogError, match="rolled back"):
            run.job.step()

    assert len(hook.requests) == 1


@pytest.mark.parametrize(
    "text", ["", "7", "2 7 - x", "1 7 - x", "1 07 - x", "1 0 " + "a" * 64 + " x"]
)
def test_an_edited_cursor_is_not_believed(log, hook, certificates, text):
    run = Forwarding(log, webhook(hook, certificates))
    run.book.move(run.job.name, text)

    with pytest.raises(FormatError, match="cursor"):
        run.job.step()

    assert hook.requests == []
