"""docs/secrets-backend.md: its policy on a real Vault, its options, its table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.secrets.options import parse_options
from tests.servers import vault_setup

PAGE = (Path(__file__).parents[2] / "docs" / "secrets-backend.md").read_text()


def block(kind):
    return re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_policy_is_enough_and_no_more(place):
    policy = vault_setup.policy(place.vault, "page-secrets", block("hcl"))
    role_id, secret_id = vault_setup.approle(place.vault, "page-secrets", policy)
    place.put("connections/page", {"conn_uri": "http://x"})
    place.put("shared/page", {"value": "x"})
    ours = place.ours(role_id=role_id, secret_id=secret_id)
    elsewhere = place.ours(role_id=role_id, secret_id=secret_id, variables_path="shared")

    assert ours.get_connection("page").host == "x"
    assert ours.get_connection("only_in_the_database") is None
    assert ours.get_variable("never") is None
    assert ours.get_config("never") is None
    with pytest.raises(AirflowSecretsBackendAccessDenied, match="permission denied"):
        elsewhere.get_variable("page")


def test_the_options_are_read():
    kwargs = json.loads(block("ini").partition("backend_kwargs = ")[2])

    options = parse_options(kwargs, environment={})

    assert (options.mount, options.kv_version) == ("airflow", 2)


def test_the_rules_are_read():
    given = json.loads(block("json"))

    options = parse_options({"url": "https://x", "token": "t", **given}, environment={})

    train = RunRef(dag="churn", run="r", task="train")
    assert [rule.restriction.allows(train) for rule in options.rules] == [True, False]


def test_the_defaults_are_the_real_ones():
    said = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    options = parse_options({"url": "https://x", "token": "t"}, environment={})

    assert float(said["cache_ttl_s"]) == options.limits.cache_ttl_s
    assert int(said["cache_size"]) == options.limits.cache_size
    assert float(said["lookups_per_s"]) == options.limits.per_s
    assert float(said["deadline_s"]) == options.connection.extra["deadline_s"]
