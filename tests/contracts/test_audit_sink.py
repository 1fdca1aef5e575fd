"""What every AuditSink does."""

from __future__ import annotations

import threading

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import FormatError, ServiceUnavailableError
from airflow_secure_ml.testing.ports import MemoryAudit

OPEN = Fact(act="object.open", phase="intent", object={"uri": "file:///x"}, by="alice")


@pytest.fixture(params=["spool", "memory"])
def sink(request, tmp_path):
    sink = Spool(tmp_path, "test") if request.param == "spool" else MemoryAudit()
    yield sink
    sink.close()


@pytest.fixture(params=["spool", "memory"])
def broken(request, tmp_path):
    if request.param == "memory":
        sink = MemoryAudit()
        sink.broken = True
        return sink
    (tmp_path / "audit").write_bytes(b"")
    return Spool(tmp_path / "audit", "test")


def test_events_are_named_by_their_emitter_in_order(sink):
    names = [sink.record(OPEN) for _ in range(3)]

    emitters, numbers = zip(*(name.split(":") for name in names), strict=True)
    assert len(set(emitters)) == 1
    assert len(emitters[0]) == 32
    # Number 0 is the emitter's own opening.
    assert numbers == ("1", "2", "3")


def test_what_was_recorded_is_settled_and_settling_nothing_is_no_error(sink):
    sink.settle()
    sink.record(OPEN)
    sink.settle()
    sink.settle()


def test_closing_twice_is_no_error_and_afterwards_another_emitter_begins(sink):
    first = sink.record(OPEN)
    sink.close()
    sink.close()

    second = sink.record(OPEN)

    assert first.split(":")[0] != second.split(":")[0]
    assert second.endswith(":1")


@pytest.mark.parametrize(
    "fact",
    [
        Fact(act="object.eat", phase="intent"),
        Fact(act="object.open", phase="maybe"),
        Fact(act="object.open", phase="intent", result="ok"),
        Fact(act="object.open", phase="outcome"),
        Fact(act="object.open", phase="outcome", result="refused"),
        Fact(act="object.open", phase="outcome", result="refused", why="tired"),
        Fact(act="object.open", phase="intent", more={"rows_of_data": "alice"}),
    ],
    ids=["act", "phase", "result early", "no result", "no why", "why", "fact"],
)
def test_what_no_event_may_say_is_refused_and_leaves_no_hole(sink, fact):
    with pytest.raises(FormatError):
        sink.record(fact)

    assert sink.record(OPEN).endswith(":1")


def test_many_threads_never_get_one_name(sink):
    names = []

    def record():
        names.extend(sink.record(OPEN) for _ in range(50))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(names)) == 200


def test_what_cannot_be_made_durable_is_said(broken):
    broken.record(OPEN)

    with pytest.raises(ServiceUnavailableError) as caught:
        broken.settle()

    assert caught.value.why == "audit_unavailable"
