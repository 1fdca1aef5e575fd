"""A secret id that travels wrapped is unwrapped once, and a thief is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.adapters.vault.wrapped_secret_id import WrappedSecretIdLogin
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ServiceRefusedError, ServiceUnavailableError
from tests.adapters.vault.client_place import LOGIN, ClientPlace, read_one
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Cut

pytestmark = pytest.mark.vault
UNWRAP, LOOK = "sys/wrapping/unwrap", "sys/wrapping/lookup"


@pytest.fixture
def place(vault, vault_proxy):
    # The proxy ends later, so that tokens can be revoked through it.
    with ClientPlace(vault) as made:
        vault_setup.approle(vault, "wrapped", "kv-reader")
        yield made
        vault_proxy.behave()


@pytest.fixture
def wrap(place):
    """Makes wrapping tokens, and revokes what nobody used."""
    made = []

    def make(name="wrapped", ttl="60s"):
        made.append(vault_setup.wrapped_secret_id(place.vault, name, ttl))
        return made[-1]

    yield make
    for token in made:
        vault_setup.revoke(place.vault, token)


@pytest.fixture
def role_id(place):
    return place.vault.api("GET", "auth/approle/role/wrapped/role-id")["data"]["role_id"]


def reason_of(client):
    with pytest.raises(ServiceRefusedError) as raised:
        read_one(client)
    return raised.value.reason


def test_it_is_looked_at_and_unwrapped_once_for_many_logins(place, wrap, role_id):
    client = place.client(WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap())))
    for _ in range(3):
        assert read_one(client) == "first"
        client.close()

    assert (place.asked(LOOK), place.asked(UNWRAP), place.asked(LOGIN)) == (1, 1, 3)


def test_it_is_taken_from_a_file_that_may_be_gone_afterwards(place, wrap, role_id, tmp_path):
    file = tmp_path / "wrapped"
    file.write_text(wrap())
    login = WrappedSecretIdLogin(role_id=role_id, wrapping=SecretFile(path=str(file)))
    client = place.client(login)
    assert read_one(client) == "first"
    client.close()
    file.unlink()

    assert read_one(client) == "first"


def test_a_new_wrapping_token_in_the_file_is_used(place, wrap, role_id, tmp_path):
    file = tmp_path / "wrapped"
    file.write_text(wrap())
    login = WrappedSecretIdLogin(role_id=role_id, wrapping=SecretFile(path=str(file)))
    client = place.client(login)
    read_one(client)
    client.close()
    file.write_text(wrap())

    assert read_one(client) == "first"
    assert place.asked(UNWRAP) == 2


def test_a_second_use_is_refused(place, wrap, role_id):
    stolen = wrap()
    place.vault.api("POST", UNWRAP, token=stolen)
    client = place.client(WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(stolen)))

    assert reason_of(client) == "wrapping token used or expired"
    assert reason_of(client) == "wrapping token used or expired"
    assert (place.asked(LOGIN), place.asked(LOOK)) == (0, 1)


def test_a_thief_between_the_look_and_the_use_is_noticed(place, wrap, role_id, vault_proxy):
    stolen = wrap()
    client = place.client(
        WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(stolen)), url=vault_proxy.url
    )
    said = {"errors": ["wrapping token is not valid or does not exist"]}
    vault_proxy.will(Answer(path=UNWRAP, status=400, body=said))

    assert reason_of(client) == "wrapping token used or expired"


def test_what_was_wrapped_for_something_else_is_not_unwrapped(place, role_id):
    # Somebody puts a wrapping token of their own there, with a secret id of their own in it.
    wrapping = replace(place.vault.client(), wrap_ttl="60s")
    made = wrapping.call("POST", "sys/wrapping/wrap", {"secret_id": "theirs"})
    client = place.client(
        WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(made["wrap_info"]["token"]))
    )

    assert reason_of(client) == "wrapping token made for something else"
    assert (place.asked(UNWRAP), place.asked(LOGIN)) == (0, 0)
    vault_setup.revoke(place.vault, made["wrap_info"]["token"])


@pytest.mark.parametrize(("role", "is_taken"), [("wrapped", True), ("wrapp.d", False)])
def test_a_secret_id_of_another_role_is_not_unwrapped(place, wrap, role_id, role, is_taken):
    login = WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap()), role=role)
    client = place.client(login)

    if is_taken:
        assert read_one(client) == "first"
    else:
        assert reason_of(client) == "wrapping token made for something else"


def test_a_lost_answer_is_not_blamed_on_a_thief(place, wrap, role_id, vault_proxy):
    client = place.client(
        WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap())), url=vault_proxy.url
    )
    vault_proxy.will(Cut(path=UNWRAP))

    with pytest.raises(ServiceUnavailableError, match="unwrap the secret id"):
        read_one(client)

    assert vault_proxy.count(UNWRAP) == 1
    assert reason_of(client) == "unwrapped, but the answer was lost"
    assert vault_proxy.count(UNWRAP) == 1


def test_a_busy_server_uses_nothing_up(place, wrap, role_id, vault_proxy):
    client = place.client(
        WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap())),
        url=vault_proxy.url,
        deadline_s=0.5,
    )
    vault_proxy.will(Answer(path=UNWRAP, status=503, times=99))
    with pytest.raises(ServiceUnavailableError):
        read_one(client)
    vault_proxy.behave()

    assert read_one(client) == "first"


def test_an_answer_to_unwrapping_without_a_secret_id_is_refused(place, wrap, role_id, vault_proxy):
    client = place.client(
        WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap())), url=vault_proxy.url
    )
    vault_proxy.will(Answer(path=UNWRAP, status=200, body={"data": {"secret_id": None}}))

    assert reason_of(client) == "wrapping token made for something else"
    assert place.asked(LOGIN) == 0


def test_checking_uses_nothing_up(place, wrap, role_id):
    login = WrappedSecretIdLogin(role_id=role_id, wrapping=Secret(wrap(ttl="45s")))
    client = place.client(login)

    assert [client.before_login(login.check) for _ in range(2)] == [45, 45]
    assert read_one(client) == "first"
