"""Who reads, edits, logs in or is denied at a real API server stands in the trail, and no value."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import statistics
import threading
import time
import urllib.parse

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.log_of import log_of

pytestmark = pytest.mark.airflow

CANARY = "canary-value-9f31c0"
RUN = "scheduled__day-07"
TASK = f"/api/v2/dags/secure_training/dagRuns/{RUN}/taskInstances/score"
TASK_ROUTE = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}"
RECORDED_S = 60


class Client:
    """A client of the API with a token or with a browser's cookie."""

    def __init__(self, airflow, user, *, cookie=False):
        self.url, self.address = airflow.url, urllib.parse.urlsplit(airflow.url).netloc
        token = airflow.token(user) if user else ""
        self.headers = {"Cookie": f"_token={token}"} if cookie else {}
        if user and not cookie:
            self.headers = {"Authorization": f"Bearer {token}"}
        self.token = token

    def ask(self, method, path, body=None, **headers):
        """Status and answer; the path goes out as it is."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            kind = {"Content-Type": "application/json"}
            connection.request(method, path, data, kind | self.headers | headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def client(page_airflow):
    return lambda user=None, **more: Client(page_airflow, user, **more)


@pytest.fixture
def acts(page_airflow):
    """Waits for the events that a test's own requests made."""
    reader = log_of(page_airflow.audit_dir)
    begin = reader.size()

    def found(**wanted):
        deadline = time.monotonic() + RECORDED_S
        while time.monotonic() < deadline:
            leaves = reader.page(EventQuery(acts=("user.act",), above_index=begin - 1), limit=1000)
            told = [told_by(reader, leaf.event) for leaf in leaves]
            match = [one for one in told if wanted.items() <= one.items()]
            if match:
                return match
            time.sleep(0.1)
        raise AssertionError(f"no event with {wanted} in {told}")

    return found


def told_by(reader, event):
    who = reader.reveal(event["by"]["h"]) if "by" in event else None
    said = {"by": who, "result": event["result"], "why": event.get("why"), **event["more"]}
    return said | {f"run_{name}": value for name, value in event.get("run", {}).items()}


@pytest.mark.parametrize("cookie", [False, True], ids=["token", "cookie"])
def test_reads_name_the_reader_and_the_thing(client, acts, cookie):
    reader = client("vera" if cookie else "olaf", cookie=cookie)
    name = "vera" if cookie else "olaf"

    status, _ = reader.ask("GET", TASK)
    missing, _ = reader.ask("GET", f"{TASK}/xcomEntries/auc%2Fmean?map_index=2")
    log, _ = reader.ask("GET", f"{TASK}/logs/1")

    assert (status, missing) == (200, 404)
    (rendered,) = acts(action="get_task_instance", by=name)
    assert rendered["path"] == TASK_ROUTE
    assert (rendered["run_dag"], rendered["run_run"], rendered["run_task"]) == (
        "secure_training", RUN, "score",
    )  # fmt: skip
    assert (rendered["result"], rendered["status"], rendered["method"]) == ("ok", 200, "GET")
    (xcom,) = acts(action="get_xcom_entry", by=name)
    assert (xcom["result"], xcom["why"]) == ("failed", "request_invalid")
    assert (xcom["resource"], xcom["run_map"]) == ("auc/mean", 2)
    (read,) = acts(action="get_log", by=name)
    assert (read["run_try"], read["status"]) == (1, log)


def test_connections_and_variables_are_told_by_name_and_never_by_value(client, acts, page_airflow):
    admin = client("admin")
    connection = {"connection_id": "lake", "conn_type": "http", "password": CANARY}
    variable = {"key": "threshold/eu", "value": CANARY}

    made = [
        admin.ask("POST", "/api/v2/connections", connection)[0],
        admin.ask("POST", "/api/v2/variables", variable)[0],
    ]
    read = [
        admin.ask("GET", "/api/v2/connections/lake")[0],
        admin.ask("GET", "/api/v2/variables/threshold%2Feu")[0],
        admin.ask("PATCH", "/api/v2/variables/threshold%2Feu", variable)[0],
        admin.ask("DELETE", "/api/v2/connections/lake")[0],
        admin.ask("DELETE", "/api/v2/variables/threshold%2Feu")[0],
    ]

    assert made == [201, 201]
    assert read == [200, 200, 200, 204, 204]
    for action, resource in (
        ("post_connection", None), ("post_variable", None), ("get_connection", "lake"),
        ("get_variable", "threshold/eu"), ("patch_variable", "threshold/eu"),
        ("delete_connection", "lake"), ("delete_variable", "threshold/eu"),
    ):  # fmt: skip
        (told,) = acts(action=action, by="admin")
        assert (told.get("resource"), told["result"]) == (resource, "ok"), action
    held = (page_airflow.audit_dir / LOG_FILE).read_bytes()
    held += b"".join(path.read_bytes() for path in page_airflow.audit_dir.glob("trail.db-*"))
    held += b"".join(path.read_bytes() for path in page_airflow.audit_dir.glob("spool/*"))
    assert CANARY.encode() not in held
    assert admin.token.encode() not in held


def test_logins_are_told_and_failures_too(client, acts):
    nobody = client()

    good, _ = nobody.ask("POST", "/auth/token", {"username": "vera", "password": "vera-pw"})
    bad, _ = nobody.ask("POST", "/auth/token", {"username": "vera", "password": CANARY})

    assert (good, bad) == (201, 401)
    (refused,) = acts(action="create_token", status=401)
    assert (refused["result"], refused["why"], refused["by"]) == ("refused", "access_denied", None)
    assert refused["peer"] == "127.0.0.1"
    assert acts(action="create_token", status=201, result="ok")


def test_who_is_denied_is_named_where_airflow_knew(client, acts):
    denied, _ = client("bill").ask("GET", "/api/v2/dagSources/secure_training")
    anonymous, _ = client().ask("GET", "/api/v2/connections/secret_one")
    forged, _ = client().ask("GET", "/api/v2/config", Authorization="Bearer forged")
    ui, _ = client().ask("GET", "/ui/dags")

    assert (denied, anonymous, ui) == (403, 401, 401)
    assert forged in (401, 403)
    (told,) = acts(action="get_dag_source", by="bill")
    assert (told["result"], told["why"], told["run_dag"]) == (
        "refused", "access_denied", "secure_training",
    )  # fmt: skip
    assert [one["by"] for one in acts(action="get_connection", status=401)] == [None]
    assert [one["by"] for one in acts(action="get_config", status=forged)] == [None]
    assert [one["path"] for one in acts(action="get_dags", status=401)] == ["/ui/dags"]


def test_edits_are_told_with_the_route(client, acts):
    admin = client("admin")

    admin.ask("POST", "/api/v2/pools", {"name": "gpu", "slots": 1})
    run = {"dag_run_id": "by-hand", "logical_date": None}
    triggered, _ = admin.ask("POST", "/api/v2/dags/billing_churn/dagRuns", run)
    admin.ask("PATCH", "/api/v2/dags/billing_churn/dagRuns/by-hand", {"state": "failed"})
    admin.ask(
        "POST", "/api/v2/dags/billing_churn/clearTaskInstances",
        {"dry_run": False, "dag_run_id": "by-hand"},
    )  # fmt: skip

    assert triggered == 200
    assert acts(action="post_pool", by="admin", path="/api/v2/pools")
    assert acts(action="trigger_dag_run", by="admin", run_dag="billing_churn", result="ok")
    assert acts(action="patch_dag_run", by="admin", run_run="by-hand", result="ok")
    assert acts(action="post_clear_task_instances", by="admin", run_dag="billing_churn")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/connections/a%00%1b%5b2J%0d%0aforged"),
        ("GET", "/api/v2/variables/" + "x" * 30_000),
        ("GET", "/api/v2/connections/%ff%fe%ed%a0%80"),
        ("GET", "/api/v2/dags/%E2%80%AE/dagRuns/~/taskInstances?map_index=" + "9" * 400),
        ("HEAD", "/api/v2/connections/x"),
        ("OPTIONS", "/api/v2/connections/x"),
        ("GET", "//api/v2/connections/x"),
        ("GET", "/execution/../api/v2/connections/x"),
        ("PATCH", "/api/v2/connections/x"),
        ("POST", "/nothing/here"),
        ("GET", "/secure-ml/nothing"),
        ("GET", "/secure-ml/events?q=" + "%00" * 50),
    ],
)
def test_hostile_requests_get_airflows_answer(client, acts, method, path):
    admin = client("admin")

    status, _ = admin.ask(method, path)

    # Whatever it is, the server answers, goes on, and records what comes next.
    assert status < 600
    mark = f"after-{hashlib.sha256((method + path).encode()).hexdigest()[:16]}"
    assert admin.ask("GET", f"/api/v2/connections/{mark}")[0] == 404
    (told,) = acts(resource=mark)
    assert told["by"] == "admin"


def test_a_client_that_hangs_up_breaks_nothing(client, acts, page_airflow):
    admin = client("admin")
    address = urllib.parse.urlsplit(page_airflow.url)
    request = (
        f"GET {TASK}/logs/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin.token}\r\n\r\n"
    ).encode()

    for _ in range(20):
        with socket.create_connection((address.hostname, address.port)) as gone:
            gone.sendall(request)

    assert admin.ask("GET", "/api/v2/connections/still-there")[0] == 404
    assert acts(resource="still-there")


def test_tasks_own_calls_leave_no_event(client, acts):
    client().ask("GET", "/execution/connections/taken-by-a-task")
    client("admin").ask("GET", "/api/v2/connections/taken-by-a-person")

    acts(resource="taken-by-a-person")
    told = {one.get("resource") for one in acts(action="get_connection")}
    assert "taken-by-a-task" not in told


def test_a_page_that_asks_again_and_again_is_one_event(client, acts):
    admin = client("admin")

    for _ in range(30):
        admin.ask("GET", "/api/v2/variables/polled")
    admin.ask("GET", "/api/v2/variables/afterwards")

    acts(resource="afterwards")
    (told,) = acts(resource="polled")
    assert "count" not in told


def test_a_stranger_makes_one_event_however_often_and_for_whatever(client, acts):
    nobody = client()

    for number in range(30):
        nobody.ask("GET", f"/api/v2/pools/guess-{number}")
        nobody.ask("PATCH", f"/api/v2/pools/guess-{number}")
    client("admin").ask("GET", "/api/v2/variables/after-guessing")

    acts(resource="after-guessing")
    assert len(acts(by=None, action="patch_pool")) == 1
    assert len(acts(by=None, action="get_pool")) == 1


def test_an_event_is_durable_soon(client, acts, page_airflow):
    admin, took = client("admin"), []
    reader = log_of(page_airflow.audit_dir)
    spool = page_airflow.audit_dir / "spool"

    for number in range(5):
        mark = f"soon-{number}".encode()
        admin.ask("GET", f"/api/v2/connections/soon-{number}")
        began = time.monotonic()
        while not _lies_in(mark, spool, reader):
            assert time.monotonic() - began < 30
            time.sleep(0.01)
        took.append(time.monotonic() - began)

    assert statistics.median(took) < 5.0


def _lies_in(mark, spool, reader):
    for path in spool.glob("*.seg"):
        try:
            if mark in path.read_bytes():
                return True
        except FileNotFoundError:
            # Taken in meanwhile.
            continue
    return bool(reader.page(EventQuery(text=mark.decode()), limit=1))


def test_many_at_once_are_all_there(client, acts):
    admin, statuses = client("admin"), []

    def ask(thread):
        for number in range(20):
            statuses.append(admin.ask("GET", f"/api/v2/connections/many-{thread}-{number}")[0])

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    admin.ask("GET", "/api/v2/connections/many-end")

    acts(resource="many-end")
    told = {one["resource"] for one in acts(action="get_connection", by="admin")}
    assert statuses == [404] * 160
    assert {f"many-{t}-{n}" for t in range(8) for n in range(20)} <= told
