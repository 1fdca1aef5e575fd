"""What a try read and wrote, from events that may hold anything."""

from __future__ import annotations

import pytest

from airflow_secure_ml.services.works import Version, result_in, touches_in, version_of, work_in

DIGEST = "sha256:" + "ab" * 32


def event(act, phase="outcome", result="ok", **fields):
    found = {"act": act, "phase": phase, "emitter": "ee", "seq": 1, "time": 5, **fields}
    return found if phase == "intent" else {**found, "result": result}


def reads(*events):
    return [touch.version for touch in touches_in(events) if touch.is_read]


def test_an_input_counts_once_with_the_digest_that_was_checked():
    declared = event("task.secure", "intent", more={"reads": [{"name": "t", "uri": "u"}]})
    verified = event("object.verify", object={"uri": "u", "digest": DIGEST})
    opened = event("object.open", object={"uri": "u", "digest": DIGEST})

    assert reads(declared, verified, opened) == [Version(uri="u", digest=DIGEST)]


def test_an_input_that_was_only_named_has_no_digest():
    declared = event("task.secure", "intent", more={"reads": [{"name": "t", "uri": "u"}]})

    assert reads(declared) == [Version(uri="u", digest="")]


def test_an_input_that_did_not_fit_into_the_list_counts_too():
    assert reads(event("object.verify", "intent", object={"uri": "u"})) == [
        Version(uri="u", digest="")
    ]


def test_what_was_not_published_was_not_written():
    asked = event("object.publish", "intent", object={"uri": "u", "digest": DIGEST})
    failed = event("object.publish", result="failed", why="bug", object={"uri": "u"})

    assert list(touches_in([asked, failed])) == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"object": "x"},
        {"object": {"uri": {"h": "00", "n": 3}}},
        {"object": {"uri": 7, "digest": None}},
        {"object": {"uri": "u", "digest": DIGEST}, "act": ["object.open"]},
    ],
    ids=["no object", "text", "hidden", "numbers", "a list for an act"],
)
def test_what_has_another_type_is_left_out(fields):
    assert list(touches_in([event("object.open") | fields])) == []


@pytest.mark.parametrize("listed", ["uri", 7, [7, "u", {"uri": 7}, {}], None], ids=repr)
def test_a_list_of_inputs_that_is_none_names_none(listed):
    assert reads(event("task.secure", "intent", more={"reads": listed})) == []


def test_a_hidden_address_is_found_by_its_digest():
    hidden = event("object.open", object={"uri": {"h": "00" * 32, "n": 3}, "digest": DIGEST})

    assert version_of(hidden) == Version(uri="", digest=DIGEST)


@pytest.mark.parametrize(
    "run",
    [None, "x", {"dag": 7}, {"dag": "d", "run": "r"}],
    ids=["none", "text", "number", "a whole run"],
)
def test_without_a_task_each_act_is_a_work_of_its_own(run):
    first = work_in(event("object.publish", run=run, of="ee:0"))
    second = work_in(event("object.publish", run=run, of="ee:7"))

    assert first.key != second.key
    assert not first.is_try


def test_a_number_that_is_none_is_not_shown_as_one():
    work = work_in(event("object.open", run={"dag": "d", "task": "t", "map": "0", "try": 2**60}))

    assert (work.map_index, work.number) == (-1, 0)


def test_how_a_try_ended_is_what_it_said_last():
    started = event("task.secure", "intent")

    assert result_in([started]) == ""
    assert result_in([started, event("task.secure", result="refused")]) == "refused"
