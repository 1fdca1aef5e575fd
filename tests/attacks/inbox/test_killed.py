"""Kill -9 of workers and of the server in a loop: no acknowledged event lost, none twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.attacks.pushing import kill_worker, start_worker, told

pytestmark = pytest.mark.postgres
DEADLINE_S = 30.0


@pytest.mark.parametrize(
    "rounds", [15, pytest.param(300, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_workers_and_sessions_killed_in_a_loop_lose_nothing_that_was_acknowledged(site, rounds):
    seed = random.Random(20261128)
    target = {
        "inbox": site.place.address("trail_worker"),
        "passfile": str(site.place.passfile),
    }
    names = []
    for number in range(rounds):
        worker = start_worker(**target)
        names += told(worker, seed.randint(3, 30))
        if number % 3 == 1:
            # As a server that is started anew: every session ends in the middle of something.
            site.place.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND pid <> pg_backend_pid()",
                [site.place.database],
            )
            names += told(worker, 5)
        names += kill_worker(worker)
        if number % 2:
            if number > 1:
                site.restart()
            site.run()
    deadline = time.monotonic() + DEADLINE_S
    while site.rows() and time.monotonic() < deadline:
        site.inbox_s += 10.0
        site.run()

    found = site.names()
    assert len(names) >= rounds * 3
    assert all(name.count(":") == 1 for name in names)
    assert set(names) <= set(found)
    assert len(found) == len(set(found))
    assert site.rows() == 0
    assert site.verify().problem == ""
