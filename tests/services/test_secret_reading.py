"""Reading from a store: what is kept, for how long, how often it is asked, what a failure does."""

from __future__ import annotations

import contextlib
import gc
import pickle
import threading
import weakref

import pytest

from airflow_secure_ml.core.stored_secret import StoredSecret
from airflow_secure_ml.errors import ServiceRefusedError, ServiceUnavailableError
from airflow_secure_ml.services.secret_reading import Limits, SecretReading


class Store:
    """A store in a dict; an exception in it is raised."""

    def __init__(self):
        self.secrets, self.asked, self.made = {}, [], 0

    def __call__(self):
        self.made += 1
        return self

    def read(self, mount, path):
        self.asked.append(f"{mount}/{path}")
        found = self.secrets.get(path)
        if isinstance(found, Exception):
            raise found
        return None if found is None else StoredSecret(stored={"value": found})


class Clock:
    def __init__(self):
        self.now_s, self.slept = 100.0, []

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reading(store, clock):
    def make(**limits):
        return SecretReading(store, Limits(**limits), clock=clock, sleep=clock.sleep)

    return make


def test_a_secret_is_asked_for_once_while_it_is_kept(reading, store, clock):
    store.secrets["a"] = "x"
    made = reading(cache_ttl_s=30)

    first, second = made.read("secret", "a"), made.read("secret", "a")
    clock.now_s += 30
    third = made.read("secret", "a")

    assert (first.cached, second.cached, third.cached) == (False, True, False)
    assert second.secret.fields == {"value": "x"}
    assert store.asked == ["secret/a", "secret/a"]


def test_nothing_is_kept_where_that_was_said(reading, store):
    store.secrets["a"] = "x"
    made = reading(cache_ttl_s=0)

    assert [made.read("secret", "a").cached for _ in range(2)] == [False, False]


def test_what_is_absent_may_be_written_soon(reading, store, clock):
    made = reading(cache_ttl_s=600)
    assert made.read("secret", "a").secret is None
    assert made.read("secret", "a").cached
    store.secrets["a"] = "x"

    clock.now_s += 3

    assert made.read("secret", "a").secret.fields == {"value": "x"}


def test_a_denial_is_kept_for_a_moment_and_is_another_exception_each_time(reading, store, clock):
    store.secrets["a"] = ServiceRefusedError("no", service="vault", action="read", reason="denied")
    made = reading()
    caught = []

    for _ in range(3):
        with pytest.raises(ServiceRefusedError) as error:
            made.read("secret", "a")
        caught.append(error.value)
    clock.now_s += 3
    store.secrets["a"] = "x"

    assert len(store.asked) == 1
    assert len({id(error) for error in caught}) == 3
    assert {error.reason for error in caught} == {"denied"}
    assert made.read("secret", "a").secret is not None


def test_a_store_that_is_down_is_not_waited_for_by_each_look_up(reading, store, clock):
    store.secrets["a"] = ServiceUnavailableError("sealed")
    store.secrets["b"] = "x"
    made = reading()
    for path in ("a", "b", "a"):
        with pytest.raises(ServiceUnavailableError, match="sealed"):
            made.read("secret", path)
    assert store.asked == ["secret/a"]

    clock.now_s += 3

    assert made.read("secret", "b").secret is not None


def test_what_was_kept_is_given_while_the_store_is_down(reading, store):
    store.secrets |= {"a": "x", "b": ServiceUnavailableError("sealed")}
    made = reading()
    made.read("secret", "a")
    with pytest.raises(ServiceUnavailableError):
        made.read("secret", "b")

    assert made.read("secret", "a").cached


def test_the_least_used_is_dropped_first(reading, store):
    store.secrets |= {"a": "1", "b": "2", "c": "3"}
    made = reading(cache_size=2)

    for path in ("a", "b", "a", "c"):
        made.read("secret", path)

    assert [made.read("secret", path).cached for path in ("a", "c", "b")] == [True, True, False]


def test_too_many_look_ups_wait_a_little(reading, store, clock):
    made = reading(cache_ttl_s=0, per_s=10)

    for number in range(15):
        made.read("secret", str(number))

    assert clock.slept == pytest.approx([0.1] * 5)


def test_far_too_many_look_ups_are_refused(reading, store, clock):
    # Nobody's turn comes while all of them wait.
    made = SecretReading(store, Limits(per_s=10), clock=clock, sleep=lambda seconds: None)
    for number in range(30):
        made.read("secret", str(number))

    with pytest.raises(ServiceUnavailableError, match="more than 10 secrets in a second"):
        made.read("secret", "one more")

    assert len(store.asked) == 30


def test_what_is_kept_costs_no_turn(reading, store, clock):
    store.secrets["a"] = "x"
    made = reading(per_s=1)

    for _ in range(100):
        made.read("secret", "a")

    assert clock.slept == []


def test_forgetting_leaves_nothing_but_the_store(reading, store):
    store.secrets["a"] = "x"
    made = reading()
    made.read("secret", "a")

    made.forget()

    assert not made.read("secret", "a").cached
    assert store.made == 1


def test_many_threads_read_at_once(store):
    store.secrets |= {str(number): "x" for number in range(20)}
    made = SecretReading(store, Limits(cache_size=5, per_s=0))
    wrong = []

    def read():
        for number in range(200):
            found = made.read("secret", str(number % 20)).secret
            if found is None or found.fields != {"value": "x"}:
                wrong.append(number)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_it_is_not_pickled(reading):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(reading())


class Value(str):
    """A text that can be watched."""


def test_what_has_expired_is_let_go_though_nobody_asks_for_it(store, reading, clock):
    store.secrets.update(once=Value("first"), later="second")
    held = weakref.ref(store.secrets["once"])
    made = reading(cache_ttl_s=30.0)
    made.read("kv", "once")
    del store.secrets["once"]
    assert held() is not None

    clock.now_s += 31.0
    made.read("kv", "later")

    gc.collect()
    assert held() is None


def test_threads_that_begin_at_once_make_one_client():
    together = threading.Barrier(2)

    class Slow(Store):
        def __call__(self):
            with contextlib.suppress(threading.BrokenBarrierError):
                # Only a second thread in here would let it go on before that.
                together.wait(0.3)
            return super().__call__()

    slow = Slow()
    made = SecretReading(slow, Limits())
    threads = [threading.Thread(target=made.read, args=["kv", str(n)]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert slow.made == 1
    assert sorted(slow.asked) == ["kv/0", "kv/1"]
