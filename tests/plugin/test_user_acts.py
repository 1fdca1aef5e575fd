"""Which requests are acts, and that no client decides what an event looks like."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.event import assemble
from airflow_secure_ml.core.redaction import redact
from airflow_secure_ml.plugin.user_acts import (
    MAX_ID_CHARS,
    Answered,
    clean,
    fact_of,
    kind_of,
    repeats_as,
)

TI = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}"
XCOM = TI + "/xcomEntries/{xcom_key:path}"
AT = {"emitter": "0" * 32, "seq": 1, "prev": "0" * 64, "time": 1, "mono": 1}


def answered(pattern=XCOM, method="GET", status=200, **more):
    ids = more.pop(
        "ids", {"dag_id": "churn", "dag_run_id": "r1", "task_id": "train", "xcom_key": "auc"}
    )
    return Answered(method=method, pattern=pattern, status=status, ids=ids, **more)


def written(fact):
    """The event's bytes, as a spool would write them."""
    record, asides = redact(assemble(fact, **AT), names=(), salt=lambda path, value: b"s" * 16)
    return canonical.encode(record), asides


@pytest.mark.parametrize(
    ("method", "pattern", "status", "kind"),
    [
        ("GET", XCOM, 200, "read"),
        ("GET", XCOM, 304, "read"),
        ("GET", XCOM, 404, "read"),
        ("GET", XCOM, 500, "read"),
        ("GET", XCOM, None, "read"),
        ("GET", TI, 200, "read"),
        ("GET", TI + "/logs/{try_number}", 200, "read"),
        ("GET", "/api/v2/connections", 200, "read"),
        ("GET", "/api/v2/connections/{connection_id}", 200, "read"),
        ("GET", "/api/v2/variables/{variable_key:path}", 200, "read"),
        ("GET", "/api/v2/dagSources/{dag_id}", 200, "read"),
        ("GET", "/api/v2/config", 200, "read"),
        ("POST", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/list", 200, "read"),
        ("POST", "/api/v2/dags/{dag_id}/dagRuns", 200, "edit"),
        ("POST", "/api/v2/dags/{dag_id}/clearTaskInstances", 200, "edit"),
        ("PATCH", TI, 200, "edit"),
        ("DELETE", "/api/v2/pools/{pool_name:path}", 204, "edit"),
        ("POST", "/ui/auth/token", 201, "edit"),
        ("OTHER", "/api/v2/pools", 200, "edit"),
        ("POST", "/auth/token", 201, "login"),
        ("POST", "/auth/token", 401, "login"),
        ("GET", "/auth/token/login", 307, "login"),
        ("GET", "/api/v2/auth/logout", 307, "logout"),
        ("GET", "/ui/dags", 401, "denied"),
        ("OPTIONS", "/ui/dags", 403, "denied"),
        ("GET", "/secure-ml/events", 403, "denied"),
        ("GET", "", 401, "denied"),
        # Nothing that shows or changes anything.
        ("GET", "/ui/dags", 200, None),
        ("GET", "/ui/connections/hook_meta", 200, None),
        ("GET", "/api/v2/monitor/health", 200, None),
        ("GET", TI + "/links", 200, None),
        ("PATCH", TI + "/dry_run", 200, None),
        ("POST", "/api/v2/dags/{dag_id}/dagRuns/list", 200, None),
        ("HEAD", "/api/v2/variables/{variable_key:path}", 405, None),
        ("OPTIONS", "/api/v2/variables/{variable_key:path}", 200, None),
        ("GET", "/auth/{rest_of_path:path}", 200, None),
        ("GET", "/{rest_of_path:path}", 200, None),
        ("GET", "/static", 200, None),
        ("GET", "", 404, None),
        ("POST", "/secure-ml/person", 200, None),
        # A task's own calls.
        ("GET", "/execution/variables/{variable_key:path}", 200, None),
        ("GET", "/execution/variables/{variable_key:path}", 403, None),
        ("GET", "/execution", 401, None),
    ],
)
def test_a_request_is_of_its_kind(method, pattern, status, kind):
    assert kind_of(answered(pattern, method, status)) == kind


@pytest.mark.parametrize(
    ("status", "session", "result", "why"),
    [
        (302, True, "ok", None),
        (201, False, "ok", None),
        (302, False, "unknown", None),
        (200, False, "unknown", None),
        (401, False, "refused", "access_denied"),
        (422, False, "failed", "request_invalid"),
        (None, False, "unknown", None),
    ],
)
def test_a_form_login_is_known_by_its_cookie(status, session, result, why):
    form = answered("/auth", "POST", status, place="/login/", opens_session=session, ids={})

    fact = fact_of(form, "login", None)

    assert kind_of(form) == "login"
    assert (fact.result, fact.why) == (result, why)


def test_an_event_says_who_read_what_of_which_task():
    read = answered(action="get_xcom_entry", query=b"deserialize=true&map_index=3")

    fact = fact_of(read, "read", "vera")

    assert (fact.act, fact.phase, fact.result, fact.by) == ("user.act", "seen", "ok", "vera")
    assert (fact.run.dag, fact.run.run, fact.run.task, fact.run.map_index) == (
        "churn", "r1", "train", 3,
    )  # fmt: skip
    assert fact.more == {
        "action": "get_xcom_entry",
        "method": "GET",
        "path": XCOM,
        "resource": "auc",
        "status": 200,
        "count": None,
        "peer": None,
    }


def test_a_person_lies_aside():
    data, asides = written(fact_of(answered(), "read", "vera"))

    assert b"vera" not in data
    assert [aside.value for aside in asides] == ["vera"]


def test_where_nobody_is_known_the_address_is_said():
    assert fact_of(answered(peer="10.0.0.7"), "denied", None).more["peer"] == "10.0.0.7"
    assert fact_of(answered(peer="10.0.0.7"), "denied", "vera").more["peer"] is None


@pytest.mark.parametrize(
    "hostile",
    [
        "x" * 100_000,
        "a\0b\x1b]0;title\x07\r\nforged",
        "\u202egnp.exe\u2066",
        "\ud800\udfff",
        "…" * 5000,
        "",
    ],
    ids=["huge", "control", "bidi", "surrogates", "wide", "empty"],
)
@pytest.mark.parametrize(
    "name", ["dag_id", "dag_run_id", "task_id", "xcom_key", "map_index", "try_number"]
)
def test_no_id_breaks_or_swells_an_event(name, hostile):
    ids = {"dag_id": "d", "dag_run_id": "r", "task_id": "t", "xcom_key": "k"} | {name: hostile}
    read = answered(ids=ids, action=hostile, place=hostile, peer=hostile, query=b"map_index=\xff")

    data, _ = written(fact_of(read, "read", hostile or None))

    assert len(data) < 8 * MAX_ID_CHARS * 4
    text = data.decode()
    assert text.isprintable()
    assert "\\" not in text
    assert hash(repeats_as(read, "read", hostile)) == hash(repeats_as(read, "read", hostile))


def test_a_cut_id_never_passes_as_another_dag():
    long = "d" * (MAX_ID_CHARS + 1)

    fact = fact_of(answered(ids={"dag_id": long, "dag_run_id": "r"}), "read", "vera")

    assert fact.run is None
    assert fact.more["resource"].startswith("r/ddd")


def test_all_of_them_names_no_run():
    listed = answered(ids={"dag_id": "~", "dag_run_id": "~"})
    of_dag = answered(ids={"dag_id": "churn", "dag_run_id": "~"})

    assert fact_of(listed, "read", "vera").run is None
    assert (fact_of(of_dag, "read", "v").run.dag, fact_of(of_dag, "read", "v").run.run) == (
        "churn",
        "",
    )


def test_a_files_token_is_not_told():
    reparse = answered("/api/v2/parseDagFile/{file_token}", "PUT", ids={"file_token": "eyJ"})

    assert "eyJ" not in str(fact_of(reparse, "edit", "vera"))


def test_reads_repeat_by_person_and_thing():
    def key(who="vera", **more):
        return repeats_as(answered(**more), "read", who)

    assert key() == key()
    different = [
        key("olaf"), key(status=404), key(method="HEAD"), key(query=b"map_index=1"),
        key(ids={"dag_id": "churn"}), key(pattern=TI),
    ]  # fmt: skip
    assert len({key(), *different}) == 7


def test_a_stranger_cannot_make_many_events():
    denied = [
        repeats_as(
            answered(status=401, ids={"dag_id": str(n)}, peer=str(n), place=str(n)), "denied", None
        )
        for n in range(100)
    ]
    invalid = {
        repeats_as(answered("/api/v2/pools", "POST", 422, ids={"p": n}), "edit", None)
        for n in range(100)
    }

    assert len(set(denied)) == 1
    assert len(invalid) == 1
    assert None not in invalid


@pytest.mark.parametrize(("kind", "who"), [("edit", "vera"), ("login", None), ("logout", "vera")])
def test_what_changes_something_is_an_event_each_time(kind, who):
    assert repeats_as(answered("/auth/token", "POST", 201), kind, who) is None


def test_cleaning_keeps_what_people_read():
    assert clean("training – größer/新 (1)") == "training – größer/新 (1)"
