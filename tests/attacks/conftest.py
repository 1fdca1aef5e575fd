"""The whole deployment of the secured runs' tests, for attacks on it."""

from __future__ import annotations

from tests.services.secured_run.conftest import (  # noqa: F401 - fixtures
    bench,
    no_child_is_left,
    plan,
    shm,
    suite,
    with_parts,
)
