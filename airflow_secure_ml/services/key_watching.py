"""Tell whether a key has a newer version than one that somebody names, by number or by time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

from airflow_secure_ml.core.ports import KeyVersion
from airflow_secure_ml.errors import ConfigurationError

Bound: TypeAlias = int | datetime
"""A version's number, or a moment with its zone."""


def parse_bound(given: Any) -> Bound:
    """A bound from what stands in a DAG, or comes out of a template.

    Raises:
        ConfigurationError: Neither a number from 0 nor a time with a zone.
    """
    if isinstance(given, str):
        given = _from_text(given)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    # Without a zone it would mean another moment on each machine.
    if isinstance(given, datetime) and given.utcoffset() is not None:
        return given
    raise ConfigurationError(
        f"newer_than: expected a version's number, or a time with its zone such as "
        f"2026-11-22T03:00:00Z; found {given!r}"
    )


def newer_version(versions: Sequence[KeyVersion], bound: Bound) -> KeyVersion | None:
    """The newest version if it works and is beyond the bound; None: not yet."""
    newest = versions[-1]
    if newest.state != "active":
        return None
    if isinstance(bound, int):
        return newest if newest.number > bound else None
    is_newer = newest.created is not None and newest.created > bound
    return newest if is_newer else None


def _from_text(text: str) -> Any:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text
