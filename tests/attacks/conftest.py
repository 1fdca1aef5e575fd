"""The whole deployment of the secured runs' tests, for attacks on it."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.scratch.making import make_scratch
from tests.services.secured_run.conftest import (  # noqa: F401 - fixtures
    bench,
    no_child_is_left,
    plan,
    shm,
    suite,
    with_parts,
)


@pytest.fixture
def scratch(shm):  # noqa: F811 - the fixture
    """A scratch of one path, for a guardian to shred."""
    with make_scratch([shm], 1) as made:
        yield made
