"""Who may review and export, and what hostile answers to the forms come to."""

from __future__ import annotations

import socket
import time
import urllib.parse
import uuid

import pytest

from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.asking import Asker, until

pytestmark = pytest.mark.airflow
HOSTILE = "<script>alert(1)</script>\"'\u202e\x1b[31m"


@pytest.fixture
def asker(page_airflow):
    return lambda user: Asker(page_airflow, user)


def day(ago):
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago * 86_400))


def assign(asker, person="olaf", *, ago=5, **more):
    admin = asker("admin")
    form = {"token": admin.form_token(), "first": day(ago), "last": day(ago), "person": person}
    answer = admin.ask("assign-review", form | more)
    assert answer.status == 303, answer.text[-2000:]
    return urllib.parse.parse_qs(answer.headers["Location"].partition("?")[2])["name"][0]


@pytest.fixture
def count(asker, store):
    """How many events of an activity there are, once all that was recorded so far is in the log."""

    def counted(act):
        # The server's events come in their order: after one that nothing else asks for, all are in.
        admin, mark = asker("admin"), f"dag:{uuid.uuid4().hex}"
        admin.ask("export", {"token": admin.form_token(), "form": "jsonl", "q": mark})
        until(lambda: store.count(EventQuery(acts=("trail.export",), text=mark), at_most=2) == 2)
        return store.count(EventQuery(acts=(act,), excluded=(("text", "dag:"),)), at_most=10_000)

    return counted


def signing(asker, user, name, **more):
    reader = asker(user)
    form = {"token": reader.form_token(), "name": name, "size": "1", **more}
    return reader.ask("sign-review", form)


@pytest.mark.parametrize("user", ["vera", "olaf"])
def test_only_an_administrator_gives_out_reviews(asker, count, user):
    before = count("review.assign")
    reader = asker(user)
    form = {"token": reader.form_token(), "first": day(3), "last": day(3), "person": "vera"}

    assert reader.ask("assign-review", form).status == 403
    assert "Give somebody a period" not in reader.ask("reviews").text
    assert count("review.assign") == before


def test_a_viewer_writes_no_notes(asker, store):
    name, vera = assign(asker), asker("vera")

    answer = vera.ask("note-review", {"token": vera.form_token(), "name": name, "note": "x"})

    assert answer.status == 403
    assert "Add a note" not in vera.ask(f"review?name={name}").text


@pytest.mark.parametrize(
    ("assignee", "user"),
    [("olaf", "admin"), ("admin", "olaf"), ("vera", "vera")],
    ids=["an administrator", "another reviewer", "a viewer it was given to"],
)
def test_who_may_not_sign_off_is_refused(asker, store, assignee, user):
    name = assign(asker, assignee)

    assert signing(asker, user, name).status == 403
    assert "Sign off</button>" not in asker(user).ask(f"review?name={name}").text


def test_a_review_is_signed_off_once(asker, store):
    name = assign(asker)

    assert signing(asker, "olaf", name).status == 303
    assert signing(asker, "olaf", name).status == 409


def test_what_was_not_seen_is_not_signed(asker):
    name = assign(asker)

    answer = signing(asker, "olaf", name, size=str(10**9))

    assert answer.status == 409


def test_a_period_that_is_not_over_is_not_signed_off(asker):
    name = assign(asker, ago=0)

    assert signing(asker, "olaf", name).status == 409


def test_a_reader_of_some_dags_sees_no_reviews_and_no_reports(asker):
    name = assign(asker)

    for path in ("reviews", f"review?name={name}", f"note?event={name}", "reports", "report"):
        answer = asker("ines").ask(path)
        assert answer.status == 403, path
        assert name not in answer.text


@pytest.mark.parametrize("user", ["vera", "bill"])
def test_who_may_only_read_exports_nothing(asker, count, user):
    before = count("trail.export")
    reader = asker(user)

    assert reader.ask("export").status == 403
    page = "integrity" if user == "vera" else "event?name=x"
    token = reader.form_token() if page == "integrity" else "1.x"
    assert reader.ask("export", {"token": token, "form": "csv"}).status == 403
    assert count("trail.export") == before


@pytest.mark.parametrize("form", ["pack", "whole"])
def test_a_reader_of_some_dags_gets_no_pack(asker, store, form):
    ines = asker("ines")
    token = ines.form_token("export")

    assert ines.ask("export", {"token": token, "form": form}).status == 403


def test_a_filter_does_not_widen_what_is_exported(asker):
    ines = asker("ines")
    form = {"token": ines.form_token("export"), "form": "jsonl", "q": "dag:secure_training"}

    answer = ines.ask("export", form)

    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize(
    "form",
    [
        {"form": "exe"},
        {"form": "csv", "q": "colour:red"},
        {"form": "csv", "token": "1.2"},
        {"form": "csv", "token": ""},
    ],
    ids=["another form", "a broken filter", "a forged token", "no token"],
)
def test_what_is_not_understood_exports_nothing(asker, count, form):
    admin, before = asker("admin"), count("trail.export")

    answer = admin.ask("export", {"token": admin.form_token(), "form": "csv"} | form)

    assert answer.status in (400, 403, 422)
    assert count("trail.export") == before


@pytest.mark.parametrize(
    "form",
    [
        {"first": "2026-13-01"},
        {"first": "<script>"},
        {"first": "9999-12-31", "last": "9999-12-31"},
        {"last": "1999-01-01"},
        {"person": ""},
        {"person": "  "},
        {"person": "x" * 300},
        {"note": "x" * 3000},
    ],
    ids=["no day", "markup", "the end of time", "turned round", "nobody", "blank", "long", "talk"],
)
def test_a_review_that_makes_no_sense_is_not_given_out(asker, count, form):
    admin, before = asker("admin"), count("review.assign")
    whole = {"token": admin.form_token(), "first": day(4), "last": day(3), "person": "olaf"}

    assert admin.ask("assign-review", whole | form).status in (400, 422)
    assert count("review.assign") == before


@pytest.mark.parametrize(
    "text", ["\0", "\ud800".encode("utf-8", "surrogatepass")], ids=["NUL", "half"]
)
def test_what_no_event_can_hold_is_refused_and_not_an_error(asker, store, text):
    admin = asker("admin")
    form = {"token": admin.form_token(), "first": day(4), "last": day(3), "person": text}

    assert admin.ask("assign-review", form).status in (303, 400)
    assert admin.ask("reviews").status == 200


def test_what_people_write_stays_text(asker):
    name = assign(asker, HOSTILE, note=HOSTILE)
    admin = asker("admin")
    admin.ask("note-review", {"token": admin.form_token(), "name": name, "note": HOSTILE})

    shown = admin.ask("name-reviewers", {"token": admin.form_token(), "name": name})

    assert shown.status == 200
    assert "<script>alert" not in shown.text
    assert shown.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert "\u202e" not in shown.text
    assert "\x1b" not in shown.text


@pytest.mark.parametrize("name", ["", "x", "x:0", "0" * 32 + ":0", "../reviews", HOSTILE])
def test_what_is_no_review_is_not_found(asker, name):
    admin = asker("admin")

    found = admin.ask("review?" + urllib.parse.urlencode({"name": name}))

    assert found.status == 404
    assert signing(asker, "admin", name).status in (404, 422)


def test_a_note_is_on_an_event_that_is_there(asker, count):
    name, admin, before = assign(asker), asker("admin"), count("review.note")
    form = {"token": admin.form_token(), "name": name, "note": "x", "event": "x:0"}

    assert admin.ask("note-review", form).status == 404
    assert count("review.note") == before


def test_a_download_that_breaks_off_is_recorded_as_failed(asker, store, page_airflow):
    admin = asker("admin")
    form = {"token": admin.form_token(), "form": "csv", "q": "show:everything"}
    body = urllib.parse.urlencode(form).encode()
    host, port = page_airflow.url.removeprefix("http://").split(":")

    with socket.socket() as plug:
        # The smallest that there is, so that the file cannot wait on its way.
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        plug.connect((host, int(port)))
        head = (
            f"POST /secure-ml/export HTTP/1.1\r\nHost: {host}\r\nCookie: {admin.cookie}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        plug.sendall(head.encode() + body)
        assert plug.recv(512).startswith(b"HTTP/1.1 200")

    def broken_off():
        found = store.page(EventQuery(acts=("trail.export",), results=("failed",)), limit=1)
        return found and found[0].event

    outcome = until(broken_off)
    assert outcome["why"] == "broken_off"
    assert store.find(outcome["of"]).event["more"]["query"] == "show:everything"
