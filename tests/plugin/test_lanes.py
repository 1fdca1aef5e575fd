"""The run's lanes: order, refusals, what is missing, and what only Airflow knows."""

from __future__ import annotations

import itertools

from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin.lanes import LAST_MARK, MARK_GAP, Try, lay_out

TI = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"
START = 1_795_316_400_000


def told(act, at_ms, phase="outcome", *, seq=0, task="train", ti=TI, **values):
    event = {
        "act": act, "phase": phase, "time": START + at_ms, "emitter": "ee", "seq": seq,
        "run": {"dag": "churn", "run": "r", "task": task, "map": -1, "try": 1, "ti": ti},
    } | values  # fmt: skip
    return Leaf(index=seq, data=b"{}", hash=b"", event=event)


def known(ti=TI, task="train"):
    return Try(
        ti=ti, task=task, map_index=-1, number=1, state="success",
        start_ms=START, end_ms=START + 10_000,
    )  # fmt: skip


GOOD = [
    told("task.secure", 0, "intent", seq=1),
    told("object.open", 40, seq=2, result="ok", of="ee:1", object={"name": "t", "uri": "u"}),
    told("object.seal", 9_000, seq=3, result="ok", of="ee:1"),
    told("task.secure", 9_100, seq=4, result="ok", of="ee:1"),
]


def test_a_whole_task_has_its_steps_in_order():
    [group] = lay_out(GOOD, [known()]).groups

    assert [step.shape for step in group.lanes[0].steps] == ["box", "sealed"]
    assert group.lanes[0].tone == ""


def test_a_refusal_ends_its_lane_in_red_with_the_reason():
    refused = told("object.open", 40, seq=2, result="refused", why="digest_differs")

    view = lay_out([GOOD[0], refused], [known()])

    lane = view.groups[0].lanes[0]
    assert (lane.tone, lane.steps[-1].tone, view.refused) == ("bad", "bad", 1)
    assert "digest differs" in lane.said


def test_who_looks_at_a_task_is_no_try_of_it():
    looked = told("user.act", 3_600_000, "seen", seq=9, result="ok", task="train", ti=None)

    [group] = lay_out([*GOOD, looked], [known()]).groups

    [lane] = group.lanes
    assert [step.shape for step in lane.steps] == ["box", "sealed"]


def test_an_intent_without_outcome_is_hollow():
    asked = told("object.publish", 9_050, "intent", seq=9)

    [group] = lay_out([*GOOD, asked], [known()]).groups

    assert group.lanes[0].steps[-1].tone == "hollow"


def test_an_intent_with_its_outcome_is_one_mark():
    asked = told("object.publish", 9_050, "intent", seq=9)
    done = told("object.publish", 9_060, seq=10, result="ok", of="ee:9", object={"uri": "u"})

    [group] = lay_out([*GOOD, asked, done], [known()]).groups

    assert [step.shape for step in group.lanes[0].steps] == ["box", "sealed", "up"]


def test_a_killed_task_says_that_its_end_is_not_known():
    [group] = lay_out(GOOD[:2], [known()]).groups

    assert group.lanes[0].tone == "look"
    assert "not in the trail" in group.lanes[0].said


def test_what_only_airflow_knows_is_a_lane_and_counts_as_not_recorded():
    view = lay_out(GOOD, [known(), known("other", "notify")])

    assert (view.recorded, view.started) == (1, 2)
    assert view.groups[1].lanes[0].bars[0].tone == "silent"


def test_marks_never_cover_each_other_and_never_leave_the_line():
    crowd = [told("rule.decide", 9_100, seq=n, result="ok") for n in range(20)]

    steps = lay_out([GOOD[0], *crowd], [known()]).groups[0].lanes[0].steps

    gaps = [after.x - before.x for before, after in itertools.pairwise(steps)]
    assert min(gaps) >= MARK_GAP - 0.02
    assert steps[-1].x <= LAST_MARK


def test_inputs_and_outputs_carry_their_digests():
    published = told(
        "object.publish", 9_060, seq=10, result="ok", object={"uri": "m", "digest": "sha256:aa"}
    )

    flows = lay_out([*GOOD, published], []).flows

    assert [(flow.direction, flow.uri) for flow in flows] == [("read", "u"), ("written", "m")]
    assert flows[1].digest == "sha256:aa"


def test_an_empty_run_is_an_empty_view():
    assert lay_out([], []).groups == ()


def test_a_tampered_run_is_still_laid_out():
    strange = [told("object.open", 0, time="soon"), told("x", 0, run={"task": [], "map": {}})]

    assert len(lay_out(strange, []).groups) == 2
