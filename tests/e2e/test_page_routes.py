"""The pages' routes on a running API server: who is let in, what is told, what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse

import pytest
from markupsafe import escape

from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.proving import check_proof
from tests.e2e.asking import Asker, rows_in, until

pytestmark = pytest.mark.airflow
ROUTES = (
    "", "events", "dag?dag_id=refusals", "task?dag_id=refusals&run_id=r&task_id=t",
    "event?name=x:0", "newer?name=x:0", "run?dag_id=refusals&run_id=r", "integrity",
    "complete?q=dag:",
    "objects", "object?uri=x", "lineage?uri=x", "keys", "key?name=x", "leases", "principals",
    "principal?id=x", "alerts", "rules", "export", "reviews", "review?name=x:0",
    "note?event=x:0", "reports", "report?first=2026-11-01&last=2026-11-01", "static/page.css",
)  # fmt: skip
POSTS = (
    "alerts", "people", "principal", "person", "proof", "verify", "export", "name-reviewers",
    "assign-review", "note-review", "sign-review",
)  # fmt: skip
RUN = "scheduled__day-07"


@pytest.fixture
def reader(page_airflow):
    return lambda user=None: Asker(page_airflow, user)


def newest(store, **query):
    return store.page(EventQuery(**query), limit=1)[0]


def name_of(leaf):
    return f"{leaf.event['emitter']}:{leaf.event['seq']}"


@pytest.mark.parametrize("path", ROUTES, ids=lambda path: path.partition("?")[0] or "start")
def test_anonymous_is_refused_everywhere(reader, path):
    assert reader().ask(path)[0] == 401


@pytest.mark.parametrize("path", POSTS)
def test_anonymous_changes_nothing(reader, path):
    assert reader().ask(path, {"token": "x", "name": "x:0"})[0] == 401


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "static/../app.py", "static/x"])
def test_nothing_is_served_besides(reader, path):
    assert reader("admin").ask(path)[0] == 404


def test_the_routes_tried_are_all_there_are():
    code = (
        "from airflow_secure_ml.plugin.app import create_app\n"
        "import json\nfound = set()\n"
        "def walk(routes):\n"
        "    for r in routes:\n"
        "        inner = getattr(getattr(r, 'original_router', None), 'routes', None)\n"
        "        walk(inner) if inner else found.add(r.path)\n"
        "walk(create_app().routes)\nprint(json.dumps(sorted(found)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=120
    )
    tried = {"/" + path.partition("?")[0] for path in (*ROUTES, *POSTS)} - {"/static/page.css"}

    # The last is a program's: tests/attacks/ingest.
    others = {"/static/{name}", "/ingest"}
    assert set(json.loads(done.stdout.splitlines()[-1])) == tried | others


def test_whoever_is_logged_in_finds_no_door_for_programs(reader):
    admin = reader("admin")

    status, _, headers = admin.ask("ingest", {"token": admin.form_token()})

    assert status == 404
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert admin.ask("ingest")[0] == 405


def test_every_answer_carries_the_headers(reader):
    status, _, headers = reader("admin").ask("events")

    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_a_viewer_of_every_dag_sees_the_whole_log(reader):
    status, html, _ = reader("vera").ask("events?q=show:everything")

    assert status == 200
    assert "signature holds" in html
    assert reader("vera").ask("integrity")[0] == 200


def test_a_viewer_of_some_dags_sees_theirs_and_not_how_many_others(reader, page_airflow):
    bill = reader("bill")

    status, html, _ = bill.ask("events?q=show:everything")

    assert status == 200
    assert "billing_churn" in html
    assert "There are others" in html
    assert "secure_training" not in html
    assert f"{page_airflow.size:,}" not in html
    assert "proven" not in html


@pytest.mark.parametrize(
    "path",
    ["run?dag_id=secure_training&run_id=" + RUN, "dag?dag_id=refusals", "integrity"],
    ids=["run", "dag", "integrity"],
)
def test_what_is_not_theirs_is_refused(reader, path):
    assert reader("bill").ask(path)[0] == 403


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("dag?dag_id=refusals", "it is not sealed"),
        (f"task?dag_id=secure_training&run_id={RUN}&task_id=score", "refused to open model"),
        (f"run?dag_id=secure_training&run_id={RUN}", "4 of 5 task tries recorded"),
        ("run?dag_id=secure_training&run_id=never", "Nothing is recorded of this run"),
    ],
    ids=["dag", "task", "run", "no such run"],
)
def test_a_tab_shows_its_own(reader, path, shown):
    status, html, _ = reader("vera").ask(path)

    assert status == 200
    assert shown in html


def test_a_filter_does_not_widen_what_may_be_seen(reader):
    _, html, _ = reader("bill").ask("events?q=dag:secure_training")

    assert "No event matches" in html


def test_an_event_of_another_dag_looks_like_one_that_is_not_there(reader, store):
    foreign = name_of(newest(store, dag="secure_training"))

    answers = [reader("bill").ask(f"event?name={name}")[:2] for name in (foreign, "0" * 32 + ":1")]

    assert [status for status, _ in answers] == [404, 404]
    assert answers[0][1] == answers[1][1]


def test_an_event_without_a_dag_needs_the_whole_log(reader, store):
    own = name_of(newest(store, acts=("trail.emitter",)))

    assert reader("bill").ask(f"event?name={own}")[0] == 404
    assert reader("vera").ask(f"event?name={own}")[0] == 200


def test_a_viewer_of_some_dags_gets_no_index_and_no_proof(reader, store):
    leaf = newest(store, dag="billing_churn")

    _, html, _ = reader("bill").ask(f"event?name={name_of(leaf)}")

    assert "Check it here" not in html
    assert f"Event {leaf.index:,} of" not in html


def test_who_may_read_nothing_is_told_so(reader):
    assert reader("nora").ask("events")[0] == 403


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("token", ["", "x", "1.2", "999999.00"], ids=["none", "x", "old", "forged"])
def test_a_change_without_a_token_is_refused(reader, store, path, token):
    form = {"token": token, "name": name_of(newest(store))}

    assert reader("admin").ask(path, form)[0] in (403, 422)


def test_a_token_is_of_one_user(reader):
    token = reader("vera").form_token()

    assert reader("admin").ask("verify", {"token": token})[0] == 403


def test_another_site_cannot_ask(reader):
    admin = reader("admin")

    status, _, _ = admin.ask(
        "verify", {"token": admin.form_token()}, **{"Sec-Fetch-Site": "cross-site"}
    )

    assert status == 403


def test_reading_by_the_wrong_method_is_refused(reader):
    assert reader("admin").ask("verify")[0] == 405


@pytest.mark.parametrize(
    "attack",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "' OR 1=1 --"],
    ids=["script", "attribute", "template", "sql"],
)
def test_a_hostile_filter_stays_text(reader, attack):
    status, html, _ = reader("admin").ask("events?" + urllib.parse.urlencode({"q": attack}))

    assert status == 200
    assert f'name="q" value="{escape(attack)}"' in html
    assert "<script>alert" not in html
    assert "<img" not in html


@pytest.mark.parametrize(
    "query",
    ["older=x", "newer=:", "event=%00", "q=" + "a" * 9000, "older=" + "f" * 32 + ":99999999999999"],
    ids=["older", "newer", "null", "long", "far"],
)
def test_a_broken_address_is_an_answer_and_not_a_crash(reader, query):
    assert reader("admin").ask(f"events?{query}")[0] in (200, 404)


def test_older_and_newer_lead_through_everything_once(reader):
    pages = [answer.text for answer in reader("admin").lists("events?q=dag:secure_training")]
    seen = [name for page in pages for name in rows_in(page)]

    assert len(seen) == len(set(seen))
    assert f"{len(seen):,} events" in pages[-1]


def test_verify_now_says_that_nothing_changed_and_is_on_record(reader, store):
    admin = reader("admin")

    status, text, _ = admin.ask(
        "verify", {"token": admin.form_token()}, Accept="application/x-ndjson"
    )

    verdict = json.loads(text.splitlines()[-1])
    assert (status, verdict["tone"]) == (200, "good")
    assert "Nothing has changed" in verdict["text"]
    leaf = until(lambda: store.page(EventQuery(acts=("trail.verify",), results=("ok",)), limit=1))[
        0
    ]
    assert set(leaf.event["by"]) == {"h", "n"}


def test_verify_now_works_without_scripts(reader):
    admin = reader("admin")

    _, html, _ = admin.ask("verify", {"token": admin.form_token()})

    assert "Nothing has changed" in html


def test_a_kept_checkpoint_is_still_of_the_same_log(reader, store):
    old = store.checkpoint(at_most=300)

    _, html, _ = reader("admin").ask("integrity?" + urllib.parse.urlencode({"old": old}))

    assert "Same log, grown by" in html


def test_a_checkpoint_of_another_history_is_not(reader, store):
    note = store.checkpoint(at_most=300)
    lines = note.split("\n")
    lines[1] = str(int(lines[1]) - 1)

    _, html, _ = reader("admin").ask(
        "integrity?" + urllib.parse.urlencode({"old": "\n".join(lines)})
    )

    assert "not of this log" in html


def test_a_downloaded_proof_proves_and_is_on_record(reader, page_airflow, store):
    admin, leaf = reader("admin"), newest(store, dag="secure_training")
    keys = parse_log_keys((page_airflow.signer_dir / "log_keys").read_text())

    status, text, headers = admin.ask("proof", {"token": admin.form_token(), "name": name_of(leaf)})

    assert status == 200
    assert "attachment" in headers["Content-Disposition"]
    assert check_proof(json.loads(text), keys).origin == store.origin()
    until(lambda: store.page(EventQuery(acts=("trail.export",)), limit=1))


def test_who_did_it_is_shown_only_after_it_is_recorded(reader, store):
    vera, leaf = reader("vera"), newest(store, acts=("key.rotate",))

    _, before, _ = vera.ask(f"event?name={name_of(leaf)}")
    status, after, _ = vera.ask("person", {"token": vera.form_token(), "name": name_of(leaf)})

    assert "maria.keller" not in before
    assert status == 200
    assert "maria.keller" in after
    # Others look at things on the same server.
    asked = EventQuery(acts=("trail.view",), text=name_of(leaf))
    seen = until(lambda: store.page(asked, limit=1))[0]
    assert seen.event["more"]["query"] == name_of(leaf)
