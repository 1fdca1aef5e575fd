"""Which rows an expectation is about, as values; evaluated by comparison, never as text.

Text conditions are refused: an expression engine would run whatever they hold.

Source: Great Expectations 1.24, `expectations/row_conditions.py`, its JSON form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from airflow_secure_ml.core.validation import MAX_NAME_CHARS
from airflow_secure_ml.errors import ConfigurationError

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN")
MAX_CONDITIONS = 100
_MAX_DEPTH = 8

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A column held against a value, or against a list of them for `IN` and `NOT_IN`."""

    column: str
    operator: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nullity:
    """A column that has no value (`is_null`), or has one."""

    column: str
    is_null: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Junction:
    """Several conditions: all of them must hold, or any of them."""

    every: bool
    parts: tuple[Condition, ...]


Condition = Comparison | Nullity | Junction


def parse_condition(found: object, source: str) -> Condition:
    """Read a structured condition.

    Args:
        found: JSON values.
        source: What messages call its place.

    Raises:
        ConfigurationError: It is text, passes text through, or is too large.
    """
    condition = _parse(found, source, 0)
    if len(columns_of(condition)) > MAX_CONDITIONS:
        _refuse(source, f"more than {MAX_CONDITIONS} conditions")
    return condition


def columns_of(condition: Condition) -> tuple[str, ...]:
    """The columns that a condition names, one for each comparison in it."""
    if isinstance(condition, Junction):
        return tuple(column for part in condition.parts for column in columns_of(part))
    return (condition.column,)


def check_column(column: object, source: str) -> str:
    """A column's name, if it may stand in a suite.

    Raises:
        ConfigurationError: Not text, empty, longer than `MAX_NAME_CHARS`, unprintable, or with a
            back-quote, which an expression engine takes for the end of the name.
    """
    if (
        not isinstance(column, str)
        or not column.isprintable()
        or "`" in column
        or not 0 < len(column) <= MAX_NAME_CHARS
    ):
        raise ConfigurationError(
            f"{source}: column: expected a printable name of at most {MAX_NAME_CHARS} characters "
            "without a back-quote"
        )
    return column


def _parse(found: object, source: str, depth: int) -> Condition:
    if isinstance(found, str) or (isinstance(found, dict) and found.get("type") == "pass_through"):
        _refuse(
            source,
            "a text condition could run code; write it as Column('a') > 0 and save the suite anew",
        )
    if not isinstance(found, dict) or depth > _MAX_DEPTH:
        _refuse(source, "expected a structured condition")
    kind, keys = found.get("type"), set(found)
    if kind == "comparison" and keys == {"type", "column", "operator", "parameter"}:
        return _comparison(found, source)
    if kind == "nullity" and keys == {"type", "column", "is_null"}:
        if not isinstance(found["is_null"], bool):
            _refuse(source, "is_null: expected true or false")
        return Nullity(column=_column(found["column"], source), is_null=found["is_null"])
    if kind not in ("and", "or") or keys != {"type", "conditions"}:
        _refuse(source, "expected a comparison, a nullity, or `and`, `or` of such")
    parts = found["conditions"]
    if not isinstance(parts, list) or not 0 < len(parts) <= MAX_CONDITIONS:
        _refuse(source, f"conditions: expected a list of 1 to {MAX_CONDITIONS}")
    return Junction(
        every=kind == "and", parts=tuple(_parse(part, source, depth + 1) for part in parts)
    )


def _comparison(found: dict[str, object], source: str) -> Comparison:
    operator, parameter = found["operator"], found["parameter"]
    if operator not in OPERATORS:
        _refuse(source, f"operator: expected one of {' '.join(OPERATORS)}")
    listed = operator in ("IN", "NOT_IN")
    if listed != isinstance(parameter, list):
        _refuse(source, "parameter: expected a list for IN and NOT_IN, one value otherwise")
    listed_values: list[object] = parameter if isinstance(parameter, list) else [parameter]
    values = tuple(value for value in listed_values if isinstance(value, (str, int, float)))
    if not values or len(values) != len(listed_values):
        _refuse(source, "parameter: expected text, numbers or truths")
    return Comparison(
        column=_column(found["column"], source), operator=str(operator), values=values
    )


def _column(found: object, source: str) -> str:
    if not isinstance(found, dict) or set(found) != {"name"}:
        _refuse(source, 'column: expected {"name": …}')
    return check_column(found["name"], f"{source}: row_condition")


def _refuse(source: str, problem: str) -> NoReturn:
    raise ConfigurationError(f"{source}: row_condition: {problem}")
