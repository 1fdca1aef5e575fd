"""Events: what writers may say, and what readers take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES, WHYS
from airflow_secure_ml.core.audit.event import Fact, RunRef, assemble, is_hidden, parse_event
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "trail"
EVENTS = [
    line
    for name in ("leaves.txt", "events.txt")
    for line in (VECTORS / name).read_bytes().splitlines()
    if line.startswith(b"{")
]
AT = {"emitter": "00" * 16, "seq": 1, "prev": "11" * 32, "time": 5, "mono": 3}


def changed(**fields):
    event = json.loads(EVENTS[4])
    for name, value in fields.items():
        event.pop(name, None) if value is None else event.update({name: value})
    return canonical.encode(event)


@pytest.mark.parametrize("data", EVENTS, ids=lambda data: json.loads(data)["act"])
def test_every_example_is_read_and_is_in_the_catalogue(data):
    event = parse_event(data)

    facts = ACTIVITIES[event["act"]].facts[event["phase"]]
    assert set(event.get("more", {})) <= set(facts)
    assert len(EVENTS) == 12


def test_the_refusal_of_the_examples_is_assembled_byte_for_byte():
    run = RunRef(
        dag="churn",
        run="manual__2026-11-22T03:00:00+00:00",
        task="train",
        try_number=1,
        ti="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
    )
    fact = Fact(
        act="object.open",
        phase="outcome",
        result="refused",
        why="digest_differs",
        of="00112233445566778899aabbccddeeff:1",
        run=run,
        object={
            "name": "table",
            "uri": "s3://lake/customers.csv",
            "digest": "sha256:" + "99" * 32,
            "bytes": 12582912,
        },
        more={"expected": "sha256:" + "ab" * 32, "pinned_by": "reference", "signer": None},
    )

    record = assemble(
        fact,
        emitter="00112233445566778899aabbccddeeff",
        seq=2,
        prev="ef" * 32,
        time=1795316400060,
        mono=60,
    )

    assert canonical.encode(record) == (VECTORS / "events.txt").read_bytes().splitlines()[0]


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param({"act": "object.peek", "phase": "seen", "result": "ok"}, id="activity"),
        pytest.param({"act": "task.end", "phase": "intent"}, id="phase"),
        pytest.param({"act": "task.end", "phase": "seen"}, id="no result"),
        pytest.param({"act": "task.end", "phase": "seen", "result": "fine"}, id="result"),
        pytest.param({"act": "task.secure", "phase": "intent", "result": "ok"}, id="intent result"),
        pytest.param({"act": "task.end", "phase": "seen", "result": "failed"}, id="no why"),
        pytest.param(
            {"act": "task.end", "phase": "seen", "result": "failed", "why": "so"}, id="why"
        ),
        pytest.param(
            {"act": "task.end", "phase": "seen", "result": "ok", "why": "bug"}, id="why with ok"
        ),
        pytest.param(
            {"act": "task.end", "phase": "seen", "result": "ok", "more": {"x": "y"}}, id="fact"
        ),
        pytest.param(
            {"act": "emitter.close", "phase": "seen", "result": "ok", "more": {"events": True}},
            id="flag for a count",
        ),
        pytest.param(
            {"act": "emitter.close", "phase": "seen", "result": "ok", "more": {"events": "7"}},
            id="text for a count",
        ),
        pytest.param(
            {"act": "object.open", "phase": "intent", "object": {"path": "/x"}}, id="object field"
        ),
        pytest.param(
            {"act": "object.open", "phase": "intent", "object": {"digest": "ab" * 32}},
            id="digest without its algorithm",
        ),
        pytest.param({"act": "object.open", "phase": "intent", "of": "x:1"}, id="of"),
        pytest.param(
            {"act": "rule.decide", "phase": "seen", "result": "ok", "rule": {"decision": "maybe"}},
            id="decision",
        ),
        pytest.param(
            {"act": "object.open", "phase": "intent", "object": {"bytes": -1}}, id="negative length"
        ),
    ],
)
def test_writers_are_held_to_the_closed_sets(fact):
    with pytest.raises(FormatError, match="audit event: "):
        assemble(Fact(**fact), **AT)


def test_every_activity_and_why_of_the_design_is_there():
    assert set(ACTIVITIES) == set(
        """
        emitter.open emitter.close emitter.loss task.start task.secure task.end rule.decide
        object.verify object.open object.validate object.quarantine object.seal object.sign
        object.publish object.rewrap scratch.shred lease.grant lease.renew lease.revoke secret.read
        xcom.read xcom.write key.create key.rotate key.disable key.destroy trail.start trail.emitter
        trail.refused trail.beat trail.key trail.adopt trail.verify trail.view trail.export
        trail.prune trail.erase dag.declare run.start run.end user.act coverage.check alert.raise
        alert.close
        dataset.shred key.protect trail.hold alert.acknowledge review.assign review.note review.sign
        """.split()  # noqa: SIM905 - as the design lists them, and what came since
    )
    assert len(WHYS) == 30


def test_runs_are_written_as_far_as_they_are_known():
    def written(run):
        fact = Fact(act="task.end", phase="seen", result="ok", run=run)
        return assemble(fact, **AT)["run"]

    assert written(RunRef(dag="d", run="r")) == {"dag": "d", "run": "r"}
    assert written(RunRef(dag="d", run="")) == {"dag": "d"}
    assert written(RunRef(dag="d", run="r", task="t")) == {
        "dag": "d",
        "run": "r",
        "task": "t",
        "map": -1,
    }


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"v": 2}, id="version 2"),
        pytest.param({"v": True}, id="version true"),
        pytest.param({"v": None}, id="no version"),
        pytest.param({"emitter": "00"}, id="short emitter"),
        pytest.param({"emitter": "0011223344556677889900AABBCCDDEE"}, id="upper-case hex"),
        pytest.param({"seq": "2"}, id="seq as text"),
        pytest.param({"seq": -1}, id="negative seq"),
        pytest.param({"seq": 0}, id="prev in the first"),
        pytest.param({"prev": None}, id="no prev"),
        pytest.param({"prev": 5}, id="prev as number"),
        pytest.param({"time": "now"}, id="time as text"),
        pytest.param({"mono": -1}, id="negative mono"),
        pytest.param({"act": 5}, id="act as number"),
        pytest.param({"act": "<b>"}, id="act as markup"),
        pytest.param({"phase": "after"}, id="phase"),
        pytest.param({"result": None}, id="no result"),
        pytest.param({"result": "refused"}, id="refused without why"),
        pytest.param({"why": "bug"}, id="ok with why"),
        pytest.param({"of": "1"}, id="of"),
        pytest.param({"run": "churn"}, id="run as text"),
        pytest.param({"run": {}}, id="run without dag"),
        pytest.param({"run": {"dag": {"h": "00" * 32, "n": 1}}}, id="hidden dag"),
        pytest.param({"run": {"dag": "d", "map": True}}, id="map as flag"),
        pytest.param({"object": []}, id="object as array"),
        pytest.param({"object": {"bytes": "5"}}, id="bytes as text"),
        pytest.param({"object": {"uri": {"h": "00" * 31, "n": 1}}}, id="short hidden value"),
        pytest.param({"by": "ada"}, id="a person in the open"),
        pytest.param({"more": "x"}, id="more as text"),
    ],
)
def test_a_field_of_another_type_is_refused(fields):
    with pytest.raises(FormatError):
        parse_event(changed(**fields))


def test_what_a_later_release_writes_is_kept():
    event = parse_event(
        changed(
            act="model.deploy", later={"a": 1}, object={"name": "x", "etag": "y"}, rule={"n": 1}
        )
    )

    assert event["act"] == "model.deploy"
    assert event["later"] == {"a": 1}
    assert event["object"] == {"etag": "y", "name": "x"}


def test_an_array_is_no_event():
    with pytest.raises(FormatError, match="not an object"):
        parse_event(b"[]")


@given(st.data())
def test_a_flipped_byte_is_read_as_something_else_or_refused(data):
    leaf = bytearray(EVENTS[4])
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        event = parse_event(bytes(leaf))
    except FormatError:
        return

    assert json.dumps(event) != json.dumps(json.loads(EVENTS[4]))


def test_a_hidden_value_is_known_by_its_shape():
    assert is_hidden({"h": "f2" * 32, "n": 8})
    assert not is_hidden({"h": "f2" * 32, "n": 8, "x": 1})
    assert not is_hidden({"h": "f2" * 32})
    assert not is_hidden("f2")
