"""Addresses in operators' fields: given as a path or text, looked at once they are rendered."""

from __future__ import annotations

import os
from typing import Any

from airflow_secure_ml.errors import ConfigurationError

Address = str | os.PathLike[str]


def as_text(address: Any) -> Any:
    """A path as text, which a template can be; whatever else was given stays as it is."""
    return os.fspath(address) if isinstance(address, os.PathLike) else address


def rendered_address(name: str, given: Any) -> str:
    """A rendered field that must be an address; ConfigurationError if it is none."""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(f"{name}: expected an address, found {type(given).__name__}")
    return given
