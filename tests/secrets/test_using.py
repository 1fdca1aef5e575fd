"""Who may use a secret, what is recorded of it, what is masked, what is kept."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

CANARY = "canary-5a20c8"


@pytest.fixture
def restricted(place):
    place.put("connections/prod", {"conn_uri": "http://prod"}, dags="churn*", tasks="other/one")
    return place.ours()


@pytest.mark.parametrize(
    ("dag", "task"), [("churn", "train"), ("churn_eu", "any"), ("other", "one")]
)
def test_a_secret_is_given_to_the_dags_and_tasks_it_names(restricted, as_task, dag, task):
    with as_task(dag, task):
        assert restricted.get_connection("prod").host == "prod"


@pytest.mark.parametrize(("dag", "task"), [("other", "two"), ("chur", "train")])
def test_another_task_is_denied_although_the_secret_is_kept(place, restricted, as_task, dag, task):
    with as_task("churn", "train"):
        restricted.get_connection("prod")

    with (
        as_task(dag, task),
        pytest.raises(AirflowSecretsBackendAccessDenied, match=f"not for task {task} of DAG {dag}"),
    ):
        restricted.get_connection("prod")

    outcome = place.facts[-1]
    assert (outcome.result, outcome.why) == ("refused", "rule_denied")
    assert (outcome.more["because"], outcome.run.dag) == ("restricted", dag)


def test_the_api_server_and_the_dag_processor_get_no_restricted_secret(place, restricted):
    with pytest.raises(AirflowSecretsBackendAccessDenied, match="not for whoever is no task"):
        restricted.get_connection("prod")


def test_the_api_servers_own_look_up_denies_what_is_restricted(place, monkeypatch):
    # As a task's request through the API server ends: ours is first, the database is not asked.
    from airflow.models import connection

    place.put("connections/prod", {"conn_uri": "http://prod"}, dags="churn")
    ours = place.ours()
    ours._set_connection_class(connection.Connection)
    behind = []

    class Database:
        def get_connection(self, conn_id, team_name=None):
            behind.append(conn_id)

    monkeypatch.setattr(
        "airflow.configuration.ensure_secrets_loaded", lambda *_: [ours, Database()]
    )
    monkeypatch.setattr(connection, "sys", type("sys", (), {"modules": {}}))

    with pytest.raises(AirflowSecretsBackendAccessDenied):
        connection.Connection.get_connection_from_secrets("prod")

    assert behind == []


def test_a_secret_of_version_1_says_in_itself_who_may_use_it(place, as_task):
    place.put1("connections/prod", {"conn_type": "http", "host": "prod", "secure_ml_dags": "churn"})
    ours = place.ours(mount_point="airflow1", kv_engine_version=1)

    with as_task("churn"):
        assert ours.get_connection("prod").host == "prod"
    with as_task("other"), pytest.raises(AirflowSecretsBackendAccessDenied):
        ours.get_connection("prod")


def test_the_platform_teams_rules_hold_for_every_secret_of_a_name(place, as_task):
    place.put("connections/prod_db", {"conn_uri": "http://prod"})
    ours = place.ours(rules={"connections/prod_*": {"tasks": "churn/train"}})

    with as_task("churn", "train"):
        assert ours.get_connection("prod_db").host == "prod"
    with as_task("churn", "evaluate"), pytest.raises(AirflowSecretsBackendAccessDenied):
        ours.get_connection("prod_db")


def test_a_rule_holds_for_a_secret_that_another_path_leads_to_as_well(place, as_task):
    place.put("connections/prod_db", {"conn_uri": "http://prod", "value": "x"})
    rules = {"connections/prod_*": {"tasks": "churn/train"}}
    ours = place.ours(rules=rules, global_secrets_path="")

    for ask in (ours.get_connection, ours.get_variable, ours.get_config):
        with as_task("churn", "evaluate"), pytest.raises(AirflowSecretsBackendAccessDenied):
            ask("connections/prod_db")
    with as_task("churn", "train"):
        assert ours.get_connection("connections/prod_db").host == "prod"


def test_a_rule_holds_below_a_mount_that_the_name_begins_with(place, as_task):
    place.put("connections/prod_db", {"conn_uri": "http://prod"})
    rules = {"connections/airflow/prod_*": {"tasks": "churn/train"}}
    ours = place.ours(rules=rules, mount_point=None, global_secrets_path="")

    for name in ("airflow/prod_db", "airflow/connections/prod_db"):
        with as_task("churn", "evaluate"), pytest.raises(AirflowSecretsBackendAccessDenied):
            ours.get_connection(name)


def test_a_restriction_that_cannot_be_read_denies_everybody(place, as_task):
    place.put("connections/prod", {"conn_uri": "http://prod"}, tasks="train")

    with as_task(), pytest.raises(AirflowSecretsBackendAccessDenied, match="expected dag/task"):
        place.ours().get_connection("prod")


def test_each_look_up_is_an_event_before_vault_is_asked(place, as_task):
    place.put("connections/c", {"conn_uri": "http://x"})
    ours = place.ours()

    with as_task():
        ours.get_connection("c")
        ours.get_connection("c")
        ours.get_variable("never")
    ours.get_config("never")

    said = [(f.phase, f.result, f.more["name"], f.more["kind"]) for f in place.facts]
    assert said == [
        ("intent", None, "c", "connection"),
        ("outcome", "ok", "c", "connection"),
        ("intent", None, "c", "connection"),
        ("outcome", "ok", "c", "connection"),
        ("intent", None, "never", "variable"),
        ("outcome", "ok", "never", "variable"),
        ("intent", None, "never", "config"),
        ("outcome", "ok", "never", "config"),
    ]
    because = [f.more.get("because") for f in place.facts if f.phase == "outcome"]
    assert because == [None, "cached", "absent", "absent"]
    assert [f.run and f.run.ti for f in place.facts[::2]] == ["ti-1", "ti-1", "ti-1", None]
    assert place.asked("airflow/data/connections/c") == 1


def test_the_trail_and_vaults_own_log_agree(place):
    place.put("variables/v", {"value": "x"})
    ours = place.ours(cache_ttl_s=0)

    for _ in range(5):
        ours.get_variable("v")

    uncached = [f for f in place.facts if f.phase == "outcome" and not f.more.get("because")]
    assert len(uncached) == place.asked("airflow/data/variables/v") == 5


def test_a_name_that_is_empty_is_not_its_own_folder(place):
    place.put("connections", {"conn_uri": "http://folder", "value": "x"})
    ours = place.ours(variables_path="connections")

    for ask in (ours.get_connection, ours.get_variable):
        with pytest.raises(AirflowSecretsBackendAccessDenied, match="plain form"):
            ask("")


def test_what_was_read_is_masked(place):
    from airflow.sdk._shared.secrets_masker import redact

    place.put(
        "connections/c",
        {"conn_type": "http", "password": f"{CANARY}/p", "extra": {"token": f"{CANARY}-t"}},
    )
    place.put("variables/v", {"value": f"{CANARY}-v"})
    ours = place.ours()

    ours.get_connection("c")
    ours.get_variable("v")

    for text in (f"{CANARY}/p", f"{CANARY}%2Fp", f"{CANARY}-t", f"{CANARY}-v"):
        assert redact(f"say {text}") == "say ***"


def test_a_kept_secret_is_changed_at_its_ttl(place):
    place.put("variables/v", {"value": "first"})
    kept, fresh = place.ours(cache_ttl_s=600), place.ours(cache_ttl_s=0)
    assert (kept.get_variable("v"), fresh.get_variable("v")) == ("first", "first")

    place.put("variables/v", {"value": "second"})

    assert (kept.get_variable("v"), fresh.get_variable("v")) == ("first", "second")


def test_back_ends_of_one_set_of_options_share_a_login_and_what_is_kept(place):
    place.put("variables/v", {"value": "x"})

    for _ in range(10):
        place.ours().get_variable("v")

    assert place.asked("auth/approle/login") == 1
    assert place.asked("airflow/data/variables/v") == 1


def test_closing_takes_the_token_back(place):
    from airflow_secure_ml.secrets.answering import forget_answers

    before = place.vault.counts().tokens
    place.ours().get_variable("never")
    assert place.vault.counts().tokens == before + 1

    forget_answers()

    assert place.vault.counts().tokens == before
