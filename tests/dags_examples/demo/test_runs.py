"""Which DAG may run when, and when no more can come of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from dags_examples.demo import runs
from dags_examples.demo.airflow_api import TaskTry
from dags_examples.demo.runs import Runs
from dags_examples.demo.summary import Expected


class Airflow:
    def check(self):
        """It runs."""


@dataclass
class Api:
    """An Airflow whose runs end as soon as somebody looks twice."""

    ends: dict[str, str]
    asked: list[str] = field(default_factory=list)
    looked: dict[str, int] = field(default_factory=dict)

    def unpause(self, dag):
        self.asked.append(f"unpause {dag}")
        if dag == "rotate":
            self.looked[dag] = 0

    def trigger(self, dag):
        self.asked.append(f"trigger {dag}")
        self.looked[dag] = 0

    def runs(self, dag):
        if dag not in self.looked:
            return {}
        self.looked[dag] += 1
        if self.looked[dag] == 2:
            self.asked.append(f"end {dag}")
        return {"r1": self.ends[dag] if self.looked[dag] > 1 else "running"}

    def tries(self, dag, run):
        state = self.runs(dag)[run]
        return [
            TaskTry(
                ti=dag, dag=dag, run=run, task="t", map_index=-1, state=state, try_number=1,
                rendered={},
            )
        ]  # fmt: skip


EXPECTED = Expected(
    started=("train",),
    last=("rotate",),
    runs={"train": 1, "rotate": 1},
    refusals={},
    not_secured=frozenset(),
    counts={},
)


@pytest.fixture
def ran(monkeypatch):
    monkeypatch.setattr(runs, "POLL_S", 0)

    def run(**ends):
        api = Api(ends)
        both = Runs(airflow=Airflow(), api=api, expected=EXPECTED, tick=lambda text: None)
        both.start()
        return api.asked, [(task.dag, task.state) for task in both.wait()]

    return run


def test_what_comes_last_may_run_only_when_the_others_have_ended(ran):
    asked, tasks = ran(train="success", rotate="success")

    assert asked == ["unpause train", "trigger train", "end train", "unpause rotate", "end rotate"]
    assert tasks == [("train", "success"), ("rotate", "success")]


def test_what_comes_last_never_runs_if_the_others_failed(ran):
    asked, tasks = ran(train="failed", rotate="success")

    assert asked == ["unpause train", "trigger train", "end train"]
    assert tasks == [("train", "failed")]
