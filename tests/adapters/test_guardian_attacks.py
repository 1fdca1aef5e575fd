"""Leases when Vault, its database, the supervisor, the token or the line fails: a real guardian."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.adapters.guarded_task import WITHIN_S, is_running, lives, logs_in, until
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Hang

# What a task may wait for a Vault that is away; the rest is the guardian's.
LEAVING_S = 6.0
RENEW, REVOKE = "sys/leases/renew", "sys/leases/revoke"


@pytest.fixture
def away(vault_database):
    """A database that Vault may lose and find again, and a path to lease from."""
    return Away(vault_database)


class Away:
    def __init__(self, database):
        self.database, self.vault = database, database.vault
        self.come_back()

    def role(self, ttl):
        path = self.database.make_role(f"away-{ttl}", ttl, "10m")
        self.vault.api("POST", f"database/roles/away-{ttl}", {"db_name": "away"})
        return path

    def be_gone(self):
        self._be("127.0.0.1:1")

    def come_back(self):
        self._be(f"{self.database.postgres.host}:{self.database.postgres.port}")

    def _be(self, address):
        postgres = self.database.postgres
        login = "{{username}}:{{password}}"
        order = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": f"postgresql://{login}@{address}/{postgres.database}?sslmode=disable",
            "username": postgres.admin,
            "password": postgres.password,
            "password_authentication": "scram-sha-256",
            "verify_connection": False,
        }
        self.vault.api("POST", "database/config/away", order)


@pytest.fixture
def own_token(vault):
    """A token that is given to a task, and is not its to revoke; the policies by their texts."""
    made = []

    def make(text):
        name = vault_setup.policy(vault, f"own-{len(made)}", text)
        made.append(vault_setup.token(vault, name, ttl="120s"))
        return made[-1]

    yield make
    for token in made:
        vault_setup.revoke(vault, token)


def kept_for(postgres, task, seconds):
    """Whether the login works all the time."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if not logs_in(postgres, task):
            return False
        time.sleep(0.1)
    return True


def test_plaintext_goes_at_once_while_vault_hangs(start, vault_proxy):
    task = start("waits", url=vault_proxy.url)
    vault_proxy.will(Hang(seconds=2 * WITHIN_S, times=100))

    task.kill()

    until(lambda: not task.scratch.exists(), "scratch is shredded", WITHIN_S)


def test_a_renewal_that_hangs_delays_neither_revoking_nor_shredding(start, postgres, vault_proxy):
    task = start("waits", ttl="2s", url=vault_proxy.url)
    vault_proxy.will(Hang(path=RENEW, seconds=2 * WITHIN_S, times=100))
    until(lambda: vault_proxy.count(RENEW) > 0, "a renewal hangs")

    task.kill()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    until(lambda: not task.scratch.exists(), "scratch is shredded", WITHIN_S)
    # Its own end would have come as soon.
    assert vault_proxy.count(REVOKE) == 1


def test_a_renewal_that_hangs_is_tried_again_before_the_lease_ends(start, postgres, vault_proxy):
    task = start("waits", ttl="3s", url=vault_proxy.url, is_fleeting=True)

    vault_proxy.will(Hang(path=RENEW, seconds=30), Hang(path="auth/token/renew-self", seconds=30))

    assert kept_for(postgres, task, 7)


def test_a_task_is_left_soon_though_vault_hangs_and_the_guardian_goes_on(
    start, postgres, vault_proxy
):
    task = start("is told", url=vault_proxy.url)
    vault_proxy.will(Hang(path=REVOKE, seconds=LEAVING_S + 1))

    task.go_on()
    said = task.said()

    assert said["took"] < LEAVING_S
    assert (said["revoked"], said["held"]) == ([], [task.id])
    assert not task.scratch.exists()
    assert is_running(task.guardian)
    assert task.ended() == {task.id: ("ok", None)}
    assert not lives(postgres, task)


def test_a_page_in_the_place_of_an_answer_ends_neither_guardian_nor_lease(
    start, postgres, vault_proxy
):
    task = start("waits", ttl="3s", url=vault_proxy.url, is_fleeting=True)
    page = {"status": 200, "body": "<html>Sign in to the network</html>"}
    vault_proxy.will(
        Answer(path=RENEW, **page), Answer(path="auth/", **page), Answer(path=REVOKE, **page)
    )

    assert kept_for(postgres, task, 5)
    task.kill()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert task.ended() == {task.id: ("ok", None)}


def test_an_orphan_has_no_login_once_vault_is_back(start, postgres, vault_proxy):
    # The shell stands for the supervisor: it is the task's parent and waits for it.
    task = start("waits", url=vault_proxy.url, before=["sh", "-c", '"$@"; true', "sh"])
    vault_proxy.refuse()

    os.kill(task.process.pid, signal.SIGKILL)
    time.sleep(1.5)
    vault_proxy.accept()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert vault_proxy.count(RENEW) == 0
    assert is_running(task.pid)
    task.kill()
    assert task.ended() == {task.id: ("ok", None)}


def test_a_lease_outlives_a_database_that_was_away_when_it_was_to_be_renewed(start, postgres, away):
    task = start("waits", path=away.role("3s"), is_fleeting=True)
    away.be_gone()
    time.sleep(1.5)
    away.come_back()

    assert kept_for(postgres, task, 5)
    task.kill()
    assert {event["result"] for event in task.events("lease.renew")} == {"ok"}


def test_what_a_database_that_is_away_keeps_is_not_said_to_have_ended(start, postgres, away):
    task = start("is told", path=away.role("60s"))
    away.be_gone()

    task.go_on()
    said = task.said()
    still_there = lives(postgres, task)
    away.come_back()

    assert (said["revoked"], said["held"], still_there) == ([], [task.id], True)
    assert said["took"] < LEAVING_S
    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert task.ended() == {task.id: ("ok", None)}


def test_what_was_never_confirmed_is_not_said_to_have_ended(start, vault_proxy):
    task = start("waits", ttl="2s", url=vault_proxy.url, is_fleeting=True)
    vault_proxy.refuse()

    task.kill()

    assert task.ended() == {task.id: ("failed", "service_unavailable")}


def test_a_role_that_may_not_revoke_loses_its_token_and_with_it_the_lease(start, vault, postgres):
    text = 'path "database/creds/*" { capabilities = ["read"] }\n' + "\n".join(
        f'path "auth/token/{act}-self" {{ capabilities = ["update"] }}'
        for act in ("renew", "revoke")
    )
    role_id, secret_id = vault_setup.approle(
        vault, "no-revoke", vault_setup.policy(vault, "no-revoke", text),
        token_no_default_policy=True,
    )  # fmt: skip
    task = start("waits", role_id=role_id, secret_id=secret_id)

    task.kill()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    # Vault was told to end the token, and said nothing of the lease.
    assert task.ended() == {task.id: ("unknown", None)}


def test_a_given_token_that_may_not_revoke_is_told_so_and_not_asked_for_ever(
    start, own_token, vault_proxy
):
    token = own_token('path "database/creds/*" { capabilities = ["read"] }')
    task = start("waits", ttl="10s", token=token, url=vault_proxy.url)

    task.kill()

    assert task.ended() == {task.id: ("failed", "lease_refused")}
    assert vault_proxy.count(REVOKE) == 1
    assert vault_proxy.count("auth/token/revoke-self") == 0


def test_a_lease_whose_token_ended_is_not_asked_about_for_ever(
    start, vault, own_token, vault_proxy
):
    text = 'path "database/creds/*" { capabilities = ["read"] }'
    token = own_token(text)
    task = start("waits", token=token, url=vault_proxy.url)
    vault_setup.revoke(vault, token)

    task.kill()

    assert task.ended() == {task.id: ("unknown", None)}
    assert vault_proxy.count(REVOKE) == 1


@pytest.mark.parametrize("end", ["is told", "waits"])
def test_a_lease_that_the_guardian_never_heard_of_ends_with_its_token(start, postgres, end):
    task = start(end, hand_over=False)
    assert lives(postgres, task)

    if end == "is told":
        task.go_on()
        task.said()
    else:
        task.kill()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


def test_a_lease_of_a_second_is_kept_for_many(start, postgres):
    task = start("waits", ttl="1s", is_fleeting=True)

    assert kept_for(postgres, task, 4)


@pytest.mark.parametrize("ttl", ["768h", "87600h"])
def test_a_lease_of_years_ends_with_its_task(start, postgres, vault, own_token, ttl):
    vault.api("POST", "sys/mounts/database/tune", {"max_lease_ttl": "90000h"})
    # Nobody knows how long a given token holds, so nothing is due sooner.
    token = own_token(
        'path "database/creds/*" { capabilities = ["read"] }\n'
        'path "sys/leases/revoke" { capabilities = ["update"] }'
    )
    task = start("waits", ttl=ttl, max_ttl="90000h", token=token)
    time.sleep(0.3)
    assert is_running(task.guardian)

    task.kill()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


def test_many_leases_end_as_soon_as_one(start, postgres):
    task = start("waits", count=16)

    task.kill()

    until(lambda: not lives(postgres, task), "the roles are dropped", WITHIN_S)
    assert set(task.ended().values()) == {("ok", None)}
    assert len(task.ended()) == 16


def test_a_forked_child_that_holds_the_line_keeps_nothing_alive(start, postgres):
    task = start("leaves a child")

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert task.ended() == {task.id: ("ok", None)}


def test_a_body_that_closes_every_file_loses_its_lease_and_it_is_told_once(start, postgres):
    task = start("closes everything")

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    task.go_on()

    assert task.said() == {"alone": True}
    assert task.ended() == {task.id: ("ok", None)}


def test_a_body_that_used_up_its_files_hears_of_the_end(start, postgres):
    task = start("uses up its files")

    assert task.said() == {"revoked": [task.id]}
    assert not lives(postgres, task)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_body_that_becomes_another_user_takes_no_lease_along(start, postgres):
    task = start("becomes another")

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert task.ended() == {task.id: ("ok", None)}
    assert not task.scratch.exists()


def test_what_is_no_line_ends_the_leases_and_not_the_guardian(start, postgres):
    task = start("writes into the line")

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert task.ended() == {task.id: ("ok", None)}
    assert not task.scratch.exists()


def test_a_sealed_vault_ends_the_lease_once_it_is_unsealed(start, vault, postgres):
    task = start("waits")
    vault.seal()

    task.kill()
    until(lambda: not task.scratch.exists(), "scratch is shredded", WITHIN_S)
    vault.unseal()

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
