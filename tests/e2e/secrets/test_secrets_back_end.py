"""Secrets from a real Vault under a real scheduler: who gets them, who is denied, what is said."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.vault]

RUN = "secrets-1"
DENIED = {"not_allowed", "not_allowed_by_vault"}


@pytest.fixture(scope="module")
def states(airflow):
    airflow.start("secrets", RUN)
    return airflow.wait("secrets", RUN)


def log_of(airflow, task):
    path = f"/dags/secrets/dagRuns/{RUN}/taskInstances/{task}/logs/1?full_content=true"
    return str(airflow.api("GET", path))


def reads(airflow, **wanted):
    found = airflow.events(acts=("secret.read",))
    return [e for e in found if e["phase"] == "outcome" and e["more"].items() >= wanted.items()]


def test_secrets_reach_the_tasks_that_may_have_them_and_no_others(states):
    failed = {task for (task, _), state in states.items() if state == "failed"}

    assert failed == DENIED
    assert {state for (task, _), state in states.items() if task not in DENIED} == {"success"}


def test_a_denied_task_says_why_and_never_had_the_static_login(airflow, states):
    assert "not for task not_allowed of DAG secrets" in log_of(airflow, "not_allowed")
    assert "permission denied" in log_of(airflow, "not_allowed_by_vault")


def test_each_look_up_is_in_the_trail(airflow, own_airflow, states):
    def denied():
        return [e for e in reads(airflow, name="prod") if e["result"] == "refused"]

    own_airflow.until(
        lambda: {e.get("run", {}).get("task") for e in denied()} >= {None, "not_allowed"},
        own_airflow.TRAIL_S,
        lambda: str(reads(airflow))[:2000],
    )

    given = {e["run"]["task"] for e in reads(airflow, name="prod") if e["result"] == "ok"}
    assert given == {"allowed"}
    assert {e["why"] for e in denied()} == {"rule_denied"}
    assert {e["result"] for e in reads(airflow, name="warehouse", kind="connection")} == {"ok"}
    assert reads(airflow, name="greeting", kind="variable")
    assert reads(airflow, name="plain", because="absent")


def test_airflows_own_option_came_from_vault(airflow, own_airflow, states):
    programs = {e["emitter"]: e["more"]["program"] for e in airflow.events(acts=("emitter.open",))}
    asked = {programs[e["emitter"]] for e in reads(airflow, name="fernet", kind="config")}

    assert {"api-server", "scheduler"} <= asked
    assert all(e["result"] == "ok" for e in reads(airflow, name="fernet"))


def test_no_secret_is_anywhere_on_disk(airflow, states):
    files = [path for path in airflow.home.rglob("*") if path.is_file()]
    secrets = [secret.encode() for secret in airflow.secrets]

    assert len(files) > 20
    assert [str(path) for path in files for s in secrets if s in path.read_bytes()] == []


def test_what_a_task_prints_is_masked_in_its_log(airflow, states):
    log = log_of(airflow, "reads")

    assert "said: ***" in log
    assert airflow.printed not in log


def test_a_sealed_vault_denies_what_the_database_has_too(airflow, own_airflow):
    airflow.start("down", "down-1")
    own_airflow.until((airflow.data / "waiting").exists, own_airflow.RUN_S, lambda: "not begun")
    airflow.vault.seal()
    try:
        (airflow.data / "go").touch()
        states = airflow.wait("down", "down-1")
    finally:
        airflow.vault.unseal()

    assert states == {("waits", -1): "failed"}
    own_airflow.until(
        lambda: [e for e in reads(airflow, name="warehouse") if e["result"] == "failed"],
        own_airflow.TRAIL_S,
        lambda: str(reads(airflow, name="warehouse"))[:2000],
    )
    last = reads(airflow, name="warehouse")[-1]
    assert (last["why"], last["run"]["dag"]) == ("service_unavailable", "down")
