"""Somebody who writes events, or the log's file, and waits for `audit show` and `audit verify`."""

from __future__ import annotations

import json
import sqlite3
from types import SimpleNamespace

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader
from airflow_secure_ml.commands.audit import _event_line
from airflow_secure_ml.core.audit.query import Leaf
from tests.services.audit.conftest import ALICE, event, segment
from tests.services.audit.test_verifying import rewrite
from tests.test_cli import home, made  # noqa: F401 - fixtures


def _line(record):
    return _event_line(Leaf(index=7, data=b"{}", hash=b"", event=record))


@pytest.mark.parametrize("time", [2**53 - 1, -(2**53 - 1), 10**400, "soon", None, {"h": 1}])
def test_a_time_out_of_range_hides_no_other_event(time):
    said = _line({"time": time, "act": "object.open", "phase": "seen", "result": "ok"})

    assert "object.open" in said
    assert len(said) < 200


def test_an_edited_leaf_hides_no_other_event():
    assert "None" in _line({"run": "x", "object": [1], "key": 3, "result": {"a": 1}})


def test_an_event_of_the_far_future_and_a_hostile_name_are_shown(home):  # noqa: F811
    home.done("keys", "create", "another", "--for", "wrap")
    hostile = event(ALICE, 0, None, time=2**53 - 1, object={"uri": "file:///\x1b[2Ja\u202eb\r\nc"})
    home.sequence()
    (home.audit / "spool" / f"{ALICE}-0000.seg").write_bytes(segment(ALICE, 0, [hostile]))
    home.sequence()

    said = home.done("audit", "show")

    assert "\\x1b[2Ja\\u202eb\\r\\nc" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_words_that_are_no_text_are_wrong_use(home):  # noqa: F811
    assert home.refused(2, "audit", "show", "--dag", "\udcff")["why"] == "misconfigured"


def test_that_a_check_found_the_log_changed_is_recorded_as_such(home):  # noqa: F811
    home.done("keys", "create", "another", "--for", "wrap")
    home.sequence()
    with sqlite3.connect(home.audit / "trail.db") as connection:
        connection.execute("UPDATE leaf SET data = replace(data, '\"another\"', '\"nothing\"')")
    connection.close()
    assert home.run("audit", "verify").returncode == 1

    outcome = home.events("trail.verify")[-1]

    assert (outcome["phase"], outcome["result"]) == ("outcome", "failed")
    assert outcome["why"] == "digest_differs"
    assert json.dumps(outcome).count("first_bad") == 1


def test_a_log_that_was_cut_is_not_adopted_over_its_own_checkpoint(home):  # noqa: F811
    home.done("keys", "create", "another", "--for", "wrap")
    home.sequence()
    signer = home.path / "secure_ml" / "signer"
    note = (signer / "last").read_text()
    log = SimpleNamespace(database=home.audit / "trail.db", origin=note.split("\n")[0])
    with SqliteAuditReader(log.database).whole() as whole:
        stored = [data for _, data, _ in whole.leaves()]
    rewrite(log, stored[:-2])
    (signer / "last").unlink()

    record = home.refused(1, "audit", "adopt", "--yes")

    assert "is missing" in record["message"]
    assert not (signer / "last").exists()


def test_a_check_names_who_ended_without_saying_so(home):  # noqa: F811
    home.done("keys", "create", "another", "--for", "wrap")
    home.sequence()
    facts = {"program": "task\x1b[2J", "host": "worker-\u202e3", "pid": 4711}
    run = {"dag": "churn", "run": "r1", "task": "train"}
    opened = event(ALICE, 0, None, "emitter.open", more=facts, run=run)
    (home.audit / "spool" / f"{ALICE}-0000.seg").write_bytes(segment(ALICE, 0, [opened]))
    home.sequence()

    said = home.done("audit", "verify")
    listed = json.loads(home.done("audit", "verify", "--json"))["badly_ended"]

    (line,) = [line for line in said.splitlines() if "4711" in line]
    assert line == (
        "cut     task\\x1b[2J on worker-\\u202e3 process 4711 churn.r1.train; 1 events, "
        f"last emitter.open at 2026-11-22 03:00:00, {ALICE}:0"
    )
    assert [(one["emitter"], one["state"], one["pid"]) for one in listed["named"]] == [
        (ALICE, "cut", 4711)
    ]
