"""Schemathesis over every route of the pages: whatever is asked, an answer and never a fault.

The pages serve no schema; it is made here from the app. Always the same requests, in bounded
number, as a reader who may do everything and whose forms carry their token.
"""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from tests.e2e.asking import OF_PROGRAMS, Asker, schema
from tests.e2e.harmless import faults

pytestmark = pytest.mark.airflow
EXAMPLES = 12

api = schemathesis.openapi.from_dict(schema()).exclude(path=sorted(OF_PROGRAMS))


@pytest.fixture(scope="module")
def admin(asked_airflow):
    asker = Asker(asked_airflow, "admin")
    return asker, asker.form_token()


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_a_route_answers_whatever_it_is_asked(admin, case):
    asker, token = admin
    if isinstance(case.body, dict) and "token" in case.body:
        case.body["token"] = token

    answer = case.call(
        base_url=asker.base.rstrip("/"),
        headers={"Cookie": asker.cookie},
        timeout=60,
        allow_redirects=False,
    )

    case.validate_response(answer, checks=[not_a_server_error])
    assert "default-src 'none'" in answer.headers["content-security-policy"][0]
    if "html" in answer.headers.get("content-type", [""])[0]:
        assert faults(answer.text) == []
