"""The pytest fixture `secure_ml`; pytest loads this module in every run, so it imports nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_secure_ml.testing.tester import SecureMLTester


@pytest.fixture
def secure_ml() -> Iterator[SecureMLTester]:
    """Run secured tasks against keys, objects and a trail in memory, without a database.

    ```python
    def test_a_tampered_table_never_reaches_training(secure_ml, dag):
        secure_ml.put("s3://lake/table.csv", b"age\\n41\\n")
        secure_ml.flip_a_bit("s3://lake/table.csv")

        run = secure_ml.run(dag.get_task("train"), table="s3://lake/table.csv")

        assert run.refused and not run.body_ran
    ```
    """
    from airflow_secure_ml.testing.tester import SecureMLTester

    with SecureMLTester() as tester:
        yield tester
