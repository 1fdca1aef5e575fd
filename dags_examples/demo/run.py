"""Run the examples under a real Airflow and check what came out: `make demo`.

Everything lies in .demo, inside the project, or in --place. On a terminal Airflow stays up until
Ctrl-C; without one it stops at once. Exit status 0: all came out as `expected` says. 1: it did not.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from dags_examples.demo import expected
from dags_examples.demo.airflow_api import ENDED, AirflowApi, NoAnswerError
from dags_examples.demo.airflow_process import AirflowFailedError, RunningAirflow
from dags_examples.demo.progress import Progress
from dags_examples.demo.summary import Expected, Summary, TaskFact, summarize
from dags_examples.demo.trail import read_trail

ROOT = Path(__file__).resolve().parents[2]
PAGE = "/plugin/security-audit"
USER = "admin"
READ_S, RUN_S, RECORD_S, POLL_S = 120.0, 420.0, 30.0, 0.5
# Made beside those of `keys init`: one for models, one that releases, one that others use.
KEYS = (("models", "wrap"), ("release", "sign"), ("payroll", "wrap"))
RULES = """\
# Which key seals where. First match first; what is not listed may do as it likes.
version = "demo"

[[data]]
prefix = "{lake}/refusals"
key = "data"

[[data]]
prefix = "{lake}/health/model.skops"
key = "models"
readers = ["secure_training", "score_visits"]
"""


class StoppedError(Exception):
    """Somebody wants it to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", type=Path, default=ROOT / ".demo", help="where everything lies")
    place = parser.parse_args(arguments).place.resolve()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with _only_one(place):
            return _run(place, Progress())
    except (StoppedError, KeyboardInterrupt):
        print("\nstopped")
        return 130
    except (AirflowFailedError, NoAnswerError) as error:
        print(f"\nthe demo could not finish: {error}", file=sys.stderr)
        return 1


def _stop(number: int, frame: object) -> NoReturn:
    raise StoppedError


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    place.mkdir(mode=0o700, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AirflowFailedError(f"another demo runs in {place}; stop it first") from None
        yield


def _run(place: Path, progress: Progress) -> int:
    began_s = time.monotonic()
    lake = place / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "health").mkdir(parents=True)
    (lake / "refusals").mkdir()
    rules = place / "rules.toml"
    rules.write_text(RULES.format(lake=lake))
    airflow = RunningAirflow(
        home=place / "airflow",
        dags=ROOT / "dags_examples",
        settings={
            "SECURE_ML_DEMO_DATA": str(lake),
            "AIRFLOW__SECURE_ML__POLICY_FILE": str(rules),
        },
        users={USER: "admin"},
        tick=progress.tick,
    )
    airflow.prepare = lambda environment: _make_keys(airflow)
    try:
        with progress.step("starting Airflow"):
            airflow.__enter__()
        summary = _results(airflow, progress)
        _print(summary, airflow, time.monotonic() - began_s)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _stay(airflow)
    finally:
        _ignore_signals()
        with progress.step("stopping Airflow"):
            airflow.stop()
    return 1 if summary.problems else 0


def _make_keys(airflow: RunningAirflow) -> None:
    airflow.run(["secure-ml", "keys", "init"], "making keys")
    for name, purpose in KEYS:
        airflow.run(["secure-ml", "keys", "create", name, "--for", purpose], "making keys")


def _results(airflow: RunningAirflow, progress: Progress) -> Summary:
    api = airflow.api(USER)
    with progress.step("reading the examples"):
        _wait_for_dags(api, airflow, progress)
    for dag in expected.RUNS:
        api.unpause(dag)
    with progress.step("running the examples"):
        for dag in expected.STARTED:
            api.trigger(dag)
        tasks = _wait_for_runs(api, airflow, progress)
    with progress.step("deriving the audit trail anew"):
        home = airflow.home / "secure_ml"
        events, trail = read_trail(
            home / "audit",
            home / "signer",
            recorded=[
                task.ti for task in tasks if (task.dag, task.task) not in expected.NOT_SECURED
            ],
            within_s=RECORD_S,
            tick=progress.tick,
        )
    return summarize(
        tasks,
        events,
        trail,
        Expected(
            runs=expected.RUNS,
            refusals=expected.REFUSALS,
            not_secured=expected.NOT_SECURED,
            counts=expected.COUNTS,
        ),
    )


def _wait_for_dags(api: AirflowApi, airflow: RunningAirflow, progress: Progress) -> None:
    deadline = time.monotonic() + READ_S
    while missing := set(expected.RUNS) - api.dag_ids():
        airflow.check()
        if broken := api.import_errors():
            raise AirflowFailedError("\n".join(broken))
        if time.monotonic() > deadline:
            raise AirflowFailedError(f"DAGs that were not read: {', '.join(sorted(missing))}")
        progress.tick(", ".join(sorted(missing)))
        time.sleep(POLL_S)


def _wait_for_runs(api: AirflowApi, airflow: RunningAirflow, progress: Progress) -> list[TaskFact]:
    """Until every expected run ended, or nothing more can come of it."""
    deadline = time.monotonic() + RUN_S
    while True:
        airflow.check()
        states = {dag: api.runs(dag) for dag in expected.RUNS}
        tasks = _facts(api, states)
        ended = sum(task.state in (*ENDED, "upstream_failed", "skipped") for task in tasks)
        progress.tick(f"{ended} of {len(tasks)} tasks")
        # A refusal is never tried again, so this is not one.
        is_tried_again = any(
            task.state == "up_for_retry" for task in tasks if _should_be_refused(task)
        )
        if _is_over(states) or is_tried_again or time.monotonic() > deadline:
            return tasks
        time.sleep(POLL_S)


def _should_be_refused(task: TaskFact) -> bool:
    return (task.dag, task.task) in expected.REFUSALS


def _is_over(states: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether every run ended, and no more will come."""
    if any(state not in ENDED for runs in states.values() for state in runs.values()):
        return False
    # What follows from a run that failed never comes: the summary says so.
    return "failed" in states["secure_training"].values() or all(
        len(states[dag]) >= runs for dag, runs in expected.RUNS.items()
    )


def _facts(api: AirflowApi, states: Mapping[str, Mapping[str, str]]) -> list[TaskFact]:
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
        for one in api.tries(dag, run)
    ]


def _print(summary: Summary, airflow: RunningAirflow, seconds: float) -> None:
    print(f"\nWhat came out, after {seconds:.0f} s:\n")
    for line in summary.lines:
        print(f"  {line}")
    if summary.problems:
        print("\nNOT AS EXPECTED:\n")
        for problem in summary.problems:
            print(f"  {problem}")
    else:
        print("\nEverything came out as it should.")
    print(f"\n  page      {airflow.url}{PAGE}")
    print(f"  user      {USER}\n  password  {airflow.passwords[USER]}\n", flush=True)


def _stay(airflow: RunningAirflow) -> None:
    print("Airflow stays up; Ctrl-C stops it.", flush=True)
    try:
        while True:
            airflow.check()
            time.sleep(POLL_S)
    except (KeyboardInterrupt, StoppedError):
        print(flush=True)


def _ignore_signals() -> None:
    """A second Ctrl-C must not leave half of it running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
