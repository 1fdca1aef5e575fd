"""A leased login shows up nowhere, and nobody gets one that is not theirs.

The canary is a value of Vault's that the tests know; the passwords that were leased are put aside
by the tasks themselves. Beside each value that is given away stands a marker: where the marker is
found, the search looked, and the value was there to be found.
"""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest

pytestmark = pytest.mark.airflow

RUN = "attacks-1"
MARKER = "mark-4f2c"
ENDS = {
    "tells": "success",
    "raises": "failed",
    "in_shell": "failed",
    "returns": "failed",
    "pushes": "failed",
    "announces": "failed",
    "carries_by_kwargs": "failed",
    "carries_by_trigger": "failed",
    "passes": "failed",
    "renders": "success",
    "waits": "failed",
    "in_template_password": "failed",
    "in_template_uri": "failed",
    "in_template_get": "failed",
    "denied": "failed",
    "missing": "failed",
}
# Whose body was refused something, or never ran.
REFUSED = [
    "returns", "pushes", "announces", "carries_by_kwargs", "carries_by_trigger", "passes", "waits",
    "in_template_password", "in_template_uri", "in_template_get", "denied", "missing",
]  # fmt: skip


@pytest.fixture(scope="module")
def attacked(leases):
    leases.start("attacks", RUN)
    leases.wait("attacks", RUN)
    wanted = set(ENDS)

    def told():
        found = leases.events(dag="attacks", run=RUN, acts=("task.end",))
        return {event["run"]["task"] for event in found}

    leases.until(lambda: wanted <= told(), 90, lambda: wanted - told())
    return leases


def spellings(secret):
    """A secret as it may be written; in JSON and by Python some signs are escaped."""
    found = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    found |= {repr(one)[1:-1] for one in found}
    found |= {json.dumps(one)[1:-1] for one in found}
    return {one.encode() for one in found}


def files(folder):
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def places(attacked):
    """Everything that the runs of this folder can have left, by place."""
    base = f"/dags/attacks/dagRuns/{RUN}/taskInstances"
    rendered = [one["rendered_fields"] for one in attacked.instances("attacks", RUN)]
    xcoms = [
        attacked.api("GET", f"{base}/{task}/xcomEntries?map_index=-1")["xcom_entries"]
        for task in ENDS
    ]
    database = [path for path in attacked.home.glob("airflow.db*") if path.is_file()]
    return {
        "logs": files(attacked.home / "logs"),
        "database": b"\0".join(path.read_bytes() for path in database),
        "rendered": json.dumps(rendered).encode(),
        "xcom": json.dumps(xcoms).encode(),
        "trail": files(attacked.audit_dir),
        "home": files(attacked.home),
        "processes": files(attacked.data / "probes"),
        "data": files(attacked.data),
        "scratch": files(attacked.scratch),
        "vault's audit log": attacked.vault.audit_log.read_bytes(),
    }


@pytest.fixture(scope="module")
def secrets(attacked):
    """What was leased or read, every one."""
    return {path.read_text() for path in attacked.secrets.iterdir() if path.name != "secret-id"}


def test_each_ends_as_it_should(attacked):
    states = {task: state for (task, _), state in attacked.states("attacks", RUN).items()}

    assert states == ENDS


@pytest.mark.parametrize("task", REFUSED)
def test_a_refusal_is_not_tried_again(attacked, task):
    (instance,) = [one for one in attacked.instances("attacks", RUN) if one["task_id"] == task]

    assert instance["try_number"] == 1


@pytest.mark.parametrize(
    "task",
    ["returns", "pushes", "announces", "carries_by_kwargs", "carries_by_trigger", "passes"],
)
def test_what_a_body_may_not_give_away_stands_in_the_trail(attacked, task):
    found = attacked.events(dag="attacks", run=RUN, task=task, acts=("task.secure",))
    ends = [(event["result"], event["why"]) for event in found if "result" in event]

    assert ends == [("refused", "rule_denied")]


@pytest.mark.parametrize("task", ["denied", "missing"])
def test_what_vault_vault_denies_stands_in_the_trail(attacked, task):
    found = attacked.events(dag="attacks", run=RUN, task=task)
    grants = [event for event in found if event["act"] == "lease.grant" and "result" in event]
    ends = [event for event in found if event["act"] == "task.secure" and "result" in event]

    assert [(event["result"], event["why"]) for event in grants] == [("refused", "lease_refused")]
    assert [(event["result"], event["why"]) for event in ends] == [("refused", "lease_refused")]


def test_a_trigger_that_would_use_the_login_is_refused_with_the_reason(attacked):
    log = task_log(attacked, "waits")

    assert "Querying uses connection 'warehouse'" in log
    assert "set deferrable=False" in log


@pytest.mark.parametrize("how", ["print", "stderr", "log", "uri", "handle", "child"])
@pytest.mark.parametrize("number", range(4), ids="spelling-{}".format)
def test_what_was_told_got_into_the_log_without_its_secret(places, how, number):
    assert f"{MARKER}-{how}-{number} ".encode() in places["logs"]


def test_what_was_raised_got_into_the_log_without_its_secret(places):
    assert f"{MARKER}-raised".encode() in places["logs"]
    assert f"{MARKER}-cause".encode() in places["logs"]


def test_the_search_looks_at_each_place(attacked, places):
    """Each place holds what is known to be there."""
    assert attacked.static_password.encode() in places["processes"]
    assert b"in_shell" in places["database"]
    assert b"nothing yet" in places["rendered"] or b"logged in" in places["rendered"]
    assert b"lease.revoke" in places["trail"]
    assert b"database/creds/reader" in places["vault's audit log"]


def test_the_tasks_had_something_to_hide(attacked, secrets):
    assert attacked.canary in secrets
    assert len(secrets) > 5
    assert min(map(len, secrets)) >= 20


def test_no_leased_secret_shows_up_anywhere(places, secrets):
    found = {
        (place, secret[:4])
        for place, data in places.items()
        for secret in secrets
        for form in spellings(secret)
        if form in data
    }

    assert found == set()


def test_the_static_login_is_never_used_nor_shown(attacked, places):
    static = attacked.static_password.encode()
    shown = {place for place, data in places.items() if static in data}

    # It stands in the environment of Airflow's components, where these tests put it.
    assert shown <= {"processes", "data"}


def task_log(attacked, task):
    path = f"/dags/attacks/dagRuns/{RUN}/taskInstances/{task}/logs/1"
    return json.dumps(attacked.api("GET", path)["content"], ensure_ascii=False)
