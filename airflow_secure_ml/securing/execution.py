"""Run a wrapped task: plan, open, bind, body, publish; and what each way out of the body means.

Source: SECURE_TASK, "Order, whatever happens" and "What leaves the body".
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import (
    ConfigurationError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.recording import run_of, sink_of_this_process
from airflow_secure_ml.securing import leased_connections
from airflow_secure_ml.securing.addresses import make_plan
from airflow_secure_ml.securing.binding import bound_fields
from airflow_secure_ml.securing.declaration import ENDED, MARK, Declaration
from airflow_secure_ml.securing.leaving import Guarded
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.services.run_plan import Plan
from airflow_secure_ml.services.secured_run import Ending, SecuredRun

task_log = logging.getLogger("airflow.task.secure_ml")

RUN = "_secure_ml_run"
_NOTED = "secure_ml_noted"


def run_secured(
    operator: Any,
    context: Any,
    body: Callable[[], Any],
    noted: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Run `body` between opening its inputs and publishing its outputs.

    Args:
        operator: The task.
        context: Airflow's.
        body: What runs.
        noted: What was noted before it was deferred, if it was (`taken_notes`).

    Returns:
        What the body returned, unchanged.

    Raises:
        SecureMLError: A refusal or a failure of the package, as a class that Airflow does not
            retry unless another system was unavailable.
        BaseException: Whatever the body raised, unchanged.
    """
    declaration: Declaration = getattr(type(operator), MARK)
    if declaration.conn_ids:
        leased_connections.deny(declaration.conn_ids)
    try:
        run = begin(declaration, operator, context, noted)
    except SecureMLError as error:
        raise surfaced(error) from error.__cause__
    object.__setattr__(operator, RUN, run)
    try:
        with run, contextlib.ExitStack() as before_leaving:
            before_leaving.push(functools.partial(on_leaving, run))
            return _run_body(run, operator, context, body)
    except SecureMLError as error:
        # The body's own exceptions pass unchanged, also those it got from this package.
        if run.raised_by_body(error):
            raise
        raise surfaced(error) from error.__cause__
    finally:
        leased_connections.allow_others(declaration.conn_ids)


def begin(
    declaration: Declaration,
    operator: Any,
    context: Any,
    noted: Mapping[str, str] = MappingProxyType({}),
) -> SecuredRun:
    """A secured run for a task, its plan made and its intent not yet recorded."""
    here, run = deployment(), run_of(context["ti"])
    return here.secured_run(
        lambda: replace(_plan(declaration, operator, context, here), noted=noted),
        reads=list(declaration.reads),
        writes=list(declaration.writes),
        leases=[lease.path for lease in declaration.leases.values()],
        operator=type(operator).__name__,
        sink=sink_of_this_process(run, program="task"),
        run=run,
        still_ours=Ours(context["ti"]),
        tell=task_log.info,
    )


def _plan(declaration: Declaration, operator: Any, context: Any, here: Deployment) -> Plan:
    """As `make_plan`; ConfigurationError if a credential takes the login of its own source."""
    for name, lease in declaration.leases.items():
        source = lease.vault_conn_id or here.settings.vault_conn_id
        if source in declaration.conn_ids:
            raise ConfigurationError(
                f"credentials[{name!r}]: connection {source!r} leads to Vault, and would have no "
                "login of its own in this task; give the credential another name or conn_id"
            )
    return make_plan(declaration, operator, context, here.canonical)


def _run_body(run: SecuredRun, operator: Any, context: Any, body: Callable[[], Any]) -> Any:
    value, leaving = None, None
    bound = run.open()
    guarded = Guarded(tuple(text for leased in run.leased for text in leased.granted.secrets))
    with (
        leased_connections.lent(run.leased),
        guarded.pushing(context["ti"]),
        bound_fields(operator, bound),
    ):
        try:
            value = body()
        except BaseException as error:
            if guarded.refused(error):
                raise
            guarded.check_left(error)
            if not _means_success(error):
                _must_resume(operator, error)
                _take_notes_along(run, error)
                _check_trigger(run, error)
                run.end(_ending(error), error)
                raise
            leaving = error
    guarded.check("returned", value)
    guarded.check_announced(context)
    _check_returned(run, value)
    stop_timer()
    references = run.publish()
    try:
        _announce(operator, context, references)
    except BaseException as error:
        run.end(Ending.UNANNOUNCED, error)
        raise
    if leaving is not None:
        raise leaving
    return value


def _means_success(error: BaseException) -> bool:
    from airflow.sdk.exceptions import DagRunTriggerException, DownstreamTasksSkipped

    return isinstance(error, (DownstreamTasksSkipped, DagRunTriggerException))


def _must_resume(operator: Any, error: BaseException) -> None:
    """Have a trigger wake the task: one that ends it itself leaves nobody to verify or publish."""
    deferred = cast("Any", error)
    if not getattr(getattr(deferred, "trigger", None), "end_from_trigger", False):
        return
    deferred.trigger.end_from_trigger = False
    # Such an operator may name a method that it does not have, since nobody would call it.
    if not hasattr(operator, deferred.method_name):
        deferred.method_name = ENDED


def _take_notes_along(run: SecuredRun, error: BaseException) -> None:
    """Have a body that works elsewhere be held, when it resumes, to what lay there before it."""
    from airflow.sdk.exceptions import TaskDeferred

    if isinstance(error, TaskDeferred) and run.noted:
        error.kwargs = {**(error.kwargs or {}), _NOTED: dict(run.noted)}


def taken_notes(
    next_kwargs: dict[str, Any] | None,
) -> tuple[dict[str, Any] | None, Mapping[str, str]]:
    """A resumed method's own arguments, and what was noted before it was deferred."""
    if not next_kwargs or _NOTED not in next_kwargs:
        return next_kwargs, {}
    left = {name: value for name, value in next_kwargs.items() if name != _NOTED}
    return left, {str(name): str(value) for name, value in dict(next_kwargs[_NOTED]).items()}


def _ending(error: BaseException) -> Ending:
    from airflow.sdk.exceptions import (
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskAwaitingInput,
        TaskDeferred,
    )

    if isinstance(error, (TaskDeferred, TaskAwaitingInput, AirflowRescheduleException)):
        return Ending.PAUSED
    if isinstance(error, AirflowSkipException):
        return Ending.SKIPPED
    if isinstance(error, AirflowTaskTimeout):
        return Ending.TIMED_OUT
    return Ending.RAISED


def _check_trigger(run: SecuredRun, error: BaseException) -> None:
    """Refuse to wait for a trigger that needs a login which ends when the task pauses.

    Raises:
        ConfigurationError: Which connection, and what to do.
    """
    trigger = getattr(error, "trigger", None)
    if trigger is None or not hasattr(trigger, "serialize"):
        return
    conn_ids = [leased.request.conn_id for leased in run.leased]
    needed = leased_connections.needs_leased(trigger, conn_ids)
    if needed is not None:
        raise ConfigurationError(
            f"{type(trigger).__name__} uses connection {needed!r}, whose leased login ends when "
            "the task pauses, and a trigger runs in another process; set deferrable=False, so "
            "that the task itself waits"
        )


def _check_returned(run: SecuredRun, value: Any) -> None:
    """Refuse a returned dict that would overwrite a reference in XCom."""
    if isinstance(value, Mapping):
        for name in run.output_names:
            if name in value:
                raise ConfigurationError(
                    f"the body returned a dict with the key {name!r}, which is the XCom key of "
                    f"writes[{name!r}]; rename one of them"
                )


def _announce(operator: Any, context: Any, references: Mapping[str, Mapping[str, Any]]) -> None:
    """References by XCom, and in the events of the assets that the author named."""
    declaration: Declaration = getattr(type(operator), MARK)
    for name, reference in references.items():
        context["ti"].xcom_push(key=name, value=dict(reference))
        asset = declaration.writes[name].asset
        if asset is not None:
            context["outlet_events"][asset].extra["secure_ml"] = dict(reference)


def stop_timer() -> None:
    """Take away what is left of execution_timeout: publishing and cleaning are not cut."""
    # execution_timeout strikes as an exception from a signal: never between two publishes.
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def on_leaving(run: SecuredRun, kind: Any, error: BaseException | None, trace: Any) -> None:
    """What comes right before a run is left, as the exit of an ExitStack.

    A timeout is recorded as one wherever it struck: before the body, too.
    """
    from airflow.sdk.exceptions import AirflowTaskTimeout

    stop_timer()
    if isinstance(error, AirflowTaskTimeout):
        run.end(Ending.TIMED_OUT, error)


def killed(operator: Any) -> None:
    """Airflow asked the task to stop: nothing of it is published from here on."""
    run: SecuredRun | None = getattr(operator, RUN, None)
    if run is not None:
        run.forbid_publishing()


class Ours:
    """Asks whether this process still is the try that Airflow believes to be running.

    A supervisor that was killed leaves its task running as an orphan, and a cleared task runs
    anew elsewhere; neither may publish.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._parent = os.getppid()

    def __call__(self) -> None:
        """Return if it does.

        Raises:
            PolicyError: It does not (try_replaced).
        """
        if os.getppid() != self._parent:
            raise PolicyError(
                "the supervisor of this try is gone, so another try may be running; nothing was "
                "published",
                why="try_replaced",
            )
        ti = self._ti
        states = _states_by_airflow(ti)
        found = states.get(ti.run_id, {})
        state = next(iter(found.values()), None)
        # No state is no permission: a cleared try has none until it runs anew.
        if str(state) != "running":
            raise PolicyError(
                f"Airflow says that this try is {state}, not running; nothing was published",
                why="try_replaced",
            )


def _states_by_airflow(ti: Any) -> Mapping[str, Any]:
    """What Airflow says of this task instance; ServiceUnavailableError if it says nothing."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        states: Mapping[str, Any] = ti.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
    except (AirflowRuntimeError, OSError, EOFError) as error:
        raise ServiceUnavailableError(
            "Airflow does not say whether this try is still the one that runs, so nothing was "
            "published; try again when its API server answers",
            service="airflow",
            action="ask for the try's state",
            reason=type(error).__name__,
        ) from error
    return states
