"""Who may do what, by Airflow's simple auth manager and by the rights that a route asks for."""

from typing import Annotated

import pytest
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from airflow_secure_ml.plugin import access
from airflow_secure_ml.plugin.access import Right, Scope, having, rights_of, scope_of

EXPORT, ACKNOWLEDGE, ADMINISTER = Right.EXPORT, Right.ACKNOWLEDGE, Right.ADMINISTER


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        (None, set()),
        ("viewer", set()),
        ("user", {EXPORT}),
        ("op", {EXPORT, ACKNOWLEDGE}),
        ("admin", {EXPORT, ACKNOWLEDGE, ADMINISTER}),
        ("ADMIN", {EXPORT, ACKNOWLEDGE, ADMINISTER}),
    ],
    # A set has another order in each process, and so would its name.
    ids=["no role", "viewer", "user", "op", "admin", "ADMIN"],
)
def test_a_simple_role_has_its_rights_and_those_below(monkeypatch, role, rights):
    monkeypatch.setattr(access, "get_auth_manager", SimpleAuthManager)

    found = rights_of(SimpleAuthManagerUser(username="ada", role=role))

    assert found == rights


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("has", [True, False], ids=["has it", "has the others"])
def test_a_route_takes_only_who_has_its_right(right, has):
    rights = {right} if has else set(Right) - {right}
    app = FastAPI()
    app.dependency_overrides[scope_of] = lambda: Scope(
        user="ada", dags=("mine",), rights=frozenset(rights)
    )

    @app.get("/")
    def route(scope: Annotated[Scope, Depends(having(right))]) -> list[str]:
        return list(scope.dags or ())

    answer = TestClient(app).get("/")

    assert answer.status_code == (200 if has else 403)
    assert ("mine" in answer.text) is has
    assert (f"not {right}" in answer.text) is not has


def test_what_a_page_asks_of_its_scope_is_what_a_route_asks():
    scope = Scope(user="ada", dags=None, rights=frozenset({EXPORT}))

    assert (scope.may_export, scope.may_acknowledge, scope.may_administer) == (True, False, False)


def test_the_simple_auth_manager_is_known_to_ignore_the_dag():
    assert access.ignores_dags()
