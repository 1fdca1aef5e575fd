"""Every public exception of a vendor has a home in our tree; none leaves its adapter."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.gx_checker import GxChecker
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import PolicyError, SecureMLError

CANARY = "canary-4711"


def vendor_errors() -> list[type[Exception]]:
    import great_expectations.exceptions as gx_errors
    import pandas.errors
    import pyarrow.lib

    found = {
        cls
        for module in (gx_errors, pandas.errors, pyarrow.lib)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception) and not issubclass(cls, (Warning, PermissionError))
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("age\n54\n")
    return path


@pytest.fixture
def suite(tmp_path: Path) -> SuiteSource:
    path = tmp_path / "suite.json"
    path.write_text(
        '{"name": "s", "expectations": [{"type": "expect_column_values_to_not_be_null",'
        ' "kwargs": {"column": "age"}}]}'
    )
    return SuiteSource.from_file(path)


def test_what_the_engine_raises_is_a_refusal_that_quotes_nothing(table, suite, monkeypatch):
    from great_expectations.datasource.fluent.interfaces import Batch

    # Patched: no input makes the library raise each of its own exceptions.
    shown = set()
    for cls in vendor_errors():
        error = cls.__new__(cls)
        error.args = (CANARY,)
        raising = functools.partial(_raise, error)
        monkeypatch.setattr(Batch, "validate", raising)
        with pytest.raises(PolicyError) as refusal:
            GxChecker().check(table, suite, find_rows=False)
        shown.add((refusal.value.why, str(refusal.value), refusal.value.__cause__))

    assert len(shown) == 1
    why, text, cause = shown.pop()
    assert (why, cause) == ("not_checkable", None)
    assert CANARY not in text


def _raise(error: Exception, *args: object, **kwargs: object) -> None:
    raise error


def test_the_list_of_vendor_errors_is_not_empty():
    assert len(vendor_errors()) > 40
    assert not any(issubclass(cls, SecureMLError) for cls in vendor_errors())
