"""Every way in which a try ends under a real scheduler, and what a check of coverage says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from airflow_secure_ml.adapters.sequencer import SequencerLock, ensure_sequencer, stop_sequencer
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from tests.e2e.log_of import log_of

pytestmark = pytest.mark.airflow

RUN = "coverage-1"
SECRET = "a-value-that-nobody-may-read"
INVENTED = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"
# Each try: task, index, number; and its verdict, with words of its reason.
CUT = {
    ("killed", -1, 1): "was cut off",
    ("exits", -1, 1): "was cut off",
    ("killed_once", -1, 1): "was cut off",
    ("mapped", 1, 1): "was cut off",
}
UNSECURED = {("bypassed", -1, 1): "its DAG file says it is secured"}
RECORDED = {
    ("good", -1, 1), ("secured", -1, 1), ("killed_once", -1, 2),
    ("mapped", 0, 1), ("mapped", 2, 1), ("stops", -1, 1),
}  # fmt: skip
# Upstream failed, skipped by the scheduler, and what it runs itself.
NOT_STARTED = {("below", -1, 1), ("left_out", -1, 1), ("nothing", -1, 1)}


def reconcile(airflow, since_ms, *more):
    """One check of the period since then, by the command; its result as JSON."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_ms // 1000))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "secure-ml"), "audit", "reconcile", "--json",
         "--since", since, *more],
        env=airflow.environment, cwd=airflow.home, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == done.returncode
    return found["periods"][0]


def settled(airflow, since_ms):
    """The same, once no try is under way or about to settle."""
    found = {}

    def is_settled():
        found.update(reconcile(airflow, since_ms))
        return found["counts"]["open"] == 0

    airflow.until(is_settled, 120, lambda: str(found))
    return found


def differing(checked, dag):
    return {
        (each["task"], each["map"], each["try"]): (each["verdict"], each["because"])
        for each in checked["differences"]
        if each["dag"] == dag
    }


def alerts(airflow, act, about):
    return [
        ti
        for event in airflow.events(acts=(act,))
        if event["more"]["about"] == about
        for ti in event["more"]["tis"]
    ]


@pytest.fixture(scope="module")
def began_ms(faults):
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def covered(faults, began_ms):
    # Airflow takes half a minute to see that it is dead; the others run meanwhile.
    faults.start("zombie", RUN)
    faults.start("covered", RUN)
    faults.wait("covered", RUN)
    faults.wait("zombie", RUN)
    return settled(faults, began_ms)


def test_the_counts_are_those_of_the_run(faults, covered):
    assert covered["counts"] == {
        "recorded": len(RECORDED),
        # And the zombie.
        "cut": len(CUT) + 1,
        "silent": 0,
        "unsecured": len(UNSECURED),
        "unknown": 0,
        "not_started": len(NOT_STARTED),
        "open": 0,
    }


@pytest.mark.parametrize(
    ("attempt", "verdict", "words"),
    [
        *((attempt, "cut", words) for attempt, words in CUT.items()),
        *((attempt, "unsecured", words) for attempt, words in UNSECURED.items()),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_try_that_lacks_something_is_named(covered, attempt, verdict, words):
    found, because = differing(covered, "covered")[attempt]

    assert found == verdict
    assert words in because
    assert because.startswith("Airflow: ")


def test_a_task_without_a_heartbeat_is_cut_with_that_reason(covered):
    verdict, because = differing(covered, "zombie")["zombie", -1, 1]

    assert verdict == "cut"
    assert "heartbeat timeout" in because


def test_nothing_else_is_named(covered):
    assert differing(covered, "covered").keys() == CUT.keys() | UNSECURED.keys()


def test_the_trail_has_the_check(faults, covered):
    (event,) = [
        event
        for event in faults.events(acts=("coverage.check",))
        if event["more"]["until_ms"] == covered["until_ms"]
    ]

    more = event["more"]
    assert {name: more[name] for name in covered["counts"]} == covered["counts"]
    assert more["ti_digest"] == covered["ti_digest"]
    assert more["source"].startswith("tables of Airflow ")


def test_each_killed_process_is_named(faults, covered):
    cut = {each["ti"] for each in covered["differences"] if each["verdict"] == "cut"}

    assert {each["ti"] for each in covered["emitters"] if each["program"] == "task"} == cut
    assert {each["end"] for each in covered["emitters"]} == {"cut"}


def test_each_difference_is_alerted_about_once(faults, covered, began_ms):
    reconcile(faults, began_ms)

    for kind in ("cut", "unsecured"):
        tis = {e["ti"] for e in covered["differences"] if e["verdict"] == kind}
        # Other tests' tries end badly beside them, and the scheduler's own reconciler sees those.
        told = [ti for ti in alerts(faults, "alert.raise", f"coverage.{kind}") if ti in tis]
        assert sorted(told) == sorted(tis)
        closed = alerts(faults, "alert.close", f"coverage.{kind}")
        assert not tis & set(closed)


def test_the_scheduler_has_coverage_checked(faults, covered):
    opened = {
        event["emitter"]
        for event in faults.events(acts=("emitter.open",))
        if event["more"]["program"] == "reconciler"
    }
    by_it = [e for e in faults.events(acts=("coverage.check",)) if e["emitter"] in opened]

    assert len(by_it) >= 1
    assert "not checked" not in faults.logs()


def test_a_cleared_task_is_two_tries(faults, covered, began_ms):
    body = {"dry_run": False, "task_ids": ["good"], "dag_run_id": RUN, "only_failed": False}
    faults.api("POST", "/dags/covered/clearTaskInstances", body)
    faults.wait("covered", RUN)

    def is_second():
        states = {t["task_id"]: t for t in faults.instances("covered", RUN)}
        return states["good"]["try_number"] == 2 and states["good"]["state"] == "success"

    faults.until(is_second, 120, lambda: str(faults.states("covered", RUN)))
    checked = settled(faults, began_ms)

    assert checked["counts"]["recorded"] == len(RECORDED) + 1
    assert ("good", -1, 2) not in differing(checked, "covered")


def test_what_people_did_is_in_the_trail_once(faults, covered, began_ms):
    faults.api("POST", "/variables", {"key": "limit", "value": SECRET})
    faults.api("PATCH", f"/dags/covered/dagRuns/{RUN}/taskInstances/exits",
               {"new_state": "success"})  # fmt: skip
    reconcile(faults, began_ms)
    reconcile(faults, began_ms)

    told = faults.events(acts=("user.act",))
    from_log = [e for e in told if "log_id" in e["more"] or "dag_run_id" in e["more"]]
    by = {log_of(faults.audit_dir).reveal(event["by"]["h"]) for event in from_log if "by" in event}
    acts = [
        (e["more"]["action"], e["more"].get("resource"), e["more"].get("state")) for e in from_log
    ]
    rows = [
        (name, e["more"][name], e["more"]["at"])
        for e in from_log
        for name in ("log_id", "dag_run_id")
        if name in e["more"]
    ]
    assert acts.count(("post_variable", "variable limit", None)) == 1
    assert acts.count(("patch_task_instance", None, "success")) == 1
    assert len(rows) == len(set(rows))
    assert "admin" in by
    assert SECRET not in json.dumps(told)


def test_a_triggered_run_names_run_and_user(faults, covered):
    (made,) = [
        e
        for e in faults.events(acts=("user.act",), dag="covered", run=RUN)
        if e["more"]["action"] == "run_triggered"
    ]

    assert log_of(faults.audit_dir).reveal(made["by"]["h"]) == "admin"


def test_the_runs_page_names_the_check_and_what_it_left(faults, covered, began_ms):
    reconcile(faults, began_ms)
    address = f"{faults.url}/secure-ml/run?dag_id=covered&run_id={RUN}"
    asked = Request(address, headers={"Authorization": f"Bearer {faults.token}"})

    with urlopen(asked, timeout=60) as answer:
        html = answer.read().decode()

    assert f"{len(CUT)} cut, {len(UNSECURED)} unsecured" in html
    assert 'title="tables of Airflow ' in html
    assert 'checked <a href="' in html


def test_a_task_whose_segment_was_removed_is_silent(faults, covered, began_ms):
    stop_sequencer(faults.audit_dir)
    # Whoever holds the lock is taken for a sequencer; nothing is taken up meanwhile.
    lock = SequencerLock(faults.audit_dir)
    faults.until(lock.acquire, 60, lambda: "another sequencer holds the lock")
    try:
        faults.start("quiet", RUN)
        faults.wait("quiet", RUN)
        (instance,) = faults.instances("quiet", RUN)

        def segments():
            return [
                path
                for path in (faults.audit_dir / "spool").glob("*.seg")
                if instance["id"].encode() in path.read_bytes() and b"emitter.close" in (
                    path.read_bytes()
                )
            ]  # fmt: skip

        faults.until(segments, 60, faults.logs)
        for path in segments():
            path.unlink()
    finally:
        lock.release()
        ensure_sequencer(faults.audit_dir, faults.home / "secure_ml" / "signer")

    checked = settled(faults, began_ms)

    assert differing(checked, "quiet") == {
        ("quiet", -1, 1): ("silent", differing(checked, "quiet")["quiet", -1, 1][1])
    }
    assert alerts(faults, "alert.raise", "coverage.silent") == [instance["id"]]


def test_a_try_that_airflow_never_had_is_unknown(faults, covered, began_ms):
    run = RunRef(dag="covered", run=RUN, task="ghost", try_number=1, ti=INVENTED)
    spool = Spool(faults.audit_dir, "task", run=run)
    spool.record(Fact(act="task.start", phase="seen", result="ok", run=run))
    spool.settle()
    spool.close()

    checked = settled(faults, began_ms)

    assert differing(checked, "covered")["ghost", -1, 1][0] == "unknown"
    assert alerts(faults, "alert.raise", "coverage.unknown") == [INVENTED]


def test_a_purged_run_does_not_change_what_was_said(faults, covered, began_ms):
    before = list(faults.events(acts=("coverage.check",)))
    faults.api("DELETE", f"/dags/covered/dagRuns/{RUN}")

    checked = settled(faults, began_ms)

    assert faults.events(acts=("coverage.check",))[: len(before)] == before
    assert differing(checked, "covered")["good", -1, 1][0] == "unknown"
    assert checked["counts"]["unknown"] >= len(RECORDED) + len(CUT) + len(UNSECURED)
    # What was missing of a try is still missing when Airflow forgot it.
    assert alerts(faults, "alert.close", "coverage.cut") == []
