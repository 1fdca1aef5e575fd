"""What real users of Airflow's FAB auth manager may see and do on the pages, DAG by DAG."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.e2e.asking import Asker

pytestmark = pytest.mark.airflow
ALL = ["acknowledge", "administer", "export"]


@pytest.fixture
def ask(asked_airflow):
    def get(user, path):
        request = urllib.request.Request(f"{asked_airflow.url}{path}")
        request.add_header("Cookie", f"_token={asked_airflow.token(user)}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return get


@pytest.mark.parametrize(
    ("user", "dags", "rights"),
    [
        ("admin", None, ALL),
        ("anna", None, ["acknowledge", "export"]),
        ("rudi", None, []),
        ("rita", ["billing_churn"], []),
        ("xena", ["billing_churn"], ["export"]),
        ("each", ["billing_churn", "refusals", "secure_training"], []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_role_s_permissions_are_its_scope_and_rights(ask, user, dags, rights):
    status, text = ask(user, "/rights/read")

    assert status == 200
    assert json.loads(text) == {"user": user, "dags": dags, "rights": rights}
    assert [right for right in ALL if ask(user, f"/rights/{right}")[0] == 200] == rights


def test_who_may_read_dags_but_no_audit_log_is_refused(ask):
    assert ask("vick", "/rights/read")[0] == 403


def test_fab_is_not_said_to_ignore_the_dag(ask):
    assert "ignores the DAG" not in ask("anna", "/secure-ml/events")[1]


def test_every_page_says_that_the_simple_auth_manager_ignores_the_dag(page_airflow):
    page = Asker(page_airflow, "vera").ask("events").text

    assert "simple auth manager ignores the DAG" in page
