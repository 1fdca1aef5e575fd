"""Which keys of the settings a Vault's log is compared about, and since when."""

from __future__ import annotations

import pytest

from airflow_secure_ml.commands.vault_agreement import VaultPlaces, _begin_ms
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import parse_settings


def places(conn_id=None, **options):
    return VaultPlaces(parse_settings(options), conn_id)


def test_a_name_is_looked_for_where_it_lies():
    found = places(
        key_system="vault://transit?conn_id=one",
        key_names='{"health": "vault://team/keys?conn_id=one&key=h.1", "mine": "local:///k.json"}',
    )

    assert found.at("data") == "transit/data"
    assert found.at("health") == "team/keys/h.1"
    assert found.at("mine") == found.at("") == ""
    assert found.mounts == {"transit", "team/keys"}


def test_of_several_vaults_one_is_said():
    options = {
        "key_system": "vault://transit?conn_id=one",
        "key_names": '{"health": "vault://transit?conn_id=two"}',
    }

    with pytest.raises(ConfigurationError, match="say with --conn-id"):
        places(**options)
    found = places("two", **options)
    assert (found.at("health"), found.at("data")) == ("transit/health", None)


def test_the_key_that_signs_the_log_is_set_apart():
    found = places(audit_signer="vault://transit?key=audit-log")

    assert found.apart == {"transit/audit-log"}
    assert places().apart == frozenset()


class Trail:
    """A log that was made at 10,000,000 ms, with events of these times."""

    def __init__(self, *times):
        self.times = times

    def begin_ms(self):
        return 10_000_000

    def events(self, query):
        found = (at for at in sorted(self.times) if query.from_ms <= at < query.until_ms)
        return ({"time": at} for at in found)


def test_the_trail_begins_with_what_was_recorded_before_its_log_was_made():
    assert _begin_ms(Trail(9_990_000, 10_000_500)) == 9_990_000
    assert _begin_ms(Trail(10_000_500)) == 10_000_000


def test_an_event_that_claims_to_be_old_does_not_make_the_trail_old():
    assert _begin_ms(Trail(17, 9_990_000)) == 9_990_000
