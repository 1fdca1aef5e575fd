"""A secret is known again: in texts, in values, in tables, and without running anybody's code."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any, ClassVar, NoReturn

import numpy as np
import pandas as pd
import pytest

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.core.secret_search import holds_secret, spellings

PASSWORD = "A1a-/x+ y%z"


@dataclass
class Holder:
    inner: Any


class Slotted:
    __slots__ = ("__inner",)

    def __init__(self, inner: Any) -> None:
        self.__inner = inner


class MadeForTheMoment(Mapping[int, Any]):
    """Its values are new objects each time, and the last one may lie where another was."""

    def __init__(self, inner: list[Any]) -> None:
        self.inner = inner

    def __getitem__(self, index: int) -> Any:
        return [self.inner[index]]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.inner)))

    def __len__(self) -> int:
        return len(self.inner)


class Named(dict[str, int]):
    def __init__(self, name: str) -> None:
        super().__init__(a=1)
        self.name = name


def test_a_secret_is_known_as_a_url_holds_it():
    assert list(spellings(PASSWORD)) == [
        "A1a-/x+ y%z",
        "A1a-/x%2B%20y%25z",
        "A1a-%2Fx%2B%20y%25z",
        "A1a-%2Fx%2B+y%25z",
    ]


@pytest.mark.parametrize(
    ("secret", "written"),
    [
        ('a"b\\c', 'a\\"b\\\\c'),
        ("caf\u00e9-1", "caf\\u00e9-1"),
        ("it's\tsecret", "it's\\tsecret"),
        ('it\'s "secret"', 'it\\\'s "secret"'),
    ],
    ids=["json", "json-ascii", "python", "python-both-quotes"],
)
def test_a_secret_is_known_as_a_log_holds_it(secret, written):
    assert written in list(spellings(secret))


def test_each_line_of_a_private_key_is_a_secret():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END KEY-----"

    assert "MIIEvQIBADANBgkqhkiG9w0B" in list(spellings(key))
    assert "-----BEGIN KEY-----" not in list(spellings(key))
    assert "short" not in list(spellings(key))


@pytest.mark.parametrize(
    "value",
    [
        PASSWORD,
        f"postgresql://u:{PASSWORD}@h",
        "postgresql://u:A1a-%2Fx%2B%20y%25z@h",
        f"prefix {PASSWORD}".encode(),
        {"deep": [("x", {PASSWORD})]},
        {PASSWORD: 1},
        Holder(Holder([PASSWORD])),
        Slotted(Slotted(PASSWORD)),
        PurePosixPath("/dev/shm") / PASSWORD,
        MadeForTheMoment([1, 2, 3, PASSWORD]),
        Secret(PASSWORD),
        ValueError(PASSWORD),
        memoryview(PASSWORD.encode()),
        deque([PASSWORD]),
        partial(print, PASSWORD),
        Named(PASSWORD),
        np.array([PASSWORD]),
        np.array([{"a": PASSWORD}], dtype=object),
        pd.DataFrame({"age": [1, 2], "dsn": ["x", f"u:{PASSWORD}@h"]}),
        pd.Series([PASSWORD]),
        pd.DataFrame({PASSWORD: [1]}),
    ],
    ids=[
        "text", "inside", "quoted", "bytes", "nested", "key", "object", "slots", "path",
        "made-for-the-moment", "secret", "exception", "view", "deque", "partial",
        "attribute of a dict", "array", "array of objects", "table", "column", "name of a column",
    ],
)  # fmt: skip
def test_a_secret_is_found_wherever_it_lies(value):
    assert holds_secret(value, (PASSWORD,))


def test_what_holds_no_secret_passes_and_a_ring_ends():
    ring: list[Any] = [1, "x", None, {"a": 2.5}]
    ring.append(ring)

    assert not holds_secret(ring, (PASSWORD,))


def test_a_secret_is_found_where_one_piece_of_a_pickle_ends_and_another_begins():
    for shift in range(0, 70_000, 4_999):
        block = deque(["x" * shift, PASSWORD, "y" * 70_000])

        assert holds_secret(block, (PASSWORD,))


def test_a_table_that_holds_no_secret_passes():
    table = pd.DataFrame({"age": range(1000), "name": ["ada"] * 1000})

    assert not holds_secret({"table": table, "array": np.zeros((10, 10))}, (PASSWORD,))


def test_a_value_of_any_depth_is_looked_through():
    deep: Any = PASSWORD
    for _ in range(100_000):
        deep = [deep]

    assert holds_secret(deep, (PASSWORD,))


class Counts:
    """Has attributes that are made when they are asked for."""

    __slots__ = ("_made", "never_set")
    asked: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self._made = 1

    @property
    def expensive(self) -> str:
        self.asked.append("expensive")
        return PASSWORD

    def __getattr__(self, name: str) -> str:
        self.asked.append(name)
        raise AttributeError(name)


def test_looking_at_an_object_asks_for_nothing_that_its_class_would_make():
    assert not holds_secret(Counts(), (PASSWORD,))
    assert [name for name in Counts.asked if not name.startswith("__")] == []


class NotForPickles:
    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("a connection, say")


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(), (one for one in [PASSWORD]), open, ModuleType("m"), threading.local(),
        NotForPickles(),
    ],
    ids=["lock", "generator", "function", "module", "local", "refuses"],
)  # fmt: skip
def test_what_cannot_be_stored_is_not_looked_into(value):
    assert not holds_secret([value], (PASSWORD,))


def test_a_generator_is_not_used_up():
    numbers = (one for one in [1, 2])

    holds_secret({"numbers": numbers}, (PASSWORD,))

    assert list(numbers) == [1, 2]


def test_large_values_take_no_time_that_anybody_would_notice():
    large = {
        "text": "x" * 50_000_000,
        "table": pd.DataFrame({"a": np.zeros(1_000_000)}),
        "numbers": list(range(200_000)),
    }

    began = time.process_time()
    found = holds_secret(large, (PASSWORD, "another-secret"))

    assert not found
    assert time.process_time() - began < 10
