"""What the fixture `secure_ml` hands out: put objects, run a task, look at what happened.

The task runs through the very code that runs it in a worker; only keys, objects and the trail are
in memory.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.deployment import use_deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.services.run_plan import Input, Output, Plan
from airflow_secure_ml.services.secured_run import SecuredRun
from airflow_secure_ml.services.statement_files import statement_folder
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.memory_deployment import MemoryDeployment
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryKeySystem
from airflow_secure_ml.testing.task_context import RUN_ID, Announced, TaskInstance, make_context

DS = "2026-01-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One recorded fact.

    Attributes:
        act: The activity, such as `object.open`.
        phase: intent, outcome or seen.
        outcome: ok, refused, failed; None for an intent.
        why: A code with refused and failed.
        object: What it was about.
        more: Further facts.
    """

    act: str
    phase: str
    outcome: str | None
    why: str | None
    object: Mapping[str, Any]
    more: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """How one run of a task went.

    Attributes:
        returned: What the body returned; None if it raised.
        error: What left the task as an exception; None: it succeeded.
        refused: Whether the package said no.
        body_ran: Whether the body's turn came.
        writes: A Reference for each output, by name.
        xcom: Everything that was pushed, by key.
    """

    returned: Any
    error: BaseException | None
    refused: bool
    body_ran: bool
    writes: Mapping[str, Mapping[str, Any]]
    xcom: Mapping[str, Any]


class SecureMLTester:
    """Keys, objects and a trail in memory; a context manager that puts the settings back."""

    def __init__(self) -> None:
        self._here = MemoryDeployment(
            parse_settings(
                {
                    "audit_dir": "/nonexistent/audit",
                    "audit_signer_dir": "/nonexistent/signer",
                    "key_system": "local:///nonexistent/keyring.json",
                }
            )
        )
        self._announced = Announced()

    def __enter__(self) -> Self:
        use_deployment(self._here)
        use_sink(self._here.audit)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        use_sink(None)
        use_deployment(None)

    @property
    def keys(self) -> MemoryKeySystem:
        """The key system: `create`, `rotate`, `disable`, `destroy`. It begins with the defaults."""
        return self._here.memory_keys

    @property
    def events(self) -> list[Event]:
        """What the tasks recorded, in order; `put` and `open` record nothing."""
        return [_event(fact) for fact in self._here.audit.facts]

    @property
    def leased(self) -> list[str]:
        """Leases that are held: empty again once the task has ended."""
        return list(self._here.memory_credentials.held)

    def lease(self, path: str, *, ttl_s: int | None = 900, **fields: str) -> None:
        """Let tasks lease `fields` at `path`, as Vault would hand them out.

        Args:
            path: As `secure(credentials=…)` names it, such as `database/creds/reader`.
            ttl_s: The lease's term; None: a secret that is not leased, as of KV.
            **fields: Such as `username` and `password`.
        """
        self._here.memory_credentials.put(path, fields, ttl_s)

    def put(
        self,
        address: str,
        data: bytes,
        *,
        key: str = "data",
        sealed: bool = True,
        signed_by: str | None = "pipeline",
        context: Mapping[str, str] | None = None,
    ) -> None:
        """Place an object, as a secured task of another DAG would have left it.

        Args:
            address: Of any scheme.
            data: What it holds.
            key: The wrap key; made if it is not there.
            sealed: False: plain.
            signed_by: The sign key, made if it is not there; None: nobody signed it.
            context: Pairs added to the encryption context.
        """
        here = self._here
        uri = here.canonical(address)
        signer = signed_by or here.settings.signing_key
        if key not in here.memory_keys.keyring.keys:
            here.memory_keys.create(key, "wrap")
        if signer not in here.memory_keys.keyring.keys:
            here.memory_keys.create(signer, "sign")
        here.objects.delete(uri)
        here.objects.delete(statement_folder(uri))
        item = Output(name="put", uri=uri, key=key, sealed=sealed, context=context or {})
        plan = Plan(outputs=(item,), dag_id="put", task_id="put", run_id=RUN_ID)
        before, here.settings = here.settings, replace(here.settings, signing_key=signer)
        try:
            with self._silently(plan) as run:
                target = run.open()["put"]
                assert isinstance(target, Path)
                target.write_bytes(data)
                run.publish()
        finally:
            here.settings = before
        if signed_by is None:
            here.objects.delete(statement_folder(uri))

    def open(self, address: str) -> bytes:
        """What a file holds in plain, whoever signed it."""
        here = self._here
        known = here.memory_keys.keyring.keys.values()
        signers = tuple(key.name for key in known if key.purpose == "sign")
        item = Input(name="open", uri=here.canonical(address), signed_by=signers, sealed=False)
        with self._silently(Plan(inputs=(item,))) as run:
            path = run.open()["open"]
            assert isinstance(path, Path)
            data = path.read_bytes()
            run.publish()
        return data

    def flip_a_bit(self, address: str) -> None:
        """Alter an object's last byte, as somebody with write access could."""
        uri = self._here.canonical(address)
        data = bytearray(self._here.objects.objects[uri])
        data[-1] ^= 1
        self._here.objects.put(uri, bytes(data))

    def run(
        self, task: Any, *, ds: str = DS, run_id: str = RUN_ID, map_index: int = -1, **args: Any
    ) -> TaskRun:
        """Run one task of a DAG as a worker would.

        Args:
            task: From `dag.get_task(…)`; secured, or one of this package's operators.
            ds: The logical date.
            run_id: The DAG run.
            map_index: For a mapped task, 0 unless given.
            **args: What upstream tasks would have passed: arguments of a Python body, or fields of
                an operator; templates are rendered, a Reference is passed as it is.
        """
        self._here.last_run = None
        operator = _with_arguments(task, args)
        if task.is_mapped:
            map_index = max(map_index, 0)
        ti = TaskInstance(operator, run_id, map_index)
        context = make_context(operator, ti, ds, self._announced)
        before = len(self._here.audit.facts)
        returned, error = _executed(operator, context)
        if error is None:
            self._announced.publish(operator, run_id)
        self._announced.outlets.clear()
        ended = [fact for fact in self._here.audit.facts[before:] if fact.act == "task.secure"]
        watched = self._here.last_run
        writes: tuple[str, ...] = () if watched is None else watched.output_names
        return TaskRun(
            returned=returned,
            error=error,
            refused=bool(ended) and ended[-1].result == "refused",
            body_ran=error is None if watched is None else watched.body_ran,
            writes={name: ti.pushed[name] for name in writes if name in ti.pushed},
            xcom=dict(ti.pushed),
        )

    def _silently(self, plan: Plan) -> SecuredRun:
        return self._here.secured_run(
            lambda: plan,
            reads=(),
            writes=(),
            operator="test",
            sink=MemoryAudit(),
            run=None,
            still_ours=lambda: None,
            tell=lambda line: None,
        )


def _event(fact: Fact) -> Event:
    return Event(
        act=fact.act,
        phase=fact.phase,
        outcome=fact.result,
        why=fact.why,
        object=fact.object or {},
        more=fact.more or {},
    )


def _with_arguments(task: Any, args: Mapping[str, Any]) -> Any:
    """A copy of a task that gets `args` instead of what its DAG passes."""
    from airflow.sdk.bases.decorator import DecoratedMappedOperator

    if task.is_mapped:
        decorated = isinstance(task, DecoratedMappedOperator)
        made = task.unmap({"op_kwargs": dict(args)} if decorated else dict(args))
        operator, args = made.prepare_for_execution(), {}
        operator.dag = task.dag
    else:
        operator = task.prepare_for_execution()
    if hasattr(operator, "python_callable"):
        names: list[str] = list(inspect.signature(operator.python_callable).parameters)
        by_position = dict(zip(names, operator.op_args or (), strict=False))
        operator.op_args = ()
        operator.op_kwargs = {**by_position, **(operator.op_kwargs or {}), **args}
        _require_values(operator.task_id, operator.op_kwargs)
    else:
        for name, value in args.items():
            if name not in operator.template_fields:
                raise ConfigurationError(
                    f"secure_ml.run({operator.task_id!r}): no field {name!r}, only "
                    f"{', '.join(operator.template_fields)}"
                )
            setattr(operator, name, value)
        fields = {name: getattr(operator, name, None) for name in operator.template_fields}
        _require_values(operator.task_id, fields)
    return operator


def _require_values(task_id: str, values: Mapping[str, Any]) -> None:
    from airflow.sdk.definitions.xcom_arg import XComArg

    for name, value in values.items():
        if isinstance(value, XComArg):
            raise ConfigurationError(
                f"secure_ml.run({task_id!r}): {name!r} comes from another task; pass {name}=…"
            )


def _executed(operator: Any, context: Any) -> tuple[Any, BaseException | None]:
    from airflow.sdk.bases.operator import ExecutorSafeguard
    from airflow.sdk.execution_time.context import set_current_context

    # What Airflow's task runner does around a body, and no more.
    around = contextvars.copy_context()
    around.run(ExecutorSafeguard.tracker.set, operator)
    with set_current_context(context):
        try:
            operator.render_template_fields(context, operator.dag.get_template_env())
            return around.run(operator.execute, context), None
        except Exception as error:  # noqa: BLE001 - a body may raise anything; it is the result
            return None, error
