"""Attacks of a DAG author on the platform team's rules."""

from __future__ import annotations

import datetime as dt

import pytest

from airflow_secure_ml.core.policy import Rule, Rules
from airflow_secure_ml.core.validation import SuiteSource
from airflow_secure_ml.errors import PolicyError, SecureMLError
from airflow_secure_ml.services.run_plan import Input

DAY = dt.date(2026, 11, 22)
HEALTH = Rule(prefix="file:///lake/health", key="health", readers=("care",), signers=("clinic",))
RULES = Rules(version="1", digest="sha256:" + "0" * 64, data=(HEALTH,))


def test_a_folder_above_is_no_way_around_its_readers():
    decision = RULES.decide_read(
        "file:///lake", dag_id="marketing", sealed=True, key=None, today=DAY
    )

    assert (decision.allow, decision.why) == (False, "rule_denied")


def test_a_folder_above_is_no_way_around_its_key():
    decision = RULES.decide_write("file:///lake", key="data", today=DAY)

    assert (decision.allow, decision.why) == (False, "rule_denied")


def test_a_neighbour_with_a_longer_name_is_not_above():
    decision = RULES.decide_write("file:///lake/health-public", key="data", today=DAY)

    assert decision.allow


def test_rows_are_not_set_aside_where_a_rule_forbids_writing(bench, plan, suite):
    bench.put("people.csv", "age,name\n41,ada\n7,tim\n")
    bench.allow(f'default = "refuse"\n[[data]]\nprefix = "{bench.path("people.csv")}"\n')
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("elsewhere.csv"),
    )

    with pytest.raises(PolicyError) as caught:
        bench.run(plan(inputs=[item]))

    assert caught.value.why == "rule_denied"
    assert not bench.path("elsewhere.csv").exists()


def test_rows_are_not_set_aside_over_what_another_task_wrote(bench, plan, suite):
    bench.put("people.csv", "age,name\n41,ada\n7,tim\n")
    bench.put("other.csv", task_id="other")
    ran = []
    item = Input(
        name="table",
        uri=bench.uri("people.csv"),
        suite=SuiteSource.from_file(suite()),
        quarantine=bench.uri("other.csv"),
    )

    with pytest.raises(SecureMLError) as caught:
        bench.run(plan(inputs=[item]), ran.append)

    assert (caught.value.why, ran) == ("address_taken", [])
