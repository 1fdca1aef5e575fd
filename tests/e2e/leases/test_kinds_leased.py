"""Each kind of task logs in to a real PostgreSQL with a login of its own, which ends with it."""

from __future__ import annotations

import hashlib
import re

import pytest

pytestmark = pytest.mark.airflow

RUN = "kinds-1"
REVOKE = "sys/leases/revoke"
STATES = {
    ("plain", -1): "success",
    ("with_parameter", -1): "success",
    ("asynchronous", -1): "success",
    ("python", -1): "success",
    ("sql", -1): "success",
    ("bash", -1): "success",
    ("mapped", 0): "success",
    ("mapped", 1): "success",
    ("branch", -1): "success",
    ("taken", -1): "success",
    ("not_taken", -1): "skipped",
    ("short_circuit", -1): "success",
    ("cut_off", -1): "skipped",
    ("skips", -1): "skipped",
    ("late", -1): "failed",
    ("raises", -1): "failed",
    ("deferring", -1): "success",
    ("rescheduled", -1): "success",
    ("beside", -1): "success",
    ("engines", -1): "success",
}
UNSECURED = {"taken", "not_taken", "cut_off"}
# These lease anew each time that they enter the worker.
TWICE = {"deferring", "rescheduled"}
# The trail's word for how each was left.
STEPS = {"skips": ["skipped"], "late": ["body"], "raises": ["body"]}
STEPS |= {task: ["paused", "done"] for task in TWICE}
LEASING = sorted({key for key in STATES if key[0] not in UNSECURED})


@pytest.fixture(scope="module")
def finished(leases):
    leases.start("kinds", RUN)
    leases.wait("kinds", RUN)

    def told():
        found = leases.events(dag="kinds", run=RUN, acts=("task.end",))
        return {(e["run"]["task"], e["run"]["map"]) for e in found}

    leases.until(lambda: set(LEASING) <= told(), 90, lambda: set(LEASING) - told())
    return leases


def users(finished, task, at=-1):
    """Every login that a task says it had."""

    return re.findall(r"v-approle-reader-\w+-\d+", str(finished.xcom("kinds", RUN, task, at=at)))


def acts(finished, task, at, act):
    return [
        event
        for event in finished.events(dag="kinds", run=RUN, task=task, acts=(act,))
        if event["run"]["map"] == at and event["phase"] == "outcome"
    ]


def test_every_kind_ends_as_it_would_unsecured(finished):
    assert finished.states("kinds", RUN) == STATES


@pytest.mark.parametrize("task", ["plain", "python", "sql", "bash"])
def test_each_logs_in_as_somebody_new(finished, task):
    (user,) = users(finished, task)

    assert user.startswith("v-approle-reader-")


def test_everything_in_one_task_has_one_login(finished):
    for task, times in (("with_parameter", 2), ("asynchronous", 3), ("beside", 9)):
        found = users(finished, task)

        assert len(found) == times
        assert len(set(found)) == 1


def test_no_two_tasks_share_a_login(finished):
    mapped = [*users(finished, "mapped", 0), *users(finished, "mapped", 1)]
    deferring, rescheduled = users(finished, "deferring"), users(finished, "rescheduled")
    plain = [*users(finished, "plain"), *users(finished, "python"), *users(finished, "sql")]
    everybody = [*mapped, *deferring, *rescheduled, *plain]

    assert len(everybody) == 9
    assert len(set(everybody)) == 9


def test_files_of_a_credential_are_for_its_owner_alone(finished):
    *_, mode, shown = finished.xcom("kinds", RUN, "with_parameter")

    assert mode == "0o100600"
    assert shown == "Credential('warehouse', fields=['password', 'username'])"
    assert finished.xcom("kinds", RUN, "engines") == {
        "cert": [
            "ca_chain", "certificate", "expiration", "issuing_ca", "private_key",
            "private_key_type", "serial_number",
        ],
        "mode": "0o100600",
        "login": "alice",
        "api": ["api", None],
    }  # fmt: skip


@pytest.mark.parametrize("task", ["plain", "raises", "skips"])
def test_a_callback_after_the_body_gets_no_login(finished, task):
    after = finished.data / f"{RUN}-after-{task}"
    finished.until(after.exists, 60, lambda: "the callback's word")

    assert after.read_text().endswith("Denied")


@pytest.mark.parametrize(("task", "at"), LEASING)
def test_every_grant_in_the_trail_has_its_end(finished, task, at):
    grants = acts(finished, task, at, "lease.grant")
    ends = acts(finished, task, at, "lease.revoke")

    leased = [grant for grant in grants if "id" in grant["lease"]]
    # Of a certificate, a one-time password and a value of KV the engine leases the first two.
    times = {"engines": 2}.get(task, 2 if task in TWICE else 1)
    assert [grant["result"] for grant in leased] == ["ok"] * times
    assert sorted((end["of"], end["lease"]["id"], end["result"]) for end in ends) == sorted(
        (f"{grant['emitter']}:{grant['seq']}", grant["lease"]["id"], "ok") for grant in leased
    )


@pytest.mark.parametrize(("task", "at"), LEASING)
def test_the_trail_says_how_each_was_left(finished, task, at):
    ends = acts(finished, task, at, "task.secure")

    assert [end["more"]["step"] for end in ends] == STEPS.get(task, ["done"])


def of_vault(finished, path):
    """What Vault's own audit log says that it did for these tasks at an address."""
    for entry in finished.vault.audited():
        role = entry.get("auth", {}).get("metadata", {}).get("role_name")
        if (entry["request"]["path"], role) == (path, "e2e-leases") and "error" not in entry:
            yield entry


def hashed(finished, value):
    """A value as Vault's audit log shows it."""
    return finished.vault.api("POST", "sys/audit-hash/file", {"input": value})["data"]["hash"]


def test_vaults_own_log_and_the_trail_agree_on_each_lease(finished):
    path = "database/creds/reader"

    def told(act):
        events = finished.events(acts=(act,))
        return sorted(
            event["lease"]["id"]
            for event in events
            if event.get("result") == "ok" and event["lease"]["path"] == path
        )

    granted = [entry["response"]["secret"]["lease_id"] for entry in of_vault(finished, path)]
    digests = {f"sha256:{hashlib.sha256(one.encode()).hexdigest()}": one for one in granted}
    revoked = {one["request"]["data"]["lease_id"] for one in of_vault(finished, REVOKE)}

    assert len(granted) >= len(LEASING)
    finished.until(lambda: told("lease.grant") == sorted(digests), 30, lambda: told("lease.grant"))
    finished.until(
        lambda: told("lease.revoke") == sorted(digests), 30, lambda: told("lease.revoke")
    )
    assert {hashed(finished, digests[one]) for one in told("lease.revoke")} <= revoked


def test_nobody_is_left_in_postgres_nor_on_vault(finished):
    finished.until(lambda: not finished.postgres.logins(), 30, finished.postgres.logins)
    finished.until(lambda: not finished.vault.counts().leases, 30, finished.vault.left)
