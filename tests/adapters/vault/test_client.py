"""A client of the real Vault under failure: what is tried again, what is not, and for how long."""

from __future__ import annotations

import time

import pytest

from airflow_secure_ml.adapters.vault.client import REFUSED_LOGIN_S
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin, TokenLogin
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import (
    ConfigurationError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.vault_api import VaultAnswerError
from tests.adapters.vault.client_place import LOGIN, ClientPlace, FakeTime, read_one
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Cut, Hang, Lose, Proxy

pytestmark = pytest.mark.vault
ONE = "kv/data/one"


@pytest.fixture
def place(vault, vault_proxy):
    # The proxy ends later, so that tokens can be revoked through it.
    with ClientPlace(vault) as made:
        yield made
        vault_proxy.behave()


@pytest.fixture
def proxied(place, vault_proxy):
    """A client behind the proxy that has logged in, and its time."""
    fake = FakeTime()
    client = place.client(url=vault_proxy.url, time=fake)
    client.token()
    return client, fake


def write(client, name, *, repeatable):
    client.call(
        f"write kv/{name}",
        lambda vault: vault.adapter.post(f"/v1/kv/data/{name}", json={"data": {"a": "b"}}),
        repeatable=repeatable,
    )


def versions(place, name):
    return place.vault.api("GET", f"kv/data/{name}")["data"]["metadata"]["version"]


def lives(place, token):
    try:
        place.vault.api("POST", "auth/token/lookup", {"token": token.value.reveal()})
    except VaultAnswerError:
        return False
    return True


def test_a_secret_is_read_with_one_login(place):
    client = place.client()

    assert [read_one(client) for _ in range(5)] == ["first"] * 5
    assert (place.asked(LOGIN), place.asked(ONE)) == (1, 5)


def test_a_sealed_server_is_asked_again_inside_the_deadline(place):
    fake = FakeTime()
    client = place.client(time=fake, deadline_s=10)
    began_s = fake.now_s
    place.vault.seal()
    try:
        with pytest.raises(ServiceUnavailableError, match="sealed or in maintenance") as raised:
            read_one(client)
    finally:
        place.vault.unseal()

    assert raised.value.reason == "status 503: sealed or in maintenance"
    assert fake.waits[:6] == pytest.approx([0.075, 0.15, 0.3, 0.6, 1.2, 1.5])
    assert 8 < fake.now_s - began_s <= 10


def test_a_server_that_is_unsealed_in_time_answers(place):
    fake = FakeTime()
    client = place.client(time=fake)
    place.vault.seal()
    fake.meanwhile = place.vault.unseal
    try:
        assert read_one(client) == "first"
    finally:
        place.vault.unseal()

    assert len(fake.waits) == 1


@pytest.mark.parametrize("status", [412, 429, 472, 473, 501, 503])
def test_what_says_that_it_did_nothing_is_asked_again(proxied, vault_proxy, status):
    client, fake = proxied
    vault_proxy.will(Answer(path=ONE, status=status))

    assert read_one(client) == "first"
    assert (vault_proxy.count(ONE), len(fake.waits)) == (2, 1)


def test_a_standby_that_points_elsewhere_is_asked_again(proxied, vault_proxy):
    client, _ = proxied
    away = {"Location": "https://127.0.0.2:8200/v1/kv/data/one"}
    vault_proxy.will(Answer(path=ONE, status=307, headers=away))

    assert read_one(client) == "first"


def test_a_standby_without_an_active_node_is_asked_again(proxied, vault_proxy, place):
    client, _ = proxied
    said = {"errors": ["local node not active but active cluster node not found"]}
    vault_proxy.will(Answer(path="kv/data/standby", status=500, body=said))

    write(client, "standby", repeatable=False)

    assert versions(place, "standby") == 1


def test_what_did_nothing_is_asked_again_although_it_must_not_be_repeated(
    proxied, vault_proxy, place
):
    client, _ = proxied
    vault_proxy.will(Answer(path="kv/data/busy", status=429, times=2))

    write(client, "busy", repeatable=False)

    assert (vault_proxy.count("kv/data/busy"), versions(place, "busy")) == (3, 1)


@pytest.mark.parametrize(
    "act",
    [
        Lose(path=ONE),
        Cut(path=ONE),
        Cut(path=ONE, after_bytes=0),
        Cut(path=ONE, after_bytes=20),
        Answer(path=ONE, status=500),
        Answer(path=ONE, status=502),
        Answer(path=ONE, status=504),
        Answer(path=ONE, status=200, body="a page"),
    ],
    ids=["lost", "no head", "no body", "half a body", "500", "502", "504", "page"],
)
def test_an_answer_that_was_lost_is_asked_for_again(proxied, vault_proxy, act):
    client, fake = proxied
    vault_proxy.will(act)

    assert read_one(client) == "first"
    assert (vault_proxy.count(ONE), len(fake.waits)) == (2, 1)


@pytest.mark.parametrize("act", [Lose, Cut], ids=["before", "after"])
def test_what_must_not_be_repeated_is_sent_once(proxied, vault_proxy, place, act):
    client, fake = proxied
    name = f"once-{act.__name__}"
    vault_proxy.will(act(path=f"kv/data/{name}"))

    with pytest.raises(ServiceUnavailableError, match="connection cut"):
        write(client, name, repeatable=False)

    assert (vault_proxy.count(f"kv/data/{name}"), fake.waits) == (1, [])
    if act is Cut:
        assert versions(place, name) == 1


def test_a_slow_answer_is_given_up_in_time(place, vault_proxy):
    client = place.client(url=vault_proxy.url, timeout_s=0.3, deadline_s=1)
    client.token()
    vault_proxy.will(Hang(path=ONE, seconds=30, times=20))
    began_s = time.monotonic()

    with pytest.raises(ServiceUnavailableError, match="no answer in time"):
        read_one(client)

    assert time.monotonic() - began_s < 3
    assert vault_proxy.count(ONE) > 1


def test_a_slow_answer_that_comes_in_time_is_taken(proxied, vault_proxy):
    client, fake = proxied
    vault_proxy.will(Hang(path=ONE, seconds=0.2))

    assert (read_one(client), fake.waits) == ("first", [])


def test_a_refused_connection_is_tried_again_whatever_was_to_be_done(place, vault_proxy):
    fake = FakeTime()
    client = place.client(url=vault_proxy.url, time=fake)
    client.token()
    vault_proxy.refuse()
    fake.meanwhile = vault_proxy.accept

    write(client, "refused", repeatable=False)

    assert versions(place, "refused") == 1


def test_nobody_there_is_told_after_the_deadline(place, vault_proxy):
    fake = FakeTime()
    client = place.client(url=vault_proxy.url, time=fake, deadline_s=3)
    vault_proxy.refuse()

    with pytest.raises(ServiceUnavailableError, match="not reachable") as raised:
        read_one(client)

    assert (raised.value.service, raised.value.action) == ("vault", "log in by AppRole at approle")
    assert sum(fake.waits) <= 3


def test_the_wait_that_is_asked_for_is_kept(proxied, vault_proxy):
    client, fake = proxied
    vault_proxy.will(Answer(path=ONE, status=429, headers={"Retry-After": "3"}))

    assert read_one(client) == "first"
    assert fake.waits == pytest.approx([3.075])


def test_a_wait_beyond_the_deadline_is_not_begun(proxied, vault_proxy):
    client, fake = proxied
    vault_proxy.will(Answer(path=ONE, status=503, headers={"Retry-After": "600"}, times=9))

    with pytest.raises(ServiceUnavailableError, match="status 503"):
        read_one(client)

    assert (vault_proxy.count(ONE), fake.waits) == (1, [])


def test_vaults_own_limit_of_requests_is_kept(place):
    place.vault.api("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
    order = {"rate": 1, "interval": "1s", "path": "kv"}
    client = place.client()
    client.token()
    place.vault.api("POST", "sys/quotas/rate-limit/few", order)
    began_s = time.monotonic()
    try:
        found = [read_one(client) for _ in range(2)]
    finally:
        place.vault.api("DELETE", "sys/quotas/rate-limit/few")

    assert found == ["first"] * 2
    assert time.monotonic() - began_s > 0.3
    assert place.asked(LOGIN) == 1


def test_a_server_of_another_authority_gets_nothing(place, vault_proxy, tmp_path):
    other = CertificateAuthority.make(tmp_path / "other.pem")
    client = place.client(url=vault_proxy.url, ca=str(other.file))

    with pytest.raises(ConfigurationError, match="not issued by a certificate authority"):
        read_one(client)

    assert vault_proxy.count() == 0


def test_a_server_of_another_name_gets_nothing(place, vault_proxy):
    # The loopback address, written so that no certificate names it.
    client = place.client(url=vault_proxy.url.replace("127.0.0.1", "127.1"))

    with pytest.raises(ConfigurationError, match="is not for this name"):
        read_one(client)

    assert vault_proxy.count() == 0


def test_an_authority_that_is_merely_installed_is_not_enough(place):
    client = place.client(ca=None)

    with pytest.raises(ConfigurationError, match="nothing was sent"):
        read_one(client)


def test_a_server_without_tls_gets_nothing(place, vault, tmp_path):
    with Proxy.before(vault, tmp_path, plain=True) as plain:
        client = place.client(url=plain.url.replace("http://", "https://"))

        with pytest.raises(ConfigurationError, match="no TLS is spoken there"):
            read_one(client)

        assert plain.count() == 0


def test_plain_http_works_where_it_is_allowed(place, vault, tmp_path):
    with Proxy.before(vault, tmp_path, plain=True) as plain:
        client = place.client(url=plain.url, allow_http=True)

        assert read_one(client) == "first"
        client.close()


def test_plain_http_at_a_port_of_tls_is_refused(place):
    url = place.vault.url.replace("https://", "http://")
    client = place.client(TokenLogin(token=Secret("token")), url=url, allow_http=True)

    with pytest.raises(ServiceRefusedError, match="request not accepted"):
        read_one(client)


def test_a_certificate_file_that_is_gone_is_named(place, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(place.vault.ca.read_bytes())
    client = place.client(ca=str(ca))
    client.token()
    ca.unlink()
    # Another connection is made, and the file is read anew.
    place.vault.stop()
    place.vault.start()
    place.vault.unseal()

    with pytest.raises(ConfigurationError, match=r"ca\.pem: No such file"):
        read_one(client)

    ca.write_bytes(place.vault.ca.read_bytes())


def test_a_denial_is_one_denial_and_no_login(place):
    client = place.client()

    for _ in range(3):
        with pytest.raises(ServiceRefusedError) as raised:
            client.call("read kv/config", lambda vault: vault.adapter.get("/v1/kv/config"))
        assert raised.value.reason == "permission denied"

    assert (place.asked("kv/config"), place.asked(LOGIN)) == (3, 1)


def test_nothing_at_a_path_is_told(place):
    client = place.client()

    with pytest.raises(ServiceRefusedError) as raised:
        client.call("read kv/none", lambda vault: vault.adapter.get("/v1/kv/data/none"))

    assert raised.value.reason == "nothing at that path"


def test_a_revoked_token_is_replaced_once(place):
    client = place.client()
    first = client.token()
    vault_setup.revoke(place.vault, first.value.reveal())

    assert read_one(client) == "first"
    assert client.token().value != first.value
    assert (place.asked(LOGIN), place.asked(ONE)) == (2, 2)


def test_a_write_with_a_revoked_token_is_done_once(place):
    client = place.client()
    vault_setup.revoke(place.vault, client.token().value.reveal())

    write(client, "revoked", repeatable=False)

    assert versions(place, "revoked") == 1


def test_a_token_that_is_revoked_again_and_again_is_an_error(place, vault_proxy):
    client = place.client(url=vault_proxy.url)
    said = {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}
    vault_proxy.will(Answer(path=ONE, status=403, body=said, times=9))

    with pytest.raises(ServiceRefusedError) as raised:
        read_one(client)

    assert raised.value.reason == "token not valid"
    assert (vault_proxy.count(LOGIN), vault_proxy.count(ONE)) == (2, 2)


def test_an_expired_token_is_replaced_once(place):
    # The client's own clock stands still, so that it believes the token.
    client = place.client(place.role(token_ttl="1s"), time=FakeTime())
    first = client.token()
    deadline_s = time.monotonic() + 20
    while lives(place, first):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)

    assert read_one(client) == "first"
    assert place.asked(LOGIN) == 2


def test_a_refused_login_is_not_tried_again_for_a_while(place):
    fake = FakeTime()
    good = place.role()
    client = place.client(
        AppRoleLogin(role_id=good.role_id, secret_id=Secret("canary-4711")), time=fake
    )

    errors = []
    for _ in range(100):
        with pytest.raises(ServiceRefusedError) as raised:
            read_one(client)
        errors.append(raised.value)

    assert {error.reason for error in errors} == {"login not accepted"}
    assert place.asked(LOGIN) == 1
    # Each its own: one that is raised again and again would hold ever more tracebacks.
    assert len({id(error) for error in errors}) == 100
    fake.now_s += REFUSED_LOGIN_S + 1
    with pytest.raises(ServiceRefusedError):
        read_one(client)
    assert place.asked(LOGIN) == 2


def test_a_given_token_that_is_not_valid_is_sent_once_a_call(place):
    client = place.client(TokenLogin(token=Secret("hvs.nobody")))

    with pytest.raises(ServiceRefusedError) as raised:
        read_one(client)

    assert (raised.value.reason, place.asked(ONE)) == ("token not valid", 1)


def test_a_given_token_is_neither_renewed_nor_revoked(place):
    given = vault_setup.token(place.vault, "kv-reader")
    client = place.client(TokenLogin(token=Secret(given)))

    assert read_one(client) == "first"
    client.close()

    assert lives(place, Token(value=Secret(given)))
    assert place.asked("auth/token/renew-self") == 0
    vault_setup.revoke(place.vault, given)


def test_a_token_is_renewed_before_it_ends(place):
    fake = FakeTime()
    client = place.client(place.role("kv-reader", "default", token_ttl="60s"), time=fake)
    first = client.token()

    for _ in range(3):
        fake.now_s += 55
        assert read_one(client) == "first"

    assert client.token().value == first.value
    assert (place.asked(LOGIN), place.asked("auth/token/renew-self")) == (1, 3)


def test_a_token_at_the_end_of_its_life_is_replaced_without_a_gap(place):
    role = place.role("kv-reader", "default", token_ttl="2s", token_max_ttl="2s")
    client = place.client(role)
    first = client.token()
    deadline_s = time.monotonic() + 20

    while client.token().value == first.value:
        assert read_one(client) == "first"
        assert time.monotonic() < deadline_s
        time.sleep(0.05)

    assert place.asked(LOGIN) == 2


def test_a_token_is_used_to_its_end_where_no_other_can_be_had(place, vault_proxy):
    fake = FakeTime()
    client = place.client(place.role(token_ttl="60s"), url=vault_proxy.url, time=fake)
    first = client.token()
    fake.now_s += 55
    vault_proxy.will(Answer(path="auth/token/renew-self", status=403))
    vault_proxy.will(Answer(path=LOGIN, status=400))

    assert [read_one(client) for _ in range(3)] == ["first"] * 3
    assert client.token().value == first.value
    assert vault_proxy.count(LOGIN) == 2


def test_a_batch_token_is_used_and_left_to_its_end(place):
    client = place.client(place.role("kv-reader", token_type="batch", token_ttl="60s"))

    assert read_one(client) == "first"
    client.close()

    assert place.asked("auth/token/revoke-self") == 0


def test_closing_leaves_no_token(place):
    before = place.vault.counts().tokens
    client = place.client()
    read_one(client)
    assert place.vault.counts().tokens == before + 1

    client.close()
    client.close()

    assert place.vault.counts().tokens == before
    assert place.asked("auth/token/revoke-self") == 1


def test_a_closed_client_logs_in_again(place):
    client = place.client()
    read_one(client)
    client.close()

    assert read_one(client) == "first"
    assert place.asked(LOGIN) == 2


def test_closing_ends_in_time_where_nobody_answers(place, vault_proxy):
    client = place.client(url=vault_proxy.url, timeout_s=0.3, deadline_s=1)
    token = client.token()
    vault_proxy.will(Hang(path="auth/token/revoke-self", seconds=30, times=20))
    began_s = time.monotonic()

    client.close()

    assert time.monotonic() - began_s < 2
    vault_setup.revoke(place.vault, token.value.reveal())


def test_tokens_that_ended_are_not_kept(place):
    fake = FakeTime()
    client = place.client(place.role(token_ttl="60s"), time=fake)
    tokens = []
    for _ in range(5):
        tokens.append(client.token().value.reveal())
        fake.now_s += 61

    client.token()
    client.close()

    assert place.asked("auth/token/revoke-self") == 1
    for token in tokens:
        vault_setup.revoke(place.vault, token)
