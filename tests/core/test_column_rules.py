"""Rules about keys of Parquet columns."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.policy_file import parse_rules
from airflow_secure_ml.errors import ConfigurationError


def rules(text):
    data = f'version = "1"\n[[data]]\nprefix = "s3://lake/people"\n{text}'
    return parse_rules(data.encode(), canonical=str)


URI = "s3://lake/people/2026.parquet"
KEYED = '[data.column_keys]\npii = ["billing_*"]\n'


@pytest.mark.parametrize(
    ("text", "key", "opened_by", "said"),
    [
        ("", "pii", None, None),
        ("", "pii", "churn", None),
        ('key = "data"\n', "pii", None, "only data is allowed"),
        ('key = "data"\n', "data", "churn", None),
        (KEYED, "pii", None, None),
        (KEYED, "pii", "billing_eu", None),
        (KEYED, "pii", "churn", "DAG churn may not open"),
        (KEYED, "pii", "", "what is no DAG may not open"),
        (KEYED, "other", None, "no column may have key other"),
        (KEYED, "other", "billing_eu", "no column may have key other"),
        ('key = "data"\n' + KEYED, "pii", "billing_eu", None),
    ],
)
def test_a_rule_says_which_keys_columns_have_and_who_opens_them(text, key, opened_by, said):
    denial = rules(text).column_denial(URI, key, opened_by=opened_by)

    assert (denial is None) if said is None else (said in denial)


def test_no_rule_denies_nothing():
    assert rules(KEYED).column_denial("s3://lake/peoples", "pii", opened_by="churn") is None


@pytest.mark.parametrize(
    "text",
    [
        'column_keys = "pii"',
        'column_keys = ["pii"]',
        "column_keys = {}",
        "column_keys = {pii = []}",
        'column_keys = {pii = "billing"}',
        "column_keys = {pii = [1]}",
    ],
)
def test_column_keys_of_another_shape_are_refused(text):
    with pytest.raises(ConfigurationError, match="column_keys"):
        rules(text)
