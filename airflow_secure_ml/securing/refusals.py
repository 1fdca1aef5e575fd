"""What cannot be secured, found while the DAG is parsed.

Here are the checks that need the task; those that need only the declaration are in
`securing.declaration`.

Source: API, "Refused at parse time".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing.declaration import (
    MARK,
    Declaration,
    late_names,
    varies_by_map_index,
    varies_by_task,
)

# Operators whose body runs outside the worker, by class name: their modules need not be installed.
REMOTE_OPERATORS = frozenset(
    {
        "BatchOperator",
        "DataprocSubmitJobOperator",
        "DatabricksRunNowOperator",
        "DatabricksSubmitRunOperator",
        "DockerOperator",
        "DockerSwarmOperator",
        "EcsRunTaskOperator",
        "EksPodOperator",
        "EmrAddStepsOperator",
        "EmrContainerOperator",
        "GKEStartPodOperator",
        "KubernetesJobOperator",
        "KubernetesPodOperator",
        "LivyOperator",
        "SageMakerTrainingOperator",
        "SageMakerProcessingOperator",
        "SSHOperator",
        "SparkKubernetesOperator",
        "SparkSubmitOperator",
    }
)
_OTHER_PYTHON = frozenset({"PythonVirtualenvOperator", "ExternalPythonOperator"})


def check_class(declaration: Declaration, cls: type, kwargs: Mapping[str, Any]) -> None:
    """Refuse operators whose execute never runs here.

    Raises:
        ConfigurationError: Which and why.
    """
    task_id = kwargs.get("task_id", "?")
    names = {base.__name__ for base in cls.__mro__}
    if "EmptyOperator" in names:
        raise ConfigurationError(
            f"task {task_id!r}: EmptyOperator never runs, so there is nothing to secure; remove "
            "secure() or use an operator with a body"
        )
    found = sorted(names & REMOTE_OPERATORS)
    if found and not declaration.is_remote:
        raise ConfigurationError(
            f"task {task_id!r}: {found[0]} runs its body outside the worker, where no opened data "
            "are; say remote=True: its inputs are verified before and its outputs signed after, "
            "and {{ secure.name }} is the address"
        )
    for option in ("start_from_trigger", "end_from_trigger"):
        if kwargs.get(option, getattr(cls, option, False)) is True:
            raise ConfigurationError(
                f"task {task_id!r}: {option}=True lets the trigger run without the task, where "
                "nothing can be checked; set it to False"
            )
    if declaration.leases and names & _OTHER_PYTHON:
        raise ConfigurationError(
            f"task {task_id!r}: credentials= end with this process, and its body runs in another "
            "Python; use @task, or another operator that runs here"
        )
    streams = [name for name, entry in declaration.reads.items() if entry.stream]
    if streams and names & _OTHER_PYTHON:
        raise ConfigurationError(
            f"task {task_id!r}: reads[{streams[0]!r}] is streamed, and a stream cannot enter "
            "another Python; drop stream=True"
        )


def check_parameters(declaration: Declaration, function: Callable[..., Any]) -> None:
    """Refuse names that the body cannot receive, and names that Airflow's context takes.

    Raises:
        ConfigurationError: Which name.
    """
    parameters = inspect.signature(function).parameters
    named = getattr(function, "__name__", "the task")
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    _check_context_keys(declaration, named)
    for name in (*declaration.reads, *declaration.writes):
        if name not in parameters and not takes_all:
            raise ConfigurationError(
                f"task {named!r}: secure() names {name!r}, and the function has no parameter of "
                f"that name; write def {named}(…, {name}: Path)"
            )


def _check_context_keys(declaration: Declaration, task_id: str) -> None:
    from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

    for name in declaration.names:
        if name in KNOWN_CONTEXT_KEYS:
            raise ConfigurationError(
                f"task {task_id!r}: secure() names {name!r}, which is a key of Airflow's own "
                "context; rename it"
            )


def check_task(declaration: Declaration, operator: Any) -> None:
    """Refuse what only the finished task shows.

    Raises:
        ConfigurationError: Unknown `{{ secure.… }}`, a name without an address, a mapped task
            whose write has one address, an address that two tasks write.
    """
    _check_context_keys(declaration, operator.task_id)
    _check_late_names(declaration, operator)
    _check_addresses_given(declaration, operator)
    mapped = operator.is_mapped or operator.get_closest_mapped_task_group() is not None
    for name, entry in declaration.writes.items():
        if mapped and not varies_by_map_index(entry.target):
            raise ConfigurationError(
                f"task {operator.task_id!r}: it is mapped, and writes[{name!r}] has one address "
                f"for all its instances ({entry.target}); put {{{{ args.… }}}} or "
                "{{ ti.map_index }} into it"
            )
        _check_single_writer(operator, name, entry.target)


def _fields(operator: Any) -> Mapping[str, Any]:
    if operator.is_mapped:
        expanded = getattr(operator._get_specified_expand_input(), "value", None)
        fixed = {f: operator.partial_kwargs.get(f) for f in operator.template_fields}
        return {**fixed, "expand()": expanded}
    return {f: getattr(operator, f, None) for f in operator.template_fields}


def _check_late_names(declaration: Declaration, operator: Any) -> None:
    for field, value in _fields(operator).items():
        for name in sorted(late_names(value) - set(declaration.names)):
            raise ConfigurationError(
                f"task {operator.task_id!r}: {field} says {{{{ secure.{name} }}}}, and secure() "
                f"names only {', '.join(declaration.names)}"
            )


def _check_addresses_given(declaration: Declaration, operator: Any) -> None:
    """A name without an address is an argument; one with an address must not be passed too."""
    if operator.is_mapped:
        given = _mapped_arguments(operator)
        python = hasattr(operator, "python_callable") or (
            "python_callable" in operator.partial_kwargs
        )
    else:
        given = set(getattr(operator, "op_kwargs", None) or {})
        python = hasattr(operator, "python_callable")
    for name in declaration.names:
        if declaration.addressed(name):
            if python and name in given:
                raise ConfigurationError(
                    f"task {operator.task_id!r}: {name!r} has an address in secure() and is "
                    "passed at the call; give it once"
                )
        elif not python:
            raise ConfigurationError(
                f"task {operator.task_id!r}: secure() names {name!r} without an address, and an "
                f"operator without a Python function cannot be passed one; write "
                f"{{{name!r}: address}}"
            )


def _mapped_arguments(operator: Any) -> set[str]:
    """Names that `.partial()` and `.expand()` pass; those of an XCom are known only later."""
    expanded = getattr(operator._get_specified_expand_input(), "value", {})
    # .expand_kwargs() takes a list of them.
    each = expanded if isinstance(expanded, (list, tuple)) else [expanded]
    names = {name for one in each if isinstance(one, Mapping) for name in one}
    return names | set(operator.partial_kwargs.get("op_kwargs") or {})


def _check_single_writer(operator: Any, name: str, target: Any) -> None:
    dag = operator.get_dag()
    if dag is None or target is None or varies_by_task(str(target)):
        return
    for other in dag.tasks:
        others = getattr(other.operator_class, MARK, None)
        for other_name, entry in others.writes.items() if others else ():
            same = entry.target is not None and str(entry.target) == str(target)
            if same and (other.task_id, other_name) != (operator.task_id, name):
                raise ConfigurationError(
                    f"task {operator.task_id!r}: writes[{name!r}] and writes[{other_name!r}] of "
                    f"task {other.task_id!r} have one address ({target}); one task writes an "
                    "address"
                )
