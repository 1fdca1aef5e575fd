"""A DAG's author, or a task, that would rather not be heard of by the listener and the policy."""

from __future__ import annotations

import json
import os
import threading
from types import SimpleNamespace

import pytest

from airflow_secure_ml import policies, recording
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.event import assemble
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.plugin import listener
from airflow_secure_ml.testing.ports import MemoryAudit
from tests.plugin.test_listener import audit, try_of  # noqa: F401


def _encoded(fact):
    record = assemble(fact, emitter="0" * 32, seq=0, prev=None, time=0, mono=0)
    return canonical.encode(record)


class Secured:
    _secure_ml_declaration = True

    def __init__(self, task_id):
        self.task_id = task_id


def test_a_dag_of_the_longest_names_is_declared(monkeypatch, tmp_path):
    recorded = MemoryAudit()
    recording.use_sink(recorded)
    tasks = [Secured(f"{number:04d}" + "\U00020000" * 246) for number in range(250)]
    dag = SimpleNamespace(dag_id="\U00020000" * 250, tasks=tasks, fileloc="/x/" + "f" * 250)
    settings = SimpleNamespace(audit_dir=tmp_path)
    monkeypatch.setattr("airflow_secure_ml.settings.load_settings", lambda **_: settings)

    policies._declare(dag)

    recording.use_sink(None)
    said = [name for fact in recorded.facts for name in fact.more["secured"]]
    assert said == [task.task_id for task in tasks]
    assert max(len(_encoded(fact)) for fact in recorded.facts) <= 32768


@pytest.mark.parametrize("why", ["made_up", "", None, 7, ["bug"], "x" * 100])
def test_a_reason_that_a_task_makes_up_does_not_silence_its_end(audit, why):  # noqa: F811
    error = SecureMLError("no")
    error.why = why

    listener.on_task_instance_failed("running", try_of(), error)

    assert [fact.act for fact in audit.facts] == ["task.end"]
    assert audit.facts[0].why == "task_raised"
    assert b"task.end" in _encoded(audit.facts[0])


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "o" * 3000])
def test_an_operator_of_an_impossible_name_is_heard_of(audit, name):  # noqa: F811
    ti = try_of()
    ti.task = type("Operator", (), {})()
    if len(name) > 100:
        type(ti.task).__name__ = name
    else:
        ti.state = name

    listener.on_task_instance_success("running", ti)

    assert [fact.act for fact in audit.facts] == ["task.end"]
    assert _encoded(audit.facts[0])


def test_a_child_that_is_forked_while_a_sink_is_opened_does_not_wait_for_ever():
    held, go = threading.Event(), threading.Event()

    def hold():
        with recording._lock:
            held.set()
            go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        free = recording._lock.acquire(timeout=2)
        os.write(writer, json.dumps(free).encode())
        os._exit(0)
    os.waitpid(child, 0)
    go.set()
    thread.join()

    assert os.read(reader, 10) == b"true"
    os.close(reader)
    os.close(writer)
