"""What operators and sensors about keys do alike: record the task, look at what they are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.recording import run_of, sink_of_this_process
from airflow_secure_ml.securing.acting import SecureMLOperator, plan_of, surfacing
from airflow_secure_ml.securing.execution import Ours, task_log
from airflow_secure_ml.services.desk import Work


class KeyOperator(SecureMLOperator):
    """The base of those that are about keys: they return records and no Reference."""

    _secure_ml_returns_reference = False

    @contextlib.contextmanager
    def acting(self, airflow_context: Any) -> Iterator[tuple[Deployment, Work]]:
        """The deployment, and a desk and a journal; the task's intent and outcome are recorded."""
        from airflow_secure_ml.services.vouching import recorded

        with surfacing():
            here, run = deployment(), run_of(airflow_context["ti"])
            work = here.work(
                plan_of(airflow_context),
                sink=sink_of_this_process(run, program="task"),
                run=run,
                still_ours=Ours(airflow_context["ti"]),
                tell=task_log.info,
            )
            with recorded(work, type(self).__name__):
                yield here, work


def key_name(given: Any) -> str:
    """A key's name from a rendered field; ConfigurationError if it is none."""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(f"key: expected a key's name, found {type(given).__name__}")
    return given
