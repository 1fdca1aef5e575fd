"""The Vault demo's check: yes to what should come out, no to every single other thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dags_examples.demo.summary import Summary, TaskFact, TrailFact
from dags_examples.demo.vault_summary import (
    ExpectedLeases,
    KeyFact,
    VaultFacts,
    join,
    summarize_vault,
)

EXPECTED = ExpectedLeases(logins=2, others=1)
TASKS = [
    TaskFact(ti=ti, dag="train", run="r", task=task, state="success", try_number=1)
    for ti, task in (("1", "load"), ("2", "fit"))
]
READER = "database/creds/reader"


def event(ti, act, lease="", path=READER, result="ok"):
    return TrailFact(ti=ti, act=act, phase="outcome", result=result, path=path, lease=lease)


EVENTS = [
    event("1", "lease.grant", "a"),
    event("2", "lease.grant", "b"),
    event("2", "lease.grant", path="kv/data/pipelines/partner"),
    event("1", "lease.revoke", "a"),
    event("2", "lease.renew", "b"),
    event("2", "lease.revoke", "b"),
]
FACTS = VaultFacts(
    roles=(),
    left=(),
    before=KeyFact(newest=1, oldest=1),
    after=KeyFact(newest=2, oldest=2),
    rewraps=3,
    rewrapping_opened=0,
)


def test_what_should_come_out_is_no_problem():
    summary = summarize_vault(TASKS, EVENTS, FACTS, EXPECTED)

    assert summary.problems == []
    assert [line.split()[:2] for line in summary.lines] == [
        ["leased", "2"],
        ["revoked", "2"],
        ["left", "0"],
        ["read", "1"],
        ["rewrapped", "3"],
        ["key", "data"],
    ]


OTHERWISE = {
    "a-lease-that-nobody-expected": (
        [*EVENTS, event("1", "lease.grant", "c"), event("1", "lease.revoke", "c")],
        FACTS,
        ["leased: 3 by the trail, expected 2"],
    ),
    "a-lease-that-was-refused-is-none": (
        [replace(EVENTS[0], result="refused"), *EVENTS[1:]],
        FACTS,
        ["leased: 1 by the trail, expected 2"],
    ),
    "a-secret-was-not-read": (
        [*EVENTS[:2], *EVENTS[3:]],
        FACTS,
        ["read from KV: 0 by the trail, expected 1"],
    ),
    "a-login-was-not-revoked": (
        EVENTS[:-1],
        FACTS,
        ["train.fit: its login was not revoked, by the trail"],
    ),
    "a-revocation-failed": (
        [*EVENTS[:-1], replace(EVENTS[-1], result="failed")],
        FACTS,
        ["train.fit: its login was not revoked, by the trail"],
    ),
    "a-role-is-left": (
        EVENTS,
        replace(FACTS, roles=("v-approle-reader-1",)),
        ["PostgreSQL still has the role v-approle-reader-1"],
    ),
    "a-token-is-left": (
        EVENTS,
        replace(FACTS, left=("token auth/approle/login",)),
        ["Vault still has: token auth/approle/login"],
    ),
    "the-key-is-as-it-was": (
        EVENTS,
        replace(FACTS, after=FACTS.before),
        ["data: version 1 after the rotation, expected 2"],
    ),
    "an-older-version-still-works": (
        EVENTS,
        replace(FACTS, after=KeyFact(newest=2, oldest=1)),
        ["data: version 1 can still be used, expected none but the newest"],
    ),
    "nothing-was-rewrapped": (
        EVENTS,
        replace(FACTS, rewraps=0),
        ["Vault was never asked to rewrap"],
    ),
    "whoever-rewrapped-opened": (
        EVENTS,
        replace(FACTS, rewrapping_opened=4),
        ["whoever rewrapped also asked to unwrap: 4 times"],
    ),
}


@pytest.mark.parametrize(("events", "facts", "problems"), OTHERWISE.values(), ids=OTHERWISE)
def test_anything_else_is_a_problem(events, facts, problems):
    summary = summarize_vault(TASKS, events, facts, EXPECTED)

    assert summary.problems == problems


def test_two_summaries_are_told_as_one_and_the_trail_comes_last():
    first = Summary(lines=["sealed 1", "trail 9"], problems=["one"])
    second = Summary(lines=["leased 2"], problems=["two"])

    joined = join(first, second)

    assert joined.lines == ["sealed 1", "leased 2", "trail 9"]
    assert joined.problems == ["one", "two"]
