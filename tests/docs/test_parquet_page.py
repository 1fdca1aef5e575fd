"""docs/parquet.md: its DAGs run as they stand, its rule is a rule."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from airflow_secure_ml.core.parquet.key_material import _LABEL
from airflow_secure_ml.core.policy_file import parse_rules
from airflow_secure_ml.services.parquet_lending import KMS_CLASS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "parquet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_one_column_of_a_sealed_file(secure_ml, tmp_path):
    from airflow.sdk import DAG

    path = tmp_path / "visits.parquet"
    pd.DataFrame({"id": [1, 2], "age": [41, 17]}).to_parquet(path)
    secure_ml.put("s3://lake/visits.parquet", path.read_bytes())

    ran = secure_ml.run(_task(BLOCKS[0], "mean_age", DAG))

    assert ran.error is None
    assert ran.returned == 29


def test_columns_with_keys_of_their_own(secure_ml):
    from airflow.sdk import DAG

    secure_ml.keys.create("pii", "wrap")
    text = "from airflow.sdk import DAG, task\n"
    text += "from airflow_secure_ml import Reads, Writes, secure\n" + BLOCKS[1]

    wrote = secure_ml.run(_task(text, "collect", DAG))
    read = secure_ml.run(_task(text, "count", DAG))

    assert wrote.error is None
    assert read.returned == ["id", "age"]


def _task(text, name, kind):
    """The task of that name in the DAG that a block defines."""
    made = []

    class Noticing(kind):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            made.append(self)

    names = {"__name__": "page"}
    exec(text.replace("with DAG(", "with Noticed("), names | {"Noticed": Noticing})
    return made[-1].get_task(name)


def test_its_rule_is_a_rule():
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)

    rules = parse_rules(f'version = "1"\n{text}'.encode(), canonical=str)

    assert rules.data[0].column_keys == {"pii": ("billing_*",)}


def test_what_it_says_of_bytes_and_names():
    assert f'"{_LABEL.decode()}"' in PAGE
    assert f"`{KMS_CLASS}`" in PAGE
    assert (ROOT / "airflow_secure_ml/adapters/parquet/LentKeys.java").is_file()
