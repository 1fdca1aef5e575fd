"""A leasing task that is struck: by a timeout's exception, or in its guardian. A real Vault."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_secure_ml.errors import PolicyError
from tests.servers.proxy import Cut, Hang

BEFORE_LEASES = ["guard started", "guard ready", "logged in", "line taken"]
WITH_LEASES = [
    "asking", "granted", "recorded lease.grant outcome", "before handing over", "handed over",
]  # fmt: skip
LATER = ["point 2", "in the body"]
# Well before a lease, which lives for a minute, ends by itself.
IN_TIME_S = 30.0
# Until a guardian that neither answers nor ends is given up.
GIVEN_UP_S = 25.0


class Timeout(BaseException):
    """As Airflow's: it passes through every `except Exception`."""


class Steps:
    """Acts at a step, the first time or a later one."""

    def __init__(self, act, step, skip=0):
        self.act, self.step, self.skip, self.passed = act, step, skip, []
        self.guard = None

    def __call__(self, name):
        self.passed.append(name)
        if name == self.step and self.passed.count(name) == self.skip + 1:
            self.act(self)


def raise_timeout(steps):
    raise Timeout


def kill_guardian(steps):
    os.kill(steps.guard.pid, signal.SIGKILL)


def stop_guardian(steps):
    os.kill(steps.guard.pid, signal.SIGSTOP)


@pytest.fixture
def leasing(bench, leasing_place, postgres):
    path = Path(__file__).parent / "leasing_victim.py"
    spec = importlib.util.spec_from_file_location("leasing_victim", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = Leasing(bench, leasing_place, postgres, module)
    yield made
    made.client.close()


class Leasing:
    """Runs in this process, and what they left."""

    def __init__(self, bench, place, postgres, module):
        self.bench, self.place, self.postgres, self.module = bench, place, postgres, module
        self.client = module.connect(place)
        self.before = set(postgres.logins())
        # It tells by standard output otherwise, for which pytest has other plans.
        module.victim.say = lambda **facts: None

    def run(self, steps):
        self.module.run(
            self.bench, sys.modules[type(self.bench).__module__], steps, self.place, self.client
        )

    def left(self):
        return set(self.postgres.logins()) - self.before

    def told(self):
        """Results of the leases' ends, and how often each was told."""
        events = [one for one in self.bench.events() if one["act"] == "lease.revoke"]
        granted = {
            one["lease"]["id"]
            for one in self.bench.events()
            if one["act"] == "lease.grant" and one.get("result") == "ok"
        }
        times = Counter(one["lease"]["id"] for one in events)
        assert granted <= set(times)
        return sorted((one["result"], times[one["lease"]["id"]]) for one in events)


@pytest.mark.parametrize("skip", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("step", WITH_LEASES)
def test_a_timeout_at_a_step_leaves_nothing_leased(leasing, step, skip):
    steps = Steps(raise_timeout, step, skip)

    with pytest.raises(Timeout):
        leasing.run(steps)

    assert leasing.left() == set()
    assert {times for _, times in leasing.told()} <= {1}


@pytest.mark.parametrize("step", [*BEFORE_LEASES[1:], *LATER])
def test_a_timeout_before_or_after_leaves_nothing_leased(leasing, step):
    with pytest.raises(Timeout):
        leasing.run(Steps(raise_timeout, step))

    assert leasing.left() == set()
    assert leasing.told() == ([("ok", 1)] * 2 if step in LATER else [])


@pytest.mark.parametrize("step", [*BEFORE_LEASES, *WITH_LEASES[:-1]])
def test_a_guardian_that_is_killed_before_it_has_the_lease_refuses_the_task(leasing, step):
    with pytest.raises(PolicyError) as caught:
        leasing.run(Steps(kill_guardian, step))

    assert caught.value.why == "guardian_unavailable"
    assert leasing.left() == set()
    assert leasing.told() in ([], [("ok", 1)])


@pytest.mark.parametrize("step", [*LATER, "before shredding", "shredded"])
def test_what_a_killed_guardian_kept_the_task_ends_itself(leasing, step):
    leasing.run(Steps(kill_guardian, step))

    assert leasing.left() == set()
    assert leasing.told() == [("ok", 1), ("ok", 1)]


def test_what_a_stopped_guardian_keeps_the_task_ends_itself_and_it_is_told_once(leasing):
    steps = Steps(stop_guardian, "before shredding")

    began = time.monotonic()
    leasing.run(steps)
    took_s = time.monotonic() - began
    left = leasing.left()
    os.kill(steps.guard.pid, signal.SIGCONT)
    steps.guard._process.wait(60)

    assert took_s < GIVEN_UP_S
    assert left == set()
    assert leasing.told() == [("ok", 1), ("ok", 1)]


def test_leases_that_nobody_could_end_are_told_as_failed(leasing, vault):
    def kill_and_seal(steps):
        kill_guardian(steps)
        vault.seal()

    began = time.monotonic()
    try:
        leasing.run(Steps(kill_and_seal, "in the body"))
    finally:
        took_s = time.monotonic() - began
        vault.unseal()

    assert leasing.told() == [("failed", 1), ("failed", 1)]
    assert took_s < GIVEN_UP_S


def test_a_vault_that_is_away_at_the_end_keeps_nobody_waiting(leasing, vault, postgres):
    steps = Steps(lambda steps: vault.seal(), "in the body")

    began = time.monotonic()
    try:
        leasing.run(steps)
    finally:
        took_s = time.monotonic() - began
        vault.unseal()
    steps.guard._process.wait(60)

    assert took_s < 8
    assert leasing.left() == set()
    assert leasing.told() == [("ok", 1), ("ok", 1)]
    assert any("the guardian goes on" in line for line in leasing.bench.told)


def test_a_child_that_leaves_the_run_too_ends_no_lease_of_its_parent(leasing):
    children = []

    def fork(steps):
        if (child := os.fork()) == 0:
            raise Timeout
        children.append(os.waitpid(child, 0)[1])
        assert len(leasing.left()) == 2

    try:
        leasing.run(Steps(fork, "in the body"))
    except Timeout:
        # In the child, which was given a copy of this whole stack.
        os._exit(0)

    assert children == [0]
    assert leasing.left() == set()
    assert leasing.told() == [("ok", 1), ("ok", 1)]


def test_a_vault_that_hangs_is_asked_once_by_a_task_without_its_guardian(
    bench, leasing_place, postgres, leasing, vault_proxy
):
    place = {**leasing_place, "url": vault_proxy.url}
    proxied = Leasing(bench, place, postgres, leasing.module)

    def kill_and_hang(steps):
        kill_guardian(steps)
        vault_proxy.will(Hang(path="sys/leases/revoke", seconds=20, times=10))

    began = time.monotonic()
    proxied.run(Steps(kill_and_hang, "in the body"))
    took_s = time.monotonic() - began
    vault_proxy.behave()
    proxied.client.close()

    assert vault_proxy.count("sys/leases/revoke") == 1
    assert proxied.told() == [("failed", 1), ("failed", 1)]
    assert took_s < 8


def test_a_login_whose_answer_was_lost_ends_with_the_task(
    bench, lasting_place, postgres, leasing, vault_proxy
):
    proxied = Leasing(bench, {**lasting_place, "url": vault_proxy.url}, postgres, leasing.module)
    vault_proxy.will(Cut(path=lasting_place["path"]))
    there = []

    proxied.run(Steps(lambda steps: there.append(len(proxied.left())), "in the body"))
    ended = time.monotonic()
    while (left := proxied.left()) and time.monotonic() < ended + IN_TIME_S:
        time.sleep(0.05)
    # Ends the token, and all that it leased.
    proxied.client.close()

    # Two that it has, and one that nobody heard of.
    assert there == [3]
    assert left == set()
    assert proxied.told() == [("ok", 1), ("ok", 1)]
