"""Values come back as they were, the database holds ciphertext, each act is an event."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
from collections import namedtuple
from dataclasses import dataclass

import pytest

from airflow_secure_ml.errors import ConfigurationError, PolicyError, ServiceUnavailableError

CANARY = "canary-5c1f07"
Pair = namedtuple("Pair", "left right")


@dataclass
class Point:
    x: int
    y: int


VALUES = {
    "text": "hello",
    "empty": "",
    "none": None,
    "number": 12,
    "large number": 10**30,
    "fraction": 0.1,
    "true": True,
    "list": [1, [2, {"three": None}]],
    "dict": {"a": {"b": [1.5]}},
    "tuple": (1, 2),
    "set": {1},
    "time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "reference": {"secure_ml": 1, "name": "model", "uri": "file:///m", "digest": "sha256:00"},
    "envelope of its own": {"secure_ml_xcom": 1, "sealed": "AAAA"},
    "astral": "\U0001f512",
    "megabyte": "x" * (1 << 20),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_comes_back_as_airflow_itself_would_return_it(bench, value):
    bench.put(value)

    assert bench.get() == value
    assert type(bench.get()) is type(value)


def test_infinities_survive(bench):
    bench.put([math.inf, -math.inf])

    assert bench.get() == [math.inf, -math.inf]


def test_the_database_holds_ciphertext_only(bench):
    at = bench.put({"password": CANARY})

    stored = bench.rows[at]
    assert set(stored) == {"secure_ml_xcom", "sealed"}
    assert stored["secure_ml_xcom"] == 1
    assert CANARY not in json.dumps(stored)
    assert "password" not in json.dumps(stored)


def test_one_value_is_never_sealed_to_the_same_bytes_twice(bench):
    first, second = bench.put("hello", task="a"), bench.put("hello", task="b")

    assert bench.rows[first] != bench.rows[second]


def test_all_values_of_a_mapped_task_are_read_in_order(bench):
    for index in range(12):
        bench.put(f"part {index}", at=index)

    assert bench.get_all() == [f"part {index}" for index in range(12)]


def test_a_value_that_is_not_there_is_none_and_an_event(bench):
    assert bench.get(task="other") is None
    assert bench.get_all(task="other") is None
    assert [f.more["because"] for f in bench.facts if f.phase == "outcome"] == ["absent", "absent"]


def test_the_newest_of_earlier_runs_is_read(bench):
    bench.put("yesterday", run="scheduled__1")

    assert bench.get(run="scheduled__2", include_prior_dates=True) == "yesterday"


def test_every_earlier_run_is_read(bench):
    bench.put("one", run="scheduled__1")
    bench.put("two", run="scheduled__2")

    assert bench.get_all(run="scheduled__2", include_prior_dates=True) == ["one", "two"]


def test_asynchronous_code_writes_and_reads(bench):
    async def both():
        await bench.backend.aset("k", {"a": 1}, dag_id="d", task_id="t", run_id="r")
        one = await bench.backend.aget_one(key="k", dag_id="d", task_id="t", run_id="r")
        every = await bench.backend.aget_all(key="k", dag_id="d", task_id="t", run_id="r")
        return one, every

    assert asyncio.run(both()) == ({"a": 1}, [{"a": 1}])


def test_look_ups_at_the_same_time_do_not_take_each_others_place(bench):
    for task in ("a", "b"):
        bench.put(task, task=task)

    async def pull(task):
        return await bench.backend.aget_one(
            key="return_value", dag_id="churn", task_id=task, run_id="manual__1"
        )

    async def many():
        return await asyncio.gather(*(pull(task) for task in "abab"))

    assert asyncio.run(many()) == ["a", "b", "a", "b"]


@pytest.mark.parametrize("word", ["skipped", "followed"])
def test_what_the_scheduler_reads_stays_clear(bench, word):
    at = bench.put({word: ["left", "right"]}, key="skipmixin_key")

    assert bench.rows[at] == {word: ["left", "right"]}
    assert bench.get(key="skipmixin_key") == {word: ["left", "right"]}


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        {"secret": CANARY},
        {"secret": [CANARY]},
        {"skipped": ["left"], "secret": [CANARY]},
        {"skipped": {"a": 1}},
        {"skipped": [1]},
        {},
    ],
    ids=repr,
)
def test_nothing_else_travels_under_the_schedulers_key(bench, value):
    at = bench.put(value, key="skipmixin_key")

    assert "secure_ml_xcom" in bench.rows[at]
    assert bench.get(key="skipmixin_key") == value


@pytest.mark.parametrize("value", ["plain", {"a": 1}, {"secure_ml": 1}, 3], ids=repr)
def test_values_from_before_are_read_and_the_event_says_so(bench, value):
    bench.rows["churn", "manual__1", "train", "return_value", -1] = value

    assert bench.get() == value
    assert bench.facts[-1].more["because"] == "unsealed"


def test_values_from_before_are_refused_once_none_is_expected(make_bench):
    bench = make_bench(xcom_read_unsealed="false")
    bench.rows["churn", "manual__1", "train", "return_value", -1] = CANARY

    with pytest.raises(Exception, match="unsealed value, expected a sealed one") as caught:
        bench.get()

    assert caught.value.why == "not_sealed"
    assert CANARY not in str(caught.value)
    assert (bench.facts[-1].result, bench.facts[-1].why) == ("refused", "not_sealed")


def test_the_schedulers_key_is_read_even_then(make_bench):
    bench = make_bench(xcom_read_unsealed="false")
    bench.put({"skipped": ["a"]}, key="skipmixin_key")

    assert bench.get(key="skipmixin_key") == {"skipped": ["a"]}


def test_a_refusal_is_not_retried(make_bench):
    from airflow.sdk.exceptions import AirflowFailException

    bench = make_bench(xcom_read_unsealed="false")
    bench.rows["churn", "manual__1", "train", "return_value", -1] = "plain"

    with pytest.raises(AirflowFailException):
        bench.get()


def test_each_act_has_its_own_intent_before_it(bench):
    bench.put("hello", key="model", at=3)
    settled_at_write = bench.here.audit.settled
    bench.get(key="model", at=3)

    assert [(f.act, f.phase, f.result) for f in bench.facts] == [
        ("xcom.write", "intent", None),
        ("xcom.write", "outcome", "ok"),
        ("xcom.read", "intent", None),
        ("xcom.read", "outcome", "ok"),
    ]
    assert settled_at_write >= 1
    assert bench.facts[0].more == {"name": "model"}
    assert bench.facts[2].more == {"name": "model", "task": "train", "map": 3}
    assert bench.facts[3].key["name"] == "data"


def test_another_runs_value_is_named_in_the_event(bench):
    bench.put("hello", dag="other dag")
    bench.get(dag="other dag")

    assert bench.facts[-1].object == {"uri": "xcom:other%20dag/manual__1/train"}


def test_no_value_is_in_an_event(bench):
    bench.put({"password": CANARY})
    bench.get()

    assert CANARY not in repr(bench.facts)


def test_what_cannot_be_recorded_is_neither_written_nor_read(bench):
    at = bench.put("hello")
    bench.here.audit.broken = True

    with pytest.raises(ServiceUnavailableError) as wrote:
        bench.put("again", task="other")
    with pytest.raises(ServiceUnavailableError) as read:
        bench.get()

    assert {wrote.value.why, read.value.why} == {"audit_unavailable"}
    assert list(bench.rows) == [at]


def test_a_value_that_cannot_be_stored_says_so_without_itself(bench):
    class Odd:
        def __repr__(self):
            return CANARY

    with pytest.raises(TypeError) as caught:
        bench.put(Odd())

    assert CANARY not in str(caught.value)
    assert bench.rows == {}


def test_a_sealed_value_without_a_look_up_is_refused(bench):
    at = bench.put("hello")

    with pytest.raises(ConfigurationError, match="nobody says where it belongs"):
        bench.backend.deserialize_value(namedtuple("Row", "value")(bench.rows[at]))


def test_a_value_without_a_place_is_not_sealed(bench):
    with pytest.raises(ConfigurationError, match="without its DAG, run, task or key"):
        bench.backend.serialize_value("hello", key="k", dag_id="d", task_id="t")


@pytest.mark.parametrize(
    "odd", ["new\nline", "k" * 512, "ü" * 512, "\udce4", "*?[", "a/b", ""], ids=ascii
)
def test_any_name_that_airflow_takes_is_a_place_of_its_own(bench, odd):
    bench.put("mine", key=odd)
    at = bench.put("other", key=odd + "'")

    assert bench.get(key=odd) == "mine"
    bench.rows["churn", "manual__1", "train", odd, -1] = bench.rows[at]
    with pytest.raises(PolicyError):
        bench.get(key=odd)


def test_deleting_a_value_deletes_its_row(bench):
    bench.put("hello")

    bench.backend.delete(key="return_value", task_id="train", dag_id="churn", run_id="manual__1")

    assert bench.rows == {}


def test_a_key_of_its_own_wraps_what_is_set(make_bench):
    bench = make_bench(xcom_key="xcom")
    bench.here.memory_keys.create("xcom", "wrap")

    bench.put("hello")
    bench.get()

    assert {f.key["name"] for f in bench.facts if f.key} == {"xcom"}
