"""What every operator and sensor of this package does alike: plan, record, announce, surface."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.recording import run_of, sink_of_this_process
from airflow_secure_ml.securing.addresses import (
    check_digest,
    check_signers,
    require_references,
    resolve,
)
from airflow_secure_ml.securing.binding import PINNED, is_written
from airflow_secure_ml.securing.execution import Ours, on_leaving, task_log
from airflow_secure_ml.securing.options import is_reference
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.run_plan import Input, Output, Pin, Plan
from airflow_secure_ml.services.secured_run import SecuredRun


class SecureMLOperator(BaseOperator):
    """The base of this package's operators and sensors; nothing is read in a constructor."""

    _secure_ml_recorded = True
    _secure_ml_returns_reference = True

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, jinja_env: Any, seen_oids: Any
    ) -> None:
        if parent is self:
            written = (name for name in template_fields if is_written(getattr(self, name, None)))
            object.__setattr__(self, PINNED, frozenset(written))
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def secured(
        self, airflow_context: Any, plan: Callable[[Deployment], Plan], names: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[SecuredRun]:
        """A run with inputs and outputs in scratch.

        Args:
            airflow_context: Airflow's context of this try.
            plan: Makes the plan; its refusals are recorded.
            names: Names to `read` or `write`, for the intent.
        """
        here, run = deployment(), run_of(airflow_context["ti"])
        made = here.secured_run(
            lambda: plan(here),
            reads=[name for name, kind in names.items() if kind == "read"],
            writes=[name for name, kind in names.items() if kind == "write"],
            operator=type(self).__name__,
            sink=sink_of_this_process(run, program="task"),
            run=run,
            still_ours=Ours(airflow_context["ti"]),
            tell=task_log.info,
        )
        return _Left(made)

    @contextlib.contextmanager
    def recorded(self, airflow_context: Any, item: Callable[[Deployment], Input]) -> Iterator[Work]:
        """A run that opens nothing: a desk and a journal, its intent and outcome recorded."""
        from airflow_secure_ml.services.vouching import recorded

        with surfacing():
            here, run = deployment(), run_of(airflow_context["ti"])
            sink = sink_of_this_process(run, program="task")

            def work(*inputs: Input) -> Work:
                plan = plan_of(airflow_context, inputs=inputs)
                ours = Ours(airflow_context["ti"])
                return here.work(plan, sink=sink, run=run, still_ours=ours, tell=task_log.info)

            try:
                made = work(item(here))
            except SecureMLError:
                # A forged reference, say: no input was named yet, and it is recorded all the same.
                with recorded(work(), type(self).__name__):
                    raise
            with recorded(made, type(self).__name__):
                yield made

    def verified(self, airflow_context: Any, item: Callable[[Deployment], Input]) -> dict[str, Any]:
        """Verify an artifact without opening it; returns a Reference that pins its bytes."""
        from airflow_secure_ml.services.vouching import reference_to, verify_input

        with self.recorded(airflow_context, item) as work:
            found = work.plan.inputs[0]
            verified = verify_input(work, found)
            signers = sorted({ref.name for ref in verified.signers})
            event = work.journal.intent or ""
            reference = reference_to(found, verified.manifest, event, signers)
            return self.announce(airflow_context, reference)

    def announce(self, airflow_context: Any, reference: Mapping[str, Any]) -> dict[str, Any]:
        """Put a Reference into the events of the assets in `outlets`, and return it."""
        from airflow.sdk import Asset

        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                airflow_context["outlet_events"][outlet].extra["secure_ml"] = dict(reference)
        return dict(reference)


class _Left(contextlib.AbstractContextManager[SecuredRun]):
    """A secured run whose errors leave it as Airflow should see them."""

    def __init__(self, run: SecuredRun) -> None:
        self._run = run
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> SecuredRun:
        self._stack.enter_context(surfacing())
        self._stack.enter_context(self._run)
        self._stack.push(functools.partial(on_leaving, self._run))
        return self._run

    def __exit__(self, *exception: Any) -> bool | None:
        return self._stack.__exit__(*exception)


@contextlib.contextmanager
def surfacing() -> Iterator[None]:
    """Raise our errors as classes that Airflow does not retry, unless a retry may help."""
    try:
        yield
    except SecureMLError as error:
        raise surfaced(error) from error.__cause__


def plan_of(
    airflow_context: Any, *, inputs: tuple[Input, ...] = (), outputs: tuple[Output, ...] = ()
) -> Plan:
    """A plan for a task."""
    run = run_of(airflow_context["ti"])
    return Plan(
        inputs=inputs,
        outputs=outputs,
        dag_id=run.dag,
        task_id=run.task or "",
        run_id=run.run,
        map_index=run.map_index,
    )


def input_of(
    here: Deployment,
    airflow_context: Any,
    name: str,
    given: Any,
    *,
    signed_by: str | Collection[str] | None = None,
    **options: Any,
) -> Input:
    """An input from an operator's rendered field.

    Raises:
        SecureMLError: Not an address, a Reference or an announced asset.
    """
    if name in getattr(airflow_context["task"], PINNED, ()):
        require_references(name, [given])
    address, pin = _address(name, given, airflow_context)
    one = (signed_by,) if isinstance(signed_by, str) else signed_by
    check_signers(name, one)
    return Input(
        name=name,
        uri=here.canonical(address),
        signed_by=None if one is None else tuple(one),
        pin=pin,
        **options,
    )


def _address(name: str, given: Any, airflow_context: Any) -> tuple[str, Pin | None]:
    # An author may pin bytes by hand: an address, and the digest that it must have.
    if isinstance(given, Mapping) and not is_reference(given):
        if set(given) != {"uri", "digest"} or not all(isinstance(v, str) for v in given.values()):
            raise FormatError(f"{name}: expected {{'uri': …, 'digest': 'sha256:…'}} and no more")
        check_digest(name, given["digest"])
        return given["uri"], Pin(digest=given["digest"], by="author")
    return resolve(name, given, airflow_context)


def dag_folder(airflow_context: Any) -> Path:
    """Where suites' relative paths begin: the folder of the DAG's file."""
    return Path(os.path.dirname(airflow_context["dag"].fileloc))
