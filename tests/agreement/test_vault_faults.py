"""A Vault that fails while a task runs: a typed error in time, and nothing half-written."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.hooks.vault import vault_client
from airflow_secure_ml.services.run_plan import Input, LeaseRequest, Output, Plan
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Cut, Hang
from tests.servers.vault_deployment import VaultDeployment

NAME = "faults"
# The connection's own deadline is 2 s; leaving the run may take some more.
DEADLINE_S, WITHIN_S = 2, 20.0
SEAL, SIGN = f"transit/encrypt/{NAME}-data", f"transit/sign/{NAME}-pipeline"


@pytest.fixture
def deployed(vault, vault_proxy, vault_database, tmp_path, monkeypatch):
    vault_database.make_role(NAME, default_ttl="60s", max_ttl="120s")
    fields = {"deadline_s": DEADLINE_S, "timeout_s": 1}
    with VaultDeployment.make(
        vault, NAME, tmp_path, monkeypatch, url=vault_proxy.url, **fields
    ) as made:
        yield made
        vault_proxy.behave()


def write(deployed, folder, body, *, leases=()):
    output = Output(name="table", uri=deployed.here.canonical(str(folder / "table.csv")))
    deployed.run("make", Plan(outputs=(output,), leases=leases, dag_id="churn"), body)


def left_in(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    "fault",
    [
        Answer(status=503, times=1000),
        Answer(status=429, headers={"Retry-After": "1"}, times=1000),
        Answer(status=473, times=1000),
        Cut(times=1000),
        Hang(seconds=30, times=1000),
    ],
    ids=["sealed", "too many requests", "standby", "cut", "hangs"],
)
@pytest.mark.parametrize("at", [SEAL, SIGN], ids=["sealing", "signing"])
def test_nothing_is_published_when_vault_fails_after_the_body(
    deployed, vault_proxy, tmp_path, fault, at
):
    lake = tmp_path / "lake"
    lake.mkdir()

    def fail_from_here(bound):
        bound["table"].write_text("age\n40\n")
        vault_proxy.will(replace(fault, path=at))

    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError) as caught:
        write(deployed, lake, fail_from_here)

    assert time.monotonic() < began + WITHIN_S
    assert caught.value.service == "vault"
    assert [name for name in left_in(lake) if not name.endswith(".sig")] == []
    ended = [event for event in deployed.events() if event["act"] == "task.secure"][-1]
    assert (ended["result"], ended["why"]) == ("failed", "service_unavailable")


def test_a_fault_that_passes_is_tried_again_and_not_seen(deployed, vault_proxy, tmp_path):
    lake = tmp_path / "lake"
    lake.mkdir()

    def fail_for_a_moment(bound):
        bound["table"].write_text("age\n40\n")
        vault_proxy.will(Answer(status=503, path=SEAL, times=2), Cut(path=SIGN, times=1))

    write(deployed, lake, fail_for_a_moment)

    assert "table.csv" in left_in(lake)


def test_a_vault_that_is_sealed_before_a_lease_refuses_the_body_in_time(
    deployed, vault_proxy, tmp_path
):
    ran = []
    vault_proxy.will(Answer(status=503, path=f"database/creds/{NAME}", times=1000))
    lease = LeaseRequest(name="w", path=f"database/creds/{NAME}", conn_id="w")

    with pytest.raises(ServiceUnavailableError, match="sealed"):
        write(deployed, tmp_path, lambda bound: ran.append(1), leases=(lease,))

    assert ran == []
    refused = [event for event in deployed.events() if event["act"] == "lease.grant"]
    assert [(event["result"], event["why"]) for event in refused] == [
        ("failed", "service_unavailable")
    ]


def test_a_token_that_ends_in_the_middle_of_a_stream_does_not_end_the_stream(
    deployed, vault, vault_proxy, tmp_path
):
    rows = b"0123456789abcdef" * 200_000
    write(deployed, tmp_path, lambda bound: bound["table"].write_bytes(rows))
    uri = deployed.here.canonical(str(tmp_path / "table.csv"))
    inputs = tuple(Input(name=name, uri=uri, stream=True) for name in ("first", "second"))
    logins = vault_proxy.count("auth/approle/login")
    read = []

    def lose_the_token(bound):
        begun = bound["first"].read(1000)
        vault_setup.revoke(vault, vault_client(deployed.conn_id).token().value.reveal())
        read.append(begun + bound["first"].read())
        read.append(bound["second"].read())
        # A key that is needed only now takes another login, once.
        keys = deployed.here.keys
        wrapper = keys.wrapper(deployed.here.settings.data_key)
        wrapper.wrap(os.urandom(32), os.urandom(32))

    deployed.run("use", Plan(inputs=inputs, dag_id="churn"), lose_the_token)

    assert read == [rows, rows]
    assert vault_proxy.count("auth/approle/login") == logins + 1
