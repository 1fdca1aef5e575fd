"""What is called agreement, difference, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_secure_ml.core.audit.outside_use import OutsideUse
from airflow_secure_ml.services.agreement_alerts import MAX_NAMED, alerts_due
from airflow_secure_ml.services.key_usage_agreement import Period, Scope, agree
from airflow_secure_ml.services.recorded_uses import recorded_uses

EMITTER = "0" * 32
SCOPE = Scope(mounts=frozenset({"transit"}))
PERIOD = Period(log=(0, 100_000), trail=(0, 100_000), tolerance_ms=1000)
KEY = {"system": "vault", "name": "data", "version": "1"}


def use(at, kind="decrypt", about="transit/data", **more):
    return OutsideUse(time_ms=at, kind=kind, about=about, request=f"r{at}", accessor="a", **more)


def event(at, act="object.open", seq=1, *, ms=10, result="ok", **more):
    facts = {"ms": ms, **more.pop("more", {})}
    found = {"emitter": EMITTER, "seq": seq, "time": at, "act": act, "phase": "outcome"}
    return {**found, "result": result, "key": KEY, "more": facts, **more}


def compared(uses, events, period=PERIOD, scope=SCOPE, doubts=()):
    recorded = recorded_uses(events, lambda name: f"transit/{name}" if name else "", signer="sig")
    return agree(uses, recorded, scope, period, doubts)


def test_a_use_and_its_act_agree():
    found = compared([use(50_000)], [event(50_005)])

    assert (found.status, found.matched) == (0, 1)
    assert found.counts == {("decrypt", "transit/data", 0): [1, 1]}


def test_one_act_does_not_excuse_two_uses():
    found = compared([use(20_000), use(50_000)], [event(50_005, ms=40_000)])

    assert (found.status, found.matched) == (4, 1)
    assert [each.request for each in found.unrecorded] == ["r20000"]


def test_clocks_may_differ_by_the_tolerance_and_no_more():
    assert compared([use(51_005)], [event(50_005)]).status == 0
    assert compared([use(51_006)], [event(50_005)]).status == 4


def test_another_key_and_another_kind_are_other_uses():
    assert len(compared([use(50_000, about="transit/b")], [event(50_005)]).unrecorded) == 1
    assert len(compared([use(50_000, kind="encrypt")], [event(50_005)]).unasked) == 1


@pytest.mark.parametrize("result", ["refused", "failed", "unknown"])
def test_an_act_that_failed_may_have_used_the_key(result):
    assert compared([use(50_000)], [event(50_005, result=result)]).status == 0
    both = [event(30_000, seq=1), event(50_005, seq=2, result=result)]
    assert compared([use(29_995)], both).status == 0


def test_a_batch_is_as_many_uses_as_it_holds():
    acts = [event(50_005 + n, "object.rewrap", seq=n, ms=20) for n in range(3)]
    batch = use(50_000, kind="rewrap", units=3)

    assert (compared([batch], acts).status, compared([batch], acts).matched) == (0, 3)
    more = compared([replace(batch, units=5)], acts)
    assert [each.units for each in more.unrecorded] == [5]
    assert len(compared([replace(batch, units=2)], acts).unasked) == 1


def test_an_act_lasts_from_the_event_it_answers():
    intent = {**event(10_000, seq=0), "phase": "intent"}
    outcome = event(50_000, "object.sign", seq=1, of=f"{EMITTER}:0", more={})
    outcome["more"].pop("ms")

    assert compared([use(11_000, kind="sign")], [intent, outcome]).status == 0
    assert compared([use(8000, kind="sign")], [intent, outcome]).status == 4


def test_what_is_near_an_end_of_the_other_side_cannot_be_told():
    assert compared([use(99_500), use(50_000)], [event(50_005)]).status == 5
    assert compared([use(50_000)], [event(50_005), event(99_500, seq=2)]).status == 5
    assert compared([use(99_500)], [event(99_505)]).status == 0


def test_what_is_later_than_the_log_cannot_be_told_unless_the_end_was_said():
    period = replace(PERIOD, log=(0, 60_000))
    events = [event(50_005), event(80_000, seq=2)]

    found = compared([use(50_000)], events, period)

    assert (found.status, found.unasked) == (5, [])
    assert "1 recorded uses are later" in found.doubts[0]
    assert compared([use(50_000)], events, replace(period, says_end=True)).status == 0


def test_uses_before_the_trail_began_are_nobodys_fault():
    period = replace(PERIOD, trail=(40_000, 100_000))

    assert compared([use(10_000), use(50_000)], [event(50_005)], period).status == 0


def test_a_doubt_is_never_agreement():
    assert compared([use(50_000)], [event(50_005)], doubts=["a line is missing"]).status == 5
    assert compared([], []).status == 5


def test_a_name_that_is_hidden_cannot_be_told():
    hidden = event(50_005, key={**KEY, "name": {"h": "ab", "n": 4}})

    found = compared([use(30_000)], [event(30_005), replace_seq(hidden, 2)])

    assert found.status == 5
    assert "do not tell of what" in found.doubts[0]


def replace_seq(found, seq):
    return {**found, "seq": seq}


def test_keys_elsewhere_are_told_and_not_compared():
    found = compared([use(50_000), use(50_000, about="other/x")], [event(50_005)])

    assert (found.status, dict(found.others)) == (0, {("decrypt", "other/x"): 1})


def test_the_log_s_own_key_is_told_and_not_compared():
    scope = replace(SCOPE, apart=frozenset({"transit/log"}))
    signed = use(60_000, kind="sign", about="transit/log")

    found = compared([use(50_000), signed], [event(50_005)], scope=scope)

    assert (found.status, dict(found.others)) == (0, {("sign", "transit/log"): 1})


def test_what_vault_refused_is_told_and_is_no_use():
    denied = use(30_000, state="refused")

    found = compared([denied, use(50_000)], [event(50_005)])

    assert (found.status, dict(found.refused)) == (0, {("decrypt", "transit/data"): 1})


def test_a_secret_is_matched_by_its_name_and_not_asked_for_when_remembered():
    def lookup(at, seq, because=None):
        facts = {"name": "db/main", "kind": "connection"}
        facts |= {"because": because} if because else {}
        return event(at, "secret.read", seq, more=facts, key={})

    read = use(50_000, kind="read", about="kv/data/airflow/connections/db/main")

    assert compared([read], [lookup(50_005, 1)]).status == 0
    assert compared([read], [lookup(50_005, 1), lookup(60_000, 2, "cached")]).status == 0
    assert compared([read], [lookup(50_005, 1), lookup(60_000, 2, "absent")]).status == 0
    assert len(compared([read], [lookup(50_005, 1), lookup(60_000, 2)]).unasked) == 1
    twice = [read, replace(read, time_ms=80_000)]
    assert len(compared(twice, [lookup(50_005, 1)]).unrecorded) == 1


def test_a_lease_is_matched_by_its_id():
    one, two = ("sha256:" + sign * 64 for sign in "ab")
    granted = event(50_005, "lease.grant", key={}, lease={"path": "database/creds/r", "id": one})
    path = {"kind": "grant", "about": "database/creds/r"}

    assert compared([use(50_000, lease=one, **path)], [granted]).status == 0
    other = compared([use(50_000, lease=two, **path)], [granted])
    assert (len(other.unrecorded), len(other.unasked)) == (1, 1)


def test_a_lease_s_end_is_told_by_the_token_where_its_id_is_hidden():
    one = "sha256:" + "a" * 64
    lease = {"path": "database/creds/r", "id": one}
    granted = event(30_005, "lease.grant", key={}, lease=lease)
    ended = event(60_005, "lease.revoke", 2, key={}, lease=lease)
    grant = use(30_000, kind="grant", about="database/creds/r", lease=one)
    ours = use(60_000, kind="revoke", about="", hashed="hmac-sha256:x")

    assert compared([grant, ours], [granted, ended]).status == 0
    assert len(compared([grant, replace(ours, accessor="b")], [granted, ended]).unasked) == 1
    again = [grant, ours, replace(ours, time_ms=80_000)]
    assert len(compared(again, [granted, ended]).unrecorded) == 1


def test_a_use_is_alerted_about_once_and_not_without_bound():
    uses = [use(50_000)] + [use(2000 + n, kind="encrypt") for n in range(MAX_NAMED + 50)]
    found = compared(uses, [event(50_005)])

    raised = list(alerts_due(found, [], "auditor"))

    assert {each.more["about"] for each in raised} == {"vault.unrecorded"}
    assert sum(len(each.more["uses"]) for each in raised) == MAX_NAMED
    assert f"{MAX_NAMED + 50} uses" in raised[0].more["subject"]
    again = list(alerts_due(found, [{"more": each.more} for each in raised], "auditor"))
    assert sum(len(each.more["uses"]) for each in again) == 50


def test_a_comparison_of_nothing_of_ours_is_no_witness_against_the_trail():
    found = compared([use(50_000, about="other/x")], [event(50_005)])

    assert (found.status, found.unasked) == (5, [])
    assert "another system's log" in found.doubts[0]
