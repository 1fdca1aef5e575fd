"""A small audit installation, for attacks on it."""

from __future__ import annotations

from tests.services.audit.conftest import signed, site  # noqa: F401 - fixtures
