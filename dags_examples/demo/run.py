"""Run the examples under a real Airflow and check what came out: `make demo`.

Everything lies in .demo, inside the project, or in --place. How it ends: `command`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from dags_examples.demo.airflow_process import RunningAirflow
from dags_examples.demo.command import ROOT, USER, run_command
from dags_examples.demo.expected import EXPECTED
from dags_examples.demo.progress import Progress
from dags_examples.demo.runs import run_examples
from dags_examples.demo.summary import Summary, summarize

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    said = "Run the examples under a real Airflow and check what came out."
    return run_command(said, ROOT / ".demo", demo, arguments)


def demo(place: Path, progress: Progress, stack: ExitStack) -> tuple[Summary, RunningAirflow]:
    """Start Airflow, run 01 and 02, and hold what came out against what should."""
    lake, rules = place / "lake", place / "rules.toml"
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "health").mkdir(parents=True)
    (lake / "refusals").mkdir()
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
    with progress.step("starting Airflow"):
        stack.enter_context(airflow)
    ran = run_examples(airflow, airflow.api(USER), EXPECTED, progress)
    return summarize(ran.tasks, ran.events, ran.trail, EXPECTED), airflow


def _make_keys(airflow: RunningAirflow) -> None:
    airflow.run(["secure-ml", "keys", "init"], "making keys")
    for name, purpose in KEYS:
        airflow.run(["secure-ml", "keys", "create", name, "--for", purpose], "making keys")


if __name__ == "__main__":
    sys.exit(main())
