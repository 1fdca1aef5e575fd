"""Switched in under a deployment of the official back end: the same answers, layout by layout."""

from __future__ import annotations

import pytest


def same_connection(place, conn_id, **options):
    """What both back ends make of a connection."""
    found = [
        made.get_connection(conn_id) for made in (place.official(**options), place.ours(**options))
    ]
    shown = [None if one is None else (one.get_uri(), one.as_json()) for one in found]
    assert shown[0] == shown[1]
    return found[1]


def same_variable(place, key, **options):
    found = [place.official(**options).get_variable(key), place.ours(**options).get_variable(key)]
    assert found[0] == found[1]
    return found[1]


LAYOUTS = {
    "uri": {"conn_uri": "postgresql://scott:tiger%2F@db.example.org:5432/sales?sslmode=require"},
    "fields": {
        "conn_type": "postgres",
        "host": "db.example.org",
        "login": "scott",
        "password": "ti/ger@",
        "schema": "sales",
        "port": 5432,
    },
    "port as text": {"conn_type": "http", "host": "h", "port": "8080"},
    "extra as object": {
        "conn_type": "aws",
        "extra": {"region_name": "eu-west-1", "deep": {"a": 1}},
    },
    "extra as text": {"conn_type": "aws", "extra": '{"region_name": "eu-west-1"}'},
    "description": {"conn_type": "http", "host": "h", "description": "what for"},
}


@pytest.mark.parametrize("fields", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_connection_is_the_same(place, fields):
    place.put("connections/same", fields)

    assert same_connection(place, "same").conn_id == "same"


@pytest.mark.parametrize("fields", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_connection_of_version_1_is_the_same(place, fields):
    place.put1("connections/same", fields)

    found = same_connection(place, "same", mount_point="airflow1", kv_engine_version=1)

    assert found is not None


@pytest.mark.parametrize("value", ["text", '{"a": 1}', "", 5, {"a": [1]}, True], ids=repr)
def test_a_variable_is_the_same(place, value):
    place.put("variables/same", {"value": value})

    assert same_variable(place, "same") == value


def test_an_option_is_the_same(place):
    place.put("config/sql_alchemy_conn", {"value": "postgresql://u:p@h/db"})

    assert place.official().get_config("sql_alchemy_conn") == "postgresql://u:p@h/db"
    assert place.ours().get_config("sql_alchemy_conn") == "postgresql://u:p@h/db"


def test_what_is_not_there_is_the_same(place):
    place.put("connections/deleted", {"conn_uri": "http://x"})
    place.vault.api("DELETE", "airflow/data/connections/deleted")

    assert same_connection(place, "never") is None
    assert same_connection(place, "deleted") is None
    assert same_variable(place, "never") is None
    assert place.ours().get_config("never") is None


def test_paths_are_tried_in_order(place):
    place.put("shared/only", {"conn_uri": "http://shared"})
    place.put("shared/both", {"conn_uri": "http://shared"})
    place.put("connections/both", {"conn_uri": "http://own"})
    options = {"connections_path": ["connections/", "shared"]}

    assert same_connection(place, "only", **options).host == "shared"
    assert same_connection(place, "both", **options).host == "own"


@pytest.mark.filterwarnings("ignore")
def test_the_deprecated_path_is_one_more_place(place):
    place.put("shared/global", {"conn_uri": "http://shared"})

    assert same_connection(place, "global", global_secrets_path="shared/").host == "shared"


def test_a_kind_that_is_switched_off_never_reaches_vault(place):
    options = {"connections_path": None, "variables_path": None, "config_path": None}

    assert same_connection(place, "x", **options) is None
    assert same_variable(place, "x", **options) is None
    assert place.ours(**options).get_config("x") is None
    assert place.asked("auth/approle/login") == 0
    assert place.facts == []


def test_without_a_base_path_the_name_is_the_path(place):
    place.put("bare", {"value": "x"})

    assert same_variable(place, "bare", variables_path="") == "x"


def test_without_a_mount_each_name_begins_with_one(place):
    place.put("variables/mounted", {"value": "x"})

    assert same_variable(place, "airflow/mounted", mount_point=None) == "x"
    assert same_variable(place, "mounted", mount_point=None) is None


@pytest.mark.parametrize("name", ["a.b-c", "with blank", "ümlaut", "folder/inner"])
def test_odd_names_are_the_same(place, name):
    from urllib.parse import quote

    place.put(f"variables/{quote(name)}", {"value": name})

    assert same_variable(place, name) == name


def test_a_token_in_a_file_works(place, tmp_path):
    from tests.servers import vault_setup

    place.put("variables/by_file", {"value": "x"})
    held = vault_setup.token(place.vault, "airflow-secrets")
    (tmp_path / "token").write_text(held + "\n")
    try:
        found = place.ours(auth_type="token", token_path=str(tmp_path / "token"))

        assert found.get_variable("by_file") == "x"
    finally:
        vault_setup.revoke(place.vault, held)


def test_a_teams_secrets_lie_below_its_name(place, teams):
    place.put("connections/risk/warehouse", {"conn_uri": "http://risk"})
    place.put("connections/warehouse", {"conn_uri": "http://everybody"})
    place.put("connections/only_shared", {"conn_uri": "http://everybody"})
    ours, official = place.ours(), place.official()

    assert ours.get_connection("warehouse", team_name="risk").host == "risk"
    assert official.get_connection("warehouse", team_name="risk").host == "risk"
    assert ours.get_connection("warehouse").host == "everybody"
    # The official one has none here: shared secrets are every team's.
    assert ours.get_connection("only_shared", team_name="risk").host == "everybody"


def test_without_a_team_nobody_reaches_into_one(place, teams):
    place.put("connections/risk/login", {"conn_uri": "http://risk"})
    ours, official = place.ours(), place.official()

    assert official.get_connection("risk/login") is None
    assert ours.get_connection("risk/login") is None
    assert ours.get_connection("risk/login", team_name="sales") is None


@pytest.mark.parametrize("name", ["../risk/login", "x/../../risk/login", ".."])
def test_no_dots_lead_out_of_a_teams_path(place, teams, name):
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

    place.put("connections/risk/login", {"conn_uri": "http://risk"})

    with pytest.raises(AirflowSecretsBackendAccessDenied, match="plain form"):
        place.ours().get_connection(name, team_name="sales")


def test_the_team_of_a_task_is_known_where_airflow_does_not_say_it(place, teams, as_task):
    place.put("connections/risk/warehouse", {"conn_uri": "http://risk"})
    place.put("connections/warehouse", {"conn_uri": "http://everybody"})

    with as_task(team="risk"):
        found = place.ours().get_connection("warehouse")

    assert found.host == "risk"


def test_a_task_cannot_ask_for_another_team(place, teams, as_task):
    place.put("connections/risk/warehouse", {"conn_uri": "http://risk"})
    place.put("connections/sales/warehouse", {"conn_uri": "http://sales"})

    with as_task(team="sales"):
        found = place.ours().get_connection("warehouse", team_name="risk")

    assert found.host == "sales"


@pytest.mark.parametrize("team", ["..", "risk/..", "", "a/../risk"], ids=ascii)
def test_no_name_of_a_team_leads_out_of_its_path(place, teams, team):
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

    place.put("connections/risk/login", {"conn_uri": "http://risk"})

    with pytest.raises(AirflowSecretsBackendAccessDenied):
        place.ours(absent="deny").get_connection("login", team_name=team)


def test_airflow_gives_the_team_to_this_back_end():
    from airflow._shared.secrets_backend.base import _accepts_team_name

    from airflow_secure_ml.secrets import VaultBackend

    made = VaultBackend()
    for method in (made.get_connection, made.get_conn_value, made.get_variable):
        assert _accepts_team_name(method)
