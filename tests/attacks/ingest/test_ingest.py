"""Who stands before the ingest end point, and what it takes: forged, endless, slow, again."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from hashlib import sha256

import pytest

from airflow_secure_ml.adapters.ingest import line, tokens
from airflow_secure_ml.adapters.ingest.line import IngestLines
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.ingesting import MAX_BODY_BYTES
from airflow_secure_ml.core.audit.stamp import Stamp
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin import ingest
from tests.attacks.pushing import fact
from tests.services.audit.conftest import ALICE, BOB, chain, event, framed

from .conftest import TOKEN


def taken(site):
    return list((site.path / "ingested").glob("*"))


def test_what_is_handed_over_is_in_the_log_with_where_it_came_from(site, server, token_path):
    sink = EmitterSink("task", IngestLines(server.url, token_path))
    for number in range(3):
        sink.record(fact(f"value {number}"))
        sink.settle()
    emitter = sink.emitter
    sink.close()

    site.run()

    assert site.of(emitter) == [0, 1, 2, 3, 4]
    found = site.events("trail.emitter")[0]["more"]
    assert (found["via"], found["host"]) == ("http", "127.0.0.1")
    assert site.ends(emitter) == ["found", "whole"]
    assert taken(site) == []


@pytest.mark.parametrize(
    "token",
    [None, "", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), TOKEN[:-1] + "e", "ä"],
    ids=["none", "empty", "short", "long", "other case", "last digit", "no ascii"],
)
def test_nobody_gets_in_without_the_token(site, server, token):
    sent = None if token is None else token.encode().decode("latin-1")

    status, said = server.post(framed(chain(ALICE, 2)), emitter=ALICE, token=sent)

    assert (status, said) == (401, "not accepted\n")
    assert taken(site) == []


def test_the_token_is_compared_in_constant_time(server, monkeypatch):
    compared = []
    real = tokens.hmac.compare_digest
    monkeypatch.setattr(
        tokens.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b)
    )

    server.post(b"x", emitter=ALICE, token="f" * 64)

    assert compared == [tuple(sha256(each).digest() for each in (b"f" * 64, TOKEN.encode()))]


def test_a_cookie_is_no_token_and_a_form_is_no_frames(site, server):
    form = {"Content_Type": "application/x-www-form-urlencoded"}

    cookie = server.post(framed(chain(ALICE, 2)), emitter=ALICE, token=None, Cookie="_token=x")
    forged = server.post(b"a=b", emitter=ALICE, **form)

    assert (cookie[0], forged[0]) == (401, 415)
    assert taken(site) == []


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o601], ids=oct)
def test_a_token_that_others_can_read_or_change_opens_nothing(server, token_path, mode):
    token_path.chmod(mode)

    assert server.post(framed(chain(ALICE, 2)), emitter=ALICE)[0] == 503


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"rubbish",
        framed(chain(ALICE, 2))[:-1],
        framed(chain(ALICE, 2)) + bytes(9),
        framed([Stamp(via="socket", pid=1, uid=0).encode()], 3) + framed(chain(ALICE, 2)),
        framed(chain(BOB, 2)),
        framed([event(ALICE, 0, None, act="trail.beat")]),
        framed([event(ALICE, 0, None, "emitter.open"), event(ALICE, 2, b"{}")]),
    ],
    ids=["empty", "rubbish", "cut", "tail", "own stamp", "another's", "sequencer's", "a hole"],
)
def test_what_is_not_this_emitters_frames_is_not_taken(site, server, body):
    status, _ = server.post(body, emitter=ALICE)

    site.run()
    assert status == 409
    assert site.of(ALICE) == []


@pytest.mark.parametrize("emitter", ["", "a" * 31, "A" * 32, "../" + "a" * 29], ids=repr)
def test_an_emitter_is_32_hex_digits(site, server, emitter):
    assert server.post(framed(chain(ALICE, 2)), emitter=emitter)[0] == 400
    assert taken(site) == []


def test_the_same_frames_again_are_acknowledged_and_stand_once(site, server):
    story = chain(ALICE, 5)

    statuses = [
        server.post(framed(story[:3]), emitter=ALICE)[0],
        server.post(framed(story[:3]), emitter=ALICE)[0],
        server.post(framed(story), emitter=ALICE)[0],
        server.post(framed(story), emitter=ALICE)[0],
    ]
    site.run()

    assert statuses == [200, 200, 200, 200]
    assert site.of(ALICE) == [0, 1, 2, 3, 4]
    assert site.events("trail.refused") == []


def test_other_bytes_under_a_number_that_was_sent_are_refused(site, server):
    story = chain(ALICE, 3, is_closed=False)
    server.post(framed(story), emitter=ALICE)

    status, said = server.post(
        framed([event(ALICE, 2, story[1], act="object.seal")]), emitter=ALICE
    )
    site.run()

    assert status == 409
    assert "another event 2" in said
    assert [e["act"] for e in site.events() if e["emitter"] == ALICE][-1] == "object.open"


def test_a_giant_body_is_not_read(site, server):
    assert server.post(b"x" * (MAX_BODY_BYTES + 1), emitter=ALICE)[0] == 413
    assert taken(site) == []


def test_a_body_whose_length_is_not_told_is_not_read(site, server):
    assert server.post(iter([b"x" * 10]), emitter=ALICE)[0] == 411
    assert taken(site) == []


def _head(length):
    return (
        "POST /secure-ml/ingest HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: {ingest.MEDIA_TYPE}\r\n"
        f"{ingest.EMITTER_HEADER}: {ALICE}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_a_slow_body_is_let_go_of(server, monkeypatch):
    monkeypatch.setattr(ingest, "BODY_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        slow.sendall(_head(1000) + b"x")
        answer = http.client.HTTPResponse(slow)
        answer.begin()

        assert answer.status == 408


def test_too_many_at_once_are_told_to_come_again(server, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_AT_ONCE", 2)
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(2)]
    for each in held:
        each.sendall(_head(1000) + b"x")
    deadline = time.monotonic() + 20
    while ingest.shared_door().inside < 2 and time.monotonic() < deadline:
        time.sleep(0.01)

    refused = server.post(framed(chain(ALICE, 2)), emitter=ALICE)
    for each in held:
        each.close()
    while ingest.shared_door().inside and time.monotonic() < deadline:
        time.sleep(0.01)
    taken = server.post(framed(chain(ALICE, 2)), emitter=ALICE)

    assert (refused[0], taken[0]) == (429, 200)


def test_above_high_water_a_sender_waits_and_below_it_goes_on(site, server, token_path):
    receiver = ingest.shared_door().receiver
    receiver._high_water_bytes, receiver._counted_s = 10_000, float("-inf")
    folder = site.path / "ingested"
    folder.mkdir(mode=0o700)
    (folder / "waiting").write_bytes(bytes(20_000))
    sink = EmitterSink("task", IngestLines(server.url, token_path, patience_s=60.0))
    sink.record(fact("value"))
    hasty = EmitterSink("task", IngestLines(server.url, token_path, patience_s=0.0))
    hasty.record(fact("value"))

    with pytest.raises(ServiceUnavailableError, match="no room now") as caught:
        hasty.settle()
    waiting = threading.Thread(target=sink.settle)
    waiting.start()
    (folder / "waiting").unlink()
    waiting.join(60)

    assert not waiting.is_alive()
    assert TOKEN not in str(caught.value)
    emitter = sink.emitter
    sink.close()
    site.run()
    assert site.of(emitter) == [0, 1, 2]


def test_without_a_token_there_is_no_door(site, server, settings):
    import dataclasses

    from airflow_secure_ml.deployment import Deployment, use_deployment

    use_deployment(Deployment(dataclasses.replace(settings, audit_ingest_token_path=None)))

    assert server.post(framed(chain(ALICE, 2)), emitter=ALICE)[0] == 404


def test_no_token_is_logged(server, caplog):
    caplog.set_level("DEBUG")

    server.post(framed(chain(BOB, 2)), emitter=ALICE)
    server.post(b"x", emitter=ALICE, token=TOKEN[:-1] + "e")

    assert "not taken" in caplog.text
    assert TOKEN[:40] not in caplog.text


def test_a_sender_behind_another_address_goes_on_with_its_emitter(site, server):
    story = chain(ALICE, 4)
    receiver = ingest.shared_door().receiver
    receiver.take(ALICE, framed(story[:2]), "10.0.0.1")
    receiver.close()
    receiver.take(ALICE, framed(story[2:]), "10.0.0.2")

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert site.events("trail.refused") == []


DRIPPING = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Slow: ",
    b"",
)


@pytest.mark.parametrize("begins", DRIPPING, ids=["body", "head", "silence"])
def test_an_end_point_that_drips_is_left_after_a_set_time(token_path, monkeypatch, begins):
    monkeypatch.setattr(line, "_ANSWER_S", 0.5)
    done = threading.Event()

    def drip(client):
        with client, contextlib.suppress(OSError):
            client.recv(1 << 16)
            client.sendall(begins)
            while not done.wait(0.02):
                client.sendall(b"x" * bool(begins))

    def serve(door):
        with contextlib.suppress(OSError):
            while True:
                client, _ = door.accept()
                threading.Thread(target=drip, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, args=(door,), daemon=True).start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}/secure-ml/ingest"
        sink = EmitterSink("task", IngestLines(url, token_path, patience_s=0.0))
        sink.record(fact("value"))
        began_s = time.monotonic()

        with pytest.raises(ServiceUnavailableError):
            sink.settle()

        assert time.monotonic() - began_s < 10
        done.set()
