"""`secure()`: put a subclass of a task's own class in the class's place.

The subclass keeps the class's name and module, so that Airflow shows and serializes the same
operator; what it does around the body is `securing.execution`'s business.

Source: SECURE_TASK, Wrapping.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, cast

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing import refusals
from airflow_secure_ml.securing.declaration import ENDED, MARK, Declaration, declare
from airflow_secure_ml.securing.options import Lease, Reads, Writes


def secure(
    task: Any = None,
    /,
    *,
    reads: Mapping[str, Any | Reads] | Collection[str] = (),
    writes: Mapping[str, Any | Writes] | Collection[str] = (),
    credentials: Mapping[str, str | Lease] = MappingProxyType({}),
    remote: bool = False,
) -> Any:
    """Secure a task: a decorator above `@task`, or a call around an operator or `.partial()`.

    Inputs are verified, opened into memory and validated before the body runs; outputs are
    validated, sealed, signed and published together after it. Each name is a parameter of a
    Python body, and `{{ secure.name }}` in another operator's template fields.

    Args:
        task: A decorated task, an operator, `.partial(…)`, `.expand(…)`, or what calling a task
            returned; None: return a decorator.
        reads: Name to address or `Reads`; or names alone, whose addresses the caller passes.
        writes: Name to address or `Writes`; or names alone.
        credentials: Name to Vault path or `Lease`. The Airflow connection of that name gets the
            leased login while the body runs, and has none before and after; a parameter of that
            name gets a `Credential`.
        remote: For a body that runs elsewhere (a pod, Spark, a cloud job). Nothing is opened here:
            inputs are verified and pinned before, outputs verified and signed after, and each name
            is its address.

    Returns:
        The same kind of thing as `task`, secured.

    Raises:
        ConfigurationError: While the DAG is parsed; the list is in API, "Refused at parse time".

    Source: API; SECURE_TASK.
    """
    declaration = declare(reads, writes, credentials, remote)
    if task is None:
        return functools.partial(_secure, declaration)
    return _secure(declaration, task)


def _secure(declaration: Declaration, task: Any, /) -> Any:
    from airflow.sdk.bases.decorator import _TaskDecorator
    from airflow.sdk.bases.operator import BaseOperator
    from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
    from airflow.sdk.definitions.xcom_arg import XComArg

    if isinstance(task, _TaskDecorator):
        return _secure_decorator(declaration, task)
    if isinstance(task, OperatorPartial):
        refusals.check_class(declaration, task.operator_class, task.kwargs)
        task.operator_class = _subclass(task.operator_class, declaration)
        task.__class__ = _secured_partial(cast("Any", type(task)))
        return task
    operator = getattr(task, "operator", None) if isinstance(task, XComArg) else task
    if isinstance(operator, MappedOperator):
        refusals.check_class(declaration, operator.operator_class, operator.partial_kwargs)
        operator.operator_class = _subclass(operator.operator_class, declaration)
    elif isinstance(operator, BaseOperator):
        refusals.check_class(declaration, type(operator), vars(operator))
        object.__setattr__(operator, "__class__", _subclass(type(operator), declaration))
    else:
        raise ConfigurationError(
            f"secure(): expected a task, found {type(task).__name__}"
            + ("; put @secure above @task, not below" if callable(task) else "")
        )
    _adopt(operator, declaration)
    return task


def _secure_decorator(declaration: Declaration, task: Any) -> Any:
    """A copy of a task decorator whose calls make secured tasks; the given one stays as it is."""
    import attrs

    refusals.check_class(declaration, task.operator_class, task.kwargs)
    refusals.check_parameters(declaration, task.function)
    secured = attrs.evolve(
        task,
        function=_with_defaults(task.function, declaration),
        operator_class=_subclass(task.operator_class, declaration),
        multiple_outputs=task.multiple_outputs,
    )
    secured.__class__ = _secured_factory(cast("Any", type(task)))
    return secured


@functools.cache
def _secured_factory(cls: Any) -> type:
    """A task decorator class that checks and connects each task that it makes."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = cls.__call__(self, *args, **kwargs)
        _adopt(made.operator, getattr(self.operator_class, MARK))
        return made

    def expand(self: Any, expand_input: Any, *, strict: bool) -> Any:
        made = cls._expand(self, expand_input, strict=strict)
        _adopt(made.operator, getattr(self.operator_class, MARK))
        return made

    return type(cls.__name__, (cls,), {"__call__": call, "_expand": expand})


@functools.cache
def _secured_partial(cls: Any) -> type:
    """As `_secured_factory`, for `.partial()` of an operator."""

    def expand(self: Any, expand_input: Any, *, strict: bool) -> Any:
        made = cls._expand(self, expand_input, strict=strict)
        _adopt(made, getattr(self.operator_class, MARK))
        return made

    # Without slots of its own the layout stays, and an instance may change its class.
    return type(cls.__name__, (cls,), {"__slots__": (), "_expand": expand})


def _adopt(operator: Any, declaration: Declaration) -> None:
    """Check a task that now exists, and connect it to where its inputs come from."""
    from airflow.sdk.definitions.asset import Asset
    from airflow.sdk.definitions.xcom_arg import XComArg

    refusals.check_task(declaration, operator)
    inlets, outlets = list(operator.inlets), list(operator.outlets)
    for entry in declaration.reads.values():
        for source in entry.source if isinstance(entry.source, list) else [entry.source]:
            XComArg.apply_upstream_relationship(operator, source)
            if isinstance(source, Asset) and source not in inlets:
                inlets.append(source)
    for output in declaration.writes.values():
        if output.asset is not None and output.asset not in outlets:
            outlets.append(output.asset)
    # Assigned only when changed: a task without named assets must serialize as it always did.
    if inlets != operator.inlets:
        operator.inlets = inlets
    if outlets != operator.outlets:
        operator.outlets = outlets


def _with_defaults(function: Callable[..., Any], declaration: Declaration) -> Callable[..., Any]:
    """A copy of a function that may be called without what `secure()` supplies.

    Airflow binds a call's arguments to `__signature__` while the DAG is parsed; the code is the
    author's own, and so is what `inspect.getsource` finds.
    """
    signature = inspect.signature(function)
    supplied = [name for name in declaration.names if declaration.addressed(name)]
    kept = [p for name, p in signature.parameters.items() if name not in supplied]
    late = [
        signature.parameters[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in supplied
        if name in signature.parameters
    ]
    if kept and kept[-1].kind is inspect.Parameter.VAR_KEYWORD:
        parameters = [*kept[:-1], *late, kept[-1]]
    else:
        parameters = [*kept, *late]
    copy = _copy_function(function)
    copy.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # what inspect reads
    return copy


def _copy_function(function: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(function, types.FunctionType):

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    functools.update_wrapper(copy, function)
    del copy.__dict__["__wrapped__"]
    return copy


def _subclass(cls: type, declaration: Declaration) -> type:
    if hasattr(cls, MARK):
        raise ConfigurationError(
            f"secure(): this {cls.__name__} is secured already; name all reads and writes in one "
            "secure()"
        )

    # Not super(): a second class in the chain would make Airflow wrap __init__ again.
    def execute(self: Any, context: Any) -> Any:
        from airflow_secure_ml.securing.execution import run_secured

        return run_secured(self, context, lambda: cls.execute(self, context))  # type: ignore[attr-defined] # any operator

    def resume_execution(
        self: Any, next_method: str, next_kwargs: dict[str, Any] | None, context: Any
    ) -> Any:
        from airflow_secure_ml.securing.execution import run_secured, taken_notes

        next_kwargs, noted = taken_notes(next_kwargs)

        def body() -> Any:
            if next_method == ENDED:
                return None
            return cls.resume_execution(self, next_method, next_kwargs, context)  # type: ignore[attr-defined] # any operator

        return run_secured(self, context, body, noted)

    def do_render_template_fields(
        self: Any, parent: Any, template_fields: Any, context: Any, jinja_env: Any, seen_oids: Any
    ) -> None:
        from airflow_secure_ml.securing.binding import rendering

        with rendering(self, parent, context, jinja_env):
            cls._do_render_template_fields(  # type: ignore[attr-defined] # any operator
                self, parent, template_fields, context, jinja_env, seen_oids
            )

    def on_kill(self: Any) -> None:
        from airflow_secure_ml.securing.execution import killed

        try:
            cls.on_kill(self)  # type: ignore[attr-defined] # any operator
        finally:
            killed(self)

    namespace: dict[str, Any] = {
        MARK: declaration,
        "execute": execute,
        "resume_execution": resume_execution,
        "_do_render_template_fields": do_render_template_fields,
        "on_kill": on_kill,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    if hasattr(cls, "get_python_source"):
        namespace["get_python_source"] = _undecorated_source
    return type(cls)(cls.__name__, (cls,), namespace)


def _undecorated_source(self: Any) -> str:
    """The body's source without decorators, for operators that run it in another Python."""
    import ast
    import textwrap

    source = textwrap.dedent(inspect.getsource(self.python_callable))
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    return "\n".join(source.splitlines()[function.lineno - 1 :]) + "\n"
