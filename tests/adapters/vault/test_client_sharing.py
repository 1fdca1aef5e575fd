"""One client in many threads, in forked children, under signals; and what it never shows."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import signal
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_secure_ml.adapters.vault.logins import AppRoleLogin, PasswordLogin, TokenLogin
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from tests.adapters.vault.client_place import LOGIN, ClientPlace, read_one
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Hang

pytestmark = pytest.mark.vault
CANARY = "canary-4711"
ONE = "kv/data/one"


@pytest.fixture
def place(vault, vault_proxy):
    # The proxy ends later, so that tokens can be revoked through it.
    with ClientPlace(vault) as made:
        yield made
        vault_proxy.behave()


@pytest.fixture(scope="module")
def numbers(vault):
    names = [f"number-{number}" for number in range(32)]
    vault_setup.kv(vault, {name: {"value": name} for name in names})
    return names


def read(client, name):
    answer = client.call(f"read {name}", lambda vault: vault.adapter.get(f"/v1/kv/data/{name}"))
    return answer["data"]["data"]["value"]


def wait_until(condition):
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize("threads", [1, 8, 32])
def test_threads_share_one_login_and_mix_nothing_up(place, numbers, threads):
    client = place.client()
    begin = threading.Barrier(threads)

    def work(thread):
        begin.wait()
        wanted = [numbers[(thread + step) % 32] for step in range(8)]
        return [read(client, name) for name in wanted] == wanted

    with ThreadPoolExecutor(threads) as pool:
        right = list(pool.map(work, range(threads)))

    assert right == [True] * threads
    assert place.asked(LOGIN) == 1


def test_threads_replace_a_revoked_token_once(place, numbers):
    client = place.client()
    vault_setup.revoke(place.vault, client.token().value.reveal())
    begin = threading.Barrier(8)

    def work(thread):
        begin.wait()
        return read(client, numbers[thread])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))

    assert found == numbers[:8]
    assert place.asked(LOGIN) == 2


def test_threads_hear_of_one_refused_login(place):
    role = place.role()
    client = place.client(AppRoleLogin(role_id=role.role_id, secret_id=Secret(CANARY)))

    def work(_):
        try:
            return read_one(client)
        except SecureMLError as error:
            return error.reason

    with ThreadPoolExecutor(32) as pool:
        found = set(pool.map(work, range(200)))

    assert found == {"login not accepted"}
    assert place.asked(LOGIN) == 1


def test_threads_wait_for_a_login_no_longer_than_their_deadline(place, vault_proxy):
    # The proxy passes them on when it ends.
    role = place.role(token_ttl="5s")
    client = place.client(role, url=vault_proxy.url, timeout_s=0.5, deadline_s=1)
    vault_proxy.will(Hang(path=LOGIN, seconds=60, times=99))

    def work(_):
        began_s = time.monotonic()
        with pytest.raises(ServiceUnavailableError):
            read_one(client)
        return time.monotonic() - began_s

    with ThreadPoolExecutor(8) as pool:
        took_s = max(pool.map(work, range(8)))

    assert took_s < 3


def test_threads_go_on_with_a_token_that_holds_while_one_renews_it(place, vault_proxy):
    now_s = [1000.0]
    client = place.client(
        place.role("kv-reader", "default"), url=vault_proxy.url, time=None, deadline_s=30
    )
    client._clock = lambda: now_s[0]  # No real term is so long that a test may wait for its end.
    client.token()
    now_s[0] += 55
    vault_proxy.will(Hang(path="auth/token/renew-self", seconds=3))
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(client.token)
        wait_until(lambda: vault_proxy.count("auth/token/renew-self") == 1)
        began_s = time.monotonic()

        found = read_one(client)

        assert time.monotonic() - began_s < 2
        assert found == "first"
        vault_proxy.hang(0)
        renewing.result(20)


def test_a_login_under_way_when_the_client_is_closed_leaves_no_token(place, vault_proxy):
    before = place.vault.counts().tokens
    client = place.client(url=vault_proxy.url, deadline_s=20)
    vault_proxy.will(Hang(path=LOGIN, seconds=1))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_one, client)
        wait_until(lambda: vault_proxy.count(LOGIN) == 1)

        client.close()

        with pytest.raises(ServiceUnavailableError, match="closed in the meantime"):
            reading.result(20)
    assert place.vault.counts().tokens == before


def in_child(work):
    """Run a function in a forked child; what it returns, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def test_a_forked_child_logs_in_for_itself_and_ends_only_its_own(place):
    client = place.client()
    mine = client.token().value.reveal()

    def work():
        found = read_one(client)
        other = client.token().value.reveal()
        client.close()
        return found, other != mine

    assert in_child(work) == "('first', True)"
    assert read_one(client) == "first"
    assert client.token().value.reveal() == mine
    assert (place.asked(LOGIN), place.asked("auth/token/revoke-self")) == (2, 1)


def test_a_child_that_was_forked_during_a_login_can_log_in(place, vault_proxy):
    client = place.client(url=vault_proxy.url, deadline_s=10)
    vault_proxy.will(Hang(path=LOGIN, seconds=2))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_one, client)
        wait_until(lambda: vault_proxy.count(LOGIN) == 1)

        # Beside the proxy: a process of its own has no proxy that answers.
        def work():
            client.server = place.server()
            found = read_one(client)
            client.close()
            return found

        assert in_child(work) == "first"
        assert reading.result(20) == "first"


class Struck(BaseException):
    """What Airflow's execution_timeout looks like."""


def read_and_close_until(struck_s, client):
    signal.setitimer(signal.ITIMER_REAL, struck_s)
    while True:
        read_one(client)
        client.close()


@pytest.mark.parametrize("path", [LOGIN, ONE], ids=["login", "request"])
def test_a_timeout_that_strikes_anywhere_leaves_a_client_that_works(place, vault_proxy, path):
    # An answer that nobody waited for leaves a token to its end, which is near.
    client = place.client(place.role(token_ttl="5s"), url=vault_proxy.url, deadline_s=20)

    def strike(*_):
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for delay_ms in (1, 2, 3, 5, 8, 13, 21, 34, 55):
            vault_proxy.will(Hang(path=path, seconds=0.2))
            with pytest.raises(Struck):
                read_and_close_until(delay_ms / 1000, client)
            vault_proxy.behave()
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(read_one, client).result(5) == "first"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signals_handler_may_ask_while_its_thread_is_asking(place, vault_proxy):
    client = place.client(url=vault_proxy.url, deadline_s=20)
    client.token()
    found = []
    before = signal.signal(signal.SIGALRM, lambda *_: found.append(read(client, "one")))
    try:
        vault_proxy.will(Hang(path=ONE, seconds=0.5))
        signal.setitimer(signal.ITIMER_REAL, 0.1)

        found.append(read_one(client))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert found == ["first", "first"]
    assert place.asked(LOGIN) == 1


def test_a_client_and_its_token_cannot_be_pickled(place):
    client = place.client()
    token = client.token()

    for one in (client, token, token.value, client._login):
        with pytest.raises(TypeError):
            pickle.dumps(one)
        with pytest.raises(TypeError):
            copy.deepcopy(one)


def test_no_secret_is_ever_shown(place, vault_proxy, caplog):
    caplog.set_level(logging.DEBUG)
    role = place.role()
    user = PasswordLogin(user="alice", password=Secret(CANARY), method="userpass", mount="userpass")
    logins = [
        role,
        AppRoleLogin(role_id=role.role_id, secret_id=Secret(CANARY)),
        TokenLogin(token=Secret(f"hvs.{CANARY}")),
        user,
    ]
    vault_setup.userpass(place.vault, "alice", "another")
    secrets = [CANARY, role.secret_id.reveal()]
    shown = []
    for login in logins:
        client = place.client(login, url=vault_proxy.url)
        vault_proxy.will(Answer(path="kv/data/odd", status=400, body={"errors": [CANARY]}))
        for name in ("one", "odd", "none"):
            try:
                read(client, name)
            except SecureMLError as error:
                shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
                shown.append(str(pickle.dumps(error)))
        shown += [repr(client), repr(login), str(login), repr(client.server)]
        if client._token is not None:
            secrets.append(client._token.value.reveal())
            shown += [repr(client._token), f"{client._token}"]
        client.close()
    shown += [record.getMessage() + str(record.__dict__) for record in caplog.records]

    # The login that works, and those that are given or refused.
    assert len(secrets) == 4
    assert any("/v1/kv/data/one" in text for text in shown)
    assert [text for text in shown if any(secret in text for secret in secrets)] == []


def test_a_token_is_not_left_in_hvacs_client(place):
    client = place.client()
    read_one(client)

    assert client._local.vault.token == ""


def test_a_client_that_nobody_holds_is_gone(place):
    client = place.client()
    read_one(client)
    client.close()
    place.clients.clear()
    seen = weakref.ref(client)

    del client
    gc.collect()

    assert seen() is None
