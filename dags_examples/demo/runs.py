"""Run the examples in a running Airflow, and learn from it and from the trail how they ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dags_examples.demo.airflow_api import ENDED, AirflowApi
from dags_examples.demo.airflow_process import RunningAirflow
from dags_examples.demo.kept_programs import ServerFailedError
from dags_examples.demo.progress import Progress
from dags_examples.demo.summary import Expected, TaskFact, TrailFact, TrailState
from dags_examples.demo.trail import read_trail

READ_S, RUN_S, RECORD_S, POLL_S = 120.0, 420.0, 30.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How runs ended, from two sides.

    Attributes:
        tasks: Every task instance, by Airflow's account.
        events: Every event of the trail that names one.
        trail: The state of the whole trail.
    """

    tasks: Sequence[TaskFact]
    events: Sequence[TrailFact]
    trail: TrailState


def run_examples(
    airflow: RunningAirflow, api: AirflowApi, expected: Expected, progress: Progress
) -> Ran:
    """Run the expected DAGs and learn what came out."""
    runs = Runs(airflow=airflow, api=api, expected=expected, tick=progress.tick)
    with progress.step("reading the examples"):
        runs.wait_for_dags()
    with progress.step("running the examples"):
        runs.start()
        tasks = runs.wait()
    with progress.step("deriving the audit trail anew"):
        home = airflow.home / "secure_ml"
        events, trail = read_trail(
            home / "audit",
            home / "signer",
            recorded=[
                task.ti for task in tasks if (task.dag, task.task) not in expected.not_secured
            ],
            within_s=RECORD_S,
            tick=progress.tick,
        )
    return Ran(tasks=tasks, events=events, trail=trail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of some DAGs.

    Attributes:
        airflow: Where they run.
        api: Its REST API.
        expected: What should come of them: its DAGs are waited for.
        tick: Told now and then what is waited for.
    """

    airflow: RunningAirflow
    api: AirflowApi
    expected: Expected
    tick: Callable[[str], None]

    def wait_for_dags(self) -> None:
        """Return when each DAG was read; ServerFailedError if one cannot be."""
        deadline = time.monotonic() + READ_S
        while missing := set(self.expected.runs) - self.api.dag_ids():
            self.airflow.check()
            if broken := self.api.import_errors():
                raise ServerFailedError("\n".join(broken))
            if time.monotonic() > deadline:
                raise ServerFailedError(f"DAGs that were not read: {', '.join(sorted(missing))}")
            self.tick(", ".join(sorted(missing)))
            time.sleep(POLL_S)

    def start(self) -> None:
        """Let the DAGs run that need not wait, and start a run of those that nothing else does."""
        for dag in self._first:
            self.api.unpause(dag)
        for dag in self.expected.started:
            self.api.trigger(dag)

    def wait(self) -> list[TaskFact]:
        """Until every expected run ended, or nothing more can come of it."""
        tasks = self._wait(self._first)
        if not self.expected.last or any(task.state == "failed" for task in tasks):
            return tasks
        for dag in self.expected.last:
            self.api.unpause(dag)
        return self._wait(list(self.expected.runs))

    @property
    def _first(self) -> list[str]:
        return [dag for dag in self.expected.runs if dag not in self.expected.last]

    def _wait(self, dags: Sequence[str]) -> list[TaskFact]:
        deadline = time.monotonic() + RUN_S
        while True:
            self.airflow.check()
            states = {dag: self.api.runs(dag) for dag in dags}
            tasks = self._facts(states)
            ended = sum(task.state in (*ENDED, "upstream_failed", "skipped") for task in tasks)
            self.tick(f"{ended} of {len(tasks)} tasks")
            # A refusal is never tried again, so this is not one.
            is_tried_again = any(
                task.state == "up_for_retry" and (task.dag, task.task) in self.expected.refusals
                for task in tasks
            )
            if self._is_over(states) or is_tried_again or time.monotonic() > deadline:
                return tasks
            time.sleep(POLL_S)

    def _is_over(self, states: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether every run ended, and no more will come."""
        if any(state not in ENDED for runs in states.values() for state in runs.values()):
            return False
        # What follows from a run that failed never comes: the summary says so.
        may_fail = {dag for dag, _ in self.expected.refusals}
        has_failed = any(
            "failed" in runs.values() for dag, runs in states.items() if dag not in may_fail
        )
        return has_failed or all(
            len(runs) >= self.expected.runs[dag] for dag, runs in states.items()
        )

    def _facts(self, states: Mapping[str, Mapping[str, str]]) -> list[TaskFact]:
        return [
            TaskFact(
                ti=one.ti,
                dag=one.dag,
                run=one.run,
                task=one.task,
                state=one.state,
                try_number=one.try_number,
            )
            for dag, runs in states.items()
            for run in runs
            for one in self.api.tries(dag, run)
        ]
