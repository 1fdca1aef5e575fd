"""Late binding: templates hold markers until the body runs, and markers again after it.

Rendered fields are stored in Airflow's database and shown to everyone who may see the task, so
they never hold a scratch path; only the running body does.

Source: SECURE_TASK, "Late binding".
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.securing.declaration import MARK, RETURNS, Declaration
from airflow_secure_ml.securing.leased_connections import denied_before_the_body
from airflow_secure_ml.securing.options import is_asset
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.services.credential import Credential

ADDRESSES = "_secure_ml_addresses"
BOUND = "_secure_ml_bound"
PINNED = "_secure_ml_pinned"
_WHOLE = re.compile(r"\s*\{\{(?:(?!\}\}).)*\}\}\s*", re.DOTALL)
_MARKER = re.compile("\u27e6secure\\.(\\w+)\u27e7")


class LeasePath(str):
    """The path of a credential, which is rendered more strictly than an address."""

    __slots__ = ()


class Late:
    """What `secure` is inside a template: `{{ secure.table }}` renders to a marker.

    While the body runs (an operator that renders again) it renders to the bound value.
    """

    def __init__(self, names: Collection[str], bound: Mapping[str, Any] | None) -> None:
        self._names, self._bound = names, bound

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> str:
        if name not in self._names:
            raise ConfigurationError(
                f"{{{{ secure.{name} }}}}: secure() names only {', '.join(self._names)}"
            )
        if self._bound is not None:
            return _text(self._bound[name])
        return f"\u27e6secure.{name}\u27e7"

    def __str__(self) -> str:
        raise ConfigurationError(
            "{{ secure }} alone has no value here; write {{ secure.name }} with one of "
            + ", ".join(self._names)
        )


class Arguments:
    """What `args` is inside an address: the call's arguments by name, rendered."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator
        self._values = call_arguments(operator)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        if not self._values and name in self._operator.template_fields:
            return getattr(self._operator, name)
        raise ConfigurationError(
            f"{{{{ args.{name} }}}}: the call has no argument {name!r}, only "
            f"{', '.join(self._values) or 'none'}"
        )


def call_arguments(operator: Any) -> dict[str, Any]:
    """The arguments of a Python body by name, however they were passed; {} for other bodies."""
    function = getattr(operator, "python_callable", None)
    if function is None:
        return {}
    args = tuple(getattr(operator, "op_args", None) or ())
    kwargs = dict(getattr(operator, "op_kwargs", None) or {})
    signature = inspect.signature(function)
    names = set(signature.parameters)
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    known = kwargs if takes_all else {k: v for k, v in kwargs.items() if k in names}
    bound = signature.bind_partial(*args, **known)
    values: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            values.update(value)
        else:
            values[name] = value
    return values


@contextlib.contextmanager
def rendering(operator: Any, parent: Any, context: Any, jinja_env: Any) -> Iterator[None]:
    """Make `{{ secure.… }}` known while Airflow renders, then render the declared addresses.

    Raises:
        ConfigurationError: A name or an argument that is not there; not retried.
    """
    conn_ids = getattr(type(operator), MARK).conn_ids
    try:
        # `{{ conn.warehouse.password }}` would render the static login into a stored field.
        with (
            denied_before_the_body(conn_ids),
            _known_while_rendering(operator, parent, context, jinja_env),
        ):
            yield
    except SecureMLError as error:
        raise surfaced(error) from error.__cause__


@contextlib.contextmanager
def _known_while_rendering(
    operator: Any, parent: Any, context: Any, jinja_env: Any
) -> Iterator[None]:
    declaration: Declaration = getattr(type(operator), MARK)
    bound = getattr(operator, BOUND, None)
    context["secure"] = Late(declaration.names, bound)
    if parent is operator and bound is None:
        object.__setattr__(operator, PINNED, _pinned(declaration, operator, context))
    yield
    if parent is operator and bound is None:
        variables = {**context, "args": Arguments(operator)}
        rendered = {
            name: _render(operator, address, variables, context, jinja_env)
            for name, address in _declared(declaration)
        }
        object.__setattr__(operator, ADDRESSES, rendered)


def _pinned(declaration: Declaration, operator: Any, context: Any) -> frozenset[str]:
    """Reads that come from a write of another task, so that a Reference must arrive."""
    given: dict[str, Any] = call_arguments(operator)
    authored = context["dag"].task_dict.get(operator.task_id)
    if authored is not None and authored.is_mapped:
        # What is mapped over has been looked up already.
        expanded = getattr(authored._get_specified_expand_input(), "value", None)
        given |= expanded if isinstance(expanded, Mapping) else {}
    given |= {name: entry.source for name, entry in declaration.reads.items() if entry.source}
    return frozenset(name for name in declaration.reads if is_written(given.get(name)))


def is_written(value: Any) -> bool:
    """Whether a value, not rendered yet, is what a write or an operator of this package returns."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(is_written, value))
    maker, key = getattr(value, "operator", None), getattr(value, "key", None)
    if maker is None or not isinstance(key, str):
        return False
    cls = getattr(maker, "operator_class", type(maker))
    written = getattr(getattr(cls, MARK, None), "writes", ())
    return key in written or (hasattr(cls, RETURNS) and key == "return_value")


def _declared(declaration: Declaration) -> Iterator[tuple[str, Any]]:
    for name, entry in declaration.reads.items():
        if entry.source is not None:
            yield name, entry.source
        if entry.quarantine is not None:
            yield f"{name}.quarantine", entry.quarantine
    for name, output in declaration.writes.items():
        if output.target is not None:
            yield name, output.target
    for name, lease in declaration.leases.items():
        yield f"{name}.lease", [LeasePath(lease.path), *lease.data.values()]


def _render(operator: Any, address: Any, variables: Any, context: Any, jinja_env: Any) -> Any:
    if isinstance(address, (list, tuple)):
        return [_render(operator, one, variables, context, jinja_env) for one in address]
    if is_asset(address) or isinstance(address, Mapping):
        return address
    if isinstance(address, LeasePath) and not _WHOLE.fullmatch(address):
        jinja_env = jinja_env.overlay(finalize=_one_part)
    if isinstance(address, (str, os.PathLike)):
        # Not render_template: it takes `x.sql` or `x.sh` for the name of a template file.
        return str(jinja_env.from_string(os.fspath(address)).render(variables))
    return operator.render_template(address, context, jinja_env)


def _one_part(value: Any) -> Any:
    # An argument may come from XCom, which can be forged: it fills a gap and adds no part.
    if "/" in str(value):
        raise ConfigurationError(
            f"a credential's path: {str(value)[:80]!r} would fill a gap in it and holds a /; write "
            "the / into the path itself, or make all of the path one {{ … }}"
        )
    return value


@contextlib.contextmanager
def bound_fields(operator: Any, bound: Mapping[str, Any]) -> Iterator[None]:
    """Put real values into the template fields for the time of the body.

    Whatever the body leaves in its fields is turned back into markers: Airflow may send rendered
    fields a second time.
    """
    fields = [*operator.template_fields]
    if hasattr(operator, "python_callable"):
        fields += [name for name in ("op_args", "op_kwargs") if name not in fields]
    saved = {field: getattr(operator, field) for field in fields}
    object.__setattr__(operator, BOUND, bound)
    try:
        for field, value in saved.items():
            setattr(operator, field, _bind(value, bound))
        if hasattr(operator, "python_callable"):
            _bind_arguments(operator, bound)
        yield
    finally:
        for field, value in saved.items():
            if type(value).__name__ == "SetDuringExecution":
                value = _unbind(getattr(operator, field), bound)
            setattr(operator, field, value)
        object.__setattr__(operator, BOUND, None)


def _bind_arguments(operator: Any, bound: Mapping[str, Any]) -> None:
    """Pass bound values as parameters of a Python body.

    Positional arguments are passed by name, since supplied parameters may stand before them.
    """
    signature = inspect.signature(operator.python_callable).parameters
    parameters = signature.values()
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        # A credential that only its connection uses needs no parameter.
        bound = {
            name: value
            for name, value in bound.items()
            if name in signature or not isinstance(value, Credential)
        }
    by_position = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}
    if any(p.kind in by_position for p in parameters):
        operator.op_kwargs = {**(operator.op_kwargs or {}), **bound}
        return
    operator.op_kwargs = {
        **(operator.op_kwargs or {}),
        **call_arguments(operator),
        **bound,
    }
    operator.op_args = ()


def _text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, Credential):
        return os.fspath(value.folder())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    raise ConfigurationError("{{ secure.… }} of a stream has no text; drop stream=True")


def _bind(value: Any, bound: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        # Of no name, it came in with somebody's text and is text.
        return _MARKER.sub(
            lambda found: _text(bound[found[1]]) if found[1] in bound else found[0], value
        )
    if isinstance(value, dict):
        return {key: _bind(item, bound) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_bind(item, bound) for item in value)
    return value


def _unbind(value: Any, bound: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        for name, real in bound.items():
            if isinstance(real, Credential):
                real = real.made_folder
            if isinstance(real, (str, Path)):
                value = value.replace(os.fspath(real), f"\u27e6secure.{name}\u27e7")
        return value
    if isinstance(value, dict):
        return {key: _unbind(item, bound) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_unbind(item, bound) for item in value)
    return value
