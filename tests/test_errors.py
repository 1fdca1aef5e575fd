"""The error tree is drawn in its module's header, and every error travels between processes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from airflow_secure_ml import errors
from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.errors import SecureMLError

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, SecureMLError)
]


def drawn() -> list[tuple[str, str]]:
    """Pairs (class, base) of the tree in the header."""
    pairs, above = [], {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]*)(\w+Error)\b", line)
        if not found:
            continue
        depth = len(found[1]) // 4
        above[depth] = found[2]
        if depth:
            pairs.append((found[2], above[depth - 1]))
    return pairs


def test_the_tree_in_the_header_is_the_tree_of_the_classes():
    real = [
        (found.__name__, found.__mro__[1].__name__)
        for found in CLASSES
        if found is not SecureMLError
    ]

    assert sorted(drawn()) == sorted(real)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_default_reason_is_one_of_the_trail(cls):
    assert cls.why in WHYS


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling_with_its_attributes(cls):
    error = cls("thing: expected this, found that", why="not_signed")
    error.extra = 7

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is cls
    assert str(again) == "thing: expected this, found that"
    assert (again.why, again.extra) == ("not_signed", 7)


def test_typed_attributes_survive_pickling():
    error = errors.ManifestMismatchError("x", added=["a"], missing=["b"], changed=["c"])

    again = pickle.loads(pickle.dumps(error))

    assert (again.added, again.missing, again.changed) == (("a",), ("b",), ("c",))


def test_a_missing_extra_is_an_import_error_too():
    assert issubclass(errors.MissingExtraError, ImportError)


def test_at_most_ten_failed_names_are_kept():
    error = errors.ValidationFailedError("x", failed=[f"e{n}" for n in range(30)])

    assert error.failed == tuple(f"e{n}" for n in range(10))
