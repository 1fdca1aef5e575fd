"""Events as other systems read them: what their own schemas and parsers say to it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES
from airflow_secure_ml.core.audit.cef import to_cef
from airflow_secure_ml.core.audit.cloud_event import to_cloud_event
from airflow_secure_ml.core.audit.event import Fact, RunRef, assemble
from airflow_secure_ml.core.audit.ocsf import PROFILES, to_ocsf
from airflow_secure_ml.core.audit.otlp import to_otlp
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.tree import leaf_hash

ORIGIN = "example.org/asml-trail/7f3a9c20"
VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "trail"
HIDDEN = {"h": "ab" * 32, "n": 12}
EXAMPLES = [
    line
    for name in ("leaves.txt", "events.txt")
    for line in (VECTORS / name).read_bytes().splitlines()
    if line.startswith(b"{")
]
RUN = RunRef(dag="churn", run="r", task="train", try_number=1, ti="019ab2c4-7d10-7b3e-9a55")
TEXT = "x=1|y\\ \r\n act=forged\u2028 \x07<b>"
VALUES = {(str,): TEXT, (int,): 7, (bool,): True, (list, tuple): [TEXT, {"name": "n"}]}
RESULTS = {"intent": [None], "outcome": ["ok", "refused", "failed", "unknown"], "seen": ["ok"]}


def fact_of(act, phase, result):
    return Fact(
        act=act,
        phase=phase,
        result=result,
        why="digest_differs" if result in {"refused", "failed"} else None,
        object={"name": TEXT, "uri": f"s3://lake/{TEXT}", "version": "3", "bytes": 9, "rows": 2},
        key={"system": "local", "name": TEXT, "version": "3"},
        lease={"path": TEXT, "id": "sha256:" + "cd" * 32, "ttl_s": 900},
        rule={"id": "r", "digest": "d", "decision": "deny"},
        more={name: VALUES[kinds] for name, kinds in ACTIVITIES[act].facts[phase].items()},
    )


def every_event():
    """Every activity in every phase with every fact; what readers must take besides."""
    yield from EXAMPLES
    place = {"emitter": "00" * 16, "seq": 1, "prev": "11" * 32, "time": 5, "mono": 3}
    for act, activity in ACTIVITIES.items():
        for phase in activity.facts:
            for result in RESULTS[phase]:
                yield canonical.encode(assemble(fact_of(act, phase, result), run=RUN, **place))
    opened = json.loads(EXAMPLES[4])
    hidden = dict.fromkeys(("name", "uri", "version", "digest", "bytes", "rows"), HIDDEN)
    yield canonical.encode({**opened, "object": hidden, "by": HIDDEN})
    yield canonical.encode({**opened, "key": {"name": HIDDEN}, "lease": {"path": HIDDEN}})
    yield canonical.encode({**opened, "run": {"dag": "d", "run": HIDDEN, "task": HIDDEN}})
    yield canonical.encode({**opened, "act": "model.serve", "time": (1 << 53) - 1, "new": [1]})
    yield canonical.encode(
        {**opened, "act": "alert.raise", "time": -5, "more": {"about": {"a": 1}}}
    )
    yield from (b"", b"\xff\xfe", b"{}", b'{"v":2}', EXAMPLES[4][:-1], b"null")


EVENTS = list(every_event())


def leaf_of(data, index=3):
    return Leaf(index=index, data=data, hash=leaf_hash(data), event={})


@pytest.fixture(scope="module")
def validators():
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
    found = {}

    def validator(class_uid):
        if class_uid not in found:
            name = schema.lookup_class_name_from_uid(class_uid) if class_uid else "base_event"
            found[class_uid] = Draft202012Validator(
                schema.get_class_schema(name, profiles=PROFILES)
            )
        return found[class_uid]

    return validator


@pytest.mark.parametrize("data", EVENTS, ids=range(len(EVENTS)))
def test_ocsf_s_own_schema_takes_it(data, validators):
    event = to_ocsf(leaf_of(data), origin=ORIGIN)

    errors = list(validators(event["class_uid"]).iter_errors(event))

    assert [error.message for error in errors] == []
    assert event["raw_data_hash"]["value"] == hashlib.sha256(data).hexdigest()
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]


def test_the_schema_refuses_what_is_wrong(validators):
    event = to_ocsf(leaf_of(EXAMPLES[4]), origin=ORIGIN)
    del event["actor"]
    event["activity_id"] = "Decrypt"

    assert len(list(validators(event["class_uid"]).iter_errors(event))) >= 2


def test_an_opened_object_reads_as_a_decryption_by_its_task():
    event = to_ocsf(leaf_of(EXAMPLES[4]), origin=ORIGIN)

    assert (event["class_uid"], event["activity_id"]) == (6005, 10)
    assert (event["status_id"], event["severity_id"], event["action_id"]) == (1, 1, 3)
    assert event["databucket"]["uid"] == "s3://lake/customers.csv"
    assert event["actor"]["app_name"] == "churn.train"
    assert event["metadata"]["sequence"] == 3
    assert event["metadata"]["log_name"] == ORIGIN
    assert event["raw_data"].encode() == EXAMPLES[4]


def test_a_refusal_is_a_denied_failure_with_its_reason():
    refusal = next(data for data in EXAMPLES if b'"result":"refused"' in data)

    event = to_ocsf(leaf_of(refusal), origin=ORIGIN)

    assert (event["status_id"], event["action_id"], event["severity_id"]) == (2, 2, 3)
    assert event["status_code"] == "digest_differs"


def test_bytes_that_are_no_event_are_said_to_be_none():
    event = to_ocsf(leaf_of(b"\xff\xfe"), origin=ORIGIN)

    assert (event["class_uid"], event["severity_id"]) == (0, 4)
    assert "leaf 3 of the log is no event" in event["message"]


CEF_FIELD = re.compile(r"(?:^| )([A-Za-z0-9]+)=")
CEF_KEYS = {
    *("rt", "externalId", "cn1Label", "cn1", "cs1Label", "cs1", "cs2Label", "cs2", "outcome"),
    *("reason", "sproc", "suser", "filePath", "fname"),
}


@pytest.mark.parametrize("data", EVENTS, ids=range(len(EVENTS)))
def test_no_word_of_a_task_ends_a_cef_line_or_begins_a_field(data):
    line = to_cef(leaf_of(data), origin=ORIGIN, version="1.0.0")

    assert line.isprintable()
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    assert len(parts) == 8
    assert (parts[0], parts[3]) == ("CEF:0", "1.0.0")
    assert 0 <= int(parts[6]) <= 10
    unescaped = re.sub(r"\\[\\=]", "", parts[7])
    assert set(CEF_FIELD.findall(unescaped)) <= CEF_KEYS


@pytest.mark.parametrize("data", EVENTS, ids=range(len(EVENTS)))
def test_a_cloud_event_has_what_the_specification_requires(data):
    event = to_cloud_event(leaf_of(data), origin=ORIGIN)

    assert event["specversion"] == "1.0"
    assert re.fullmatch(r"[0-9a-f]{32}:[0-9]+|leaf 3", event["id"])
    assert event["source"] == "urn:airflow-secure-ml:log:example.org%2Fasml-trail%2F7f3a9c20"
    assert event["type"].startswith("airflow-secure-ml.audit.v1.")
    assert event["data"] == to_ocsf(leaf_of(data), origin=ORIGIN)
    if "time" in event:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])


def test_a_time_that_no_calendar_has_is_left_out():
    event = json.loads(EXAMPLES[4])
    far = canonical.encode({**event, "time": (1 << 53) - 1})

    assert "time" not in to_cloud_event(leaf_of(far), origin=ORIGIN)


def test_opentelemetry_s_own_messages_take_all_of_it():
    leaves = [leaf_of(data, index) for index, data in enumerate(EVENTS)]

    found = json_format.ParseDict(to_otlp(leaves, origin=ORIGIN, version="1.0.0"), LogsData())

    records = found.resource_logs[0].scope_logs[0].log_records
    assert len(records) == len(EVENTS)
    assert json.loads(records[4].body.string_value)["raw_data"].encode() == EVENTS[4]
    assert records[4].time_unix_nano == 1795316400061 * 1_000_000
    assert {record.severity_number for record in records} == {9, 13, 14, 17}


@pytest.mark.parametrize("data", EVENTS[:40], ids=range(40))
def test_the_same_leaf_gives_the_same_words(data):
    first, again = (
        json.dumps(to_ocsf(leaf_of(data), origin=ORIGIN), sort_keys=True) for _ in range(2)
    )

    assert first == again
