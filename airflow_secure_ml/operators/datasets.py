"""Validation as a visible step, with the verdict that `expect=` would give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.securing.acting import SecureMLOperator, dag_folder, input_of, plan_of
from airflow_secure_ml.securing.addresses import suite_source

if TYPE_CHECKING:
    from airflow_secure_ml.deployment import Deployment
    from airflow_secure_ml.services.run_plan import Plan


class ValidateDatasetOperator(SecureMLOperator):
    """Hold a data set against expectations, and sign that it passed.

    A task that reads these very bytes with the same suite takes the signed verdict and does not
    check again. With `quarantine`, rows that fail are sealed there and the data set stays as it
    is: nothing is signed then, and tasks that read it name suite and quarantine too.
    Returns a Reference; its `rows` is the number of rows that passed.

    Args:
        dataset: Address, Reference or Asset of a CSV or Parquet file.
        expect: A suite: a JSON file's path from the DAG file's folder, or a callable.
        quarantine: Address for rows that fail; None: a failing row fails the task.
    """

    template_fields: Sequence[str] = ("dataset", "expect", "quarantine")

    def __init__(
        self, *, dataset: Any, expect: Any, quarantine: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dataset, self.quarantine = dataset, quarantine
        self.expect = str(expect) if isinstance(expect, Path) else expect

    def execute(self, context: Any) -> dict[str, Any]:
        """Open, check, sign; a refusal is not retried."""

        def plan(here: Deployment) -> Plan:
            quarantine = None if self.quarantine is None else here.canonical(self.quarantine)
            dataset = input_of(
                here,
                context,
                "dataset",
                self.dataset,
                sealed=False,
                suite=suite_source(self.expect, dag_folder(context)),
                quarantine=quarantine,
            )
            return plan_of(context, inputs=(dataset,))

        with self.secured(context, plan, {"dataset": "read"}) as run:
            run.open()
            run.publish()
            return self.announce(context, run.vouch_for("dataset"))
