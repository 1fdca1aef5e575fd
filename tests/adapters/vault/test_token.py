"""How long a token holds, and whether it is ours to revoke."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret


def of_login(**auth):
    return Token.of_login({"auth": {"client_token": "t"} | auth})


def test_a_login_makes_a_token_that_is_ours():
    found = of_login(lease_duration=60, renewable=True, token_type="service")

    assert found == Token(value=Secret("t"), ttl_s=60, renewable=True, ours=True)


def test_a_batch_token_is_nobodys_to_revoke():
    assert not of_login(token_type="batch").ours


@pytest.mark.parametrize(
    ("ttl_s", "due_s", "ended_s"), [(600, 570, 600), (60, 54, 60), (2, 1.8, 2)], ids=str
)
def test_a_token_is_due_before_it_ends(ttl_s, due_s, ended_s):
    token = Token(value=Secret("t"), ttl_s=ttl_s, began_s=1000)

    assert not token.is_due(1000 + due_s - 0.01)
    assert token.is_due(1000 + due_s + 0.01)
    assert not token.has_ended(1000 + ended_s - 0.01)
    assert token.has_ended(1000 + ended_s)


def test_a_token_without_a_term_does_not_end():
    token = Token(value=Secret("t"), began_s=0)

    assert not token.is_due(1e12)
    assert not token.has_ended(1e12)


@pytest.mark.parametrize("auth", [None, "x", {}, {"lease_duration": "60"}, {"lease_duration": -1}])
def test_a_renewal_of_an_odd_form_gives_no_term(auth):
    token = Token(value=Secret("t"), ttl_s=60, renewable=True)

    renewed = token.renewed({"auth": auth})

    assert (renewed.ttl_s, renewed.renewable) == (0, False)
