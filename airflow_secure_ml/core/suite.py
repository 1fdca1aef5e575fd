"""Read a suite of expectations and refuse whatever in it could run code or can never fail.

A suite file is untrusted: Great Expectations would hand a text condition, and a back-quoted
column name, to `DataFrame.query`, SQL to a database and a JSON schema's `$ref` to the network.
Only the listed expectations pass, with structured conditions that this package evaluates itself.

Source: the JSON form of Great Expectations 1.24 suites.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from airflow_secure_ml.core.expectations import CATALOGUE, Shape
from airflow_secure_ml.core.row_condition import Condition, check_column, parse_condition
from airflow_secure_ml.core.validation import MAX_NAME_CHARS, Severity
from airflow_secure_ml.errors import ConfigurationError

# A suite is read before anything vouches for it: its size is bounded first.
MAX_SUITE_BYTES = 1 << 20
MAX_EXPECTATIONS = 1000
_MAX_DEPTH = 8

_SUITE_KEYS = {"name", "expectations", "id", "meta", "notes", "suite_parameters"}
_EXPECTATION_KEYS = {
    "type", "kwargs", "severity", "meta", "id", "notes", "description", "expectation_context",
    "rendered_content", "success_on_last_run",
}  # fmt: skip
_SEVERITIES: Mapping[str, Severity] = {
    "critical": "block",
    "block": "block",
    "warning": "warn",
    "warn": "warn",
    "info": "warn",
}
# The caller decides these, not the suite: they choose what a result holds and what is caught.
_RESERVED = {"result_format", "catch_exceptions", "batch_id", "windows", "id", "meta", "severity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One expectation of a suite.

    Attributes:
        type: Its name in `CATALOGUE`.
        columns: The columns it names, in order; empty for the table.
        arguments: Its arguments but the condition, as a canonical JSON object.
        condition: The rows it is about; None: all.
        severity: Whether its failure blocks.
    """

    type: str
    columns: tuple[str, ...]
    arguments: str
    condition: Condition | None
    severity: Severity

    @property
    def shape(self) -> Shape:
        """What is known of its type."""
        return CATALOGUE[self.type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite that may be run.

    Attributes:
        name: Its own name.
        digest: `sha256:` over what decides a verdict: each expectation's type, arguments,
            condition and severity, in order. Names, notes and ids do not count.
        expectations: At least one.
    """

    name: str
    digest: str
    expectations: tuple[Expectation, ...]


def parse_suite_text(text: bytes, source: str) -> Suite:
    """Read a suite file's bytes.

    Args:
        text: At most `MAX_SUITE_BYTES` bytes of JSON in UTF-8.
        source: What messages call the suite.

    Raises:
        ConfigurationError: It is not such JSON, or asks for what is not allowed.
    """
    if len(text) > MAX_SUITE_BYTES:
        raise ConfigurationError(
            f"{source}: more than {MAX_SUITE_BYTES} bytes, too long for a suite"
        )
    try:
        found = json.loads(
            text.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{source}: expected a suite in JSON, found {_where(error)}; export it anew"
        ) from error
    return parse_suite(found, source)


def parse_suite(found: object, source: str) -> Suite:
    """Read a suite from plain JSON values: what `ExpectationSuite.to_json_dict()` returns.

    Raises:
        ConfigurationError: As `parse_suite_text`.
    """
    if not isinstance(found, dict):
        _refuse(source, 'expected an object {"name": …, "expectations": […]}')
    _known(found, _SUITE_KEYS, source)
    if found.get("suite_parameters"):
        _refuse(source, "suite parameters are not supported; write the values out")
    name = found.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS:
        _refuse(source, f"name: expected 1 to {MAX_NAME_CHARS} printable characters")
    listed = found.get("expectations")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_EXPECTATIONS:
        # An empty suite passes on any data, so it is a mistake rather than a gate.
        _refuse(source, f"expectations: expected a list of 1 to {MAX_EXPECTATIONS}")
    expectations = tuple(
        _expectation(item, f"{source}: expectation {number}")
        for number, item in enumerate(listed, start=1)
    )
    return Suite(name=name, digest=_digest(listed, expectations), expectations=expectations)


def _expectation(found: object, source: str) -> Expectation:
    if not isinstance(found, dict):
        _refuse(source, "expected an object")
    if "expectation_type" in found:
        _refuse(source, "this is the form before Great Expectations 1.0; save the suite with 1.24")
    _known(found, _EXPECTATION_KEYS, source)
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in CATALOGUE:
        _refuse(source, f"type {_shown(kind)} is not one that may be run on a file")
    source = f"{source} ({kind})"
    kwargs = found.get("kwargs")
    if not isinstance(kwargs, dict):
        _refuse(source, "kwargs: expected an object")
    _plain(kwargs, source)
    condition = kwargs.get("row_condition")
    arguments = {k: v for k, v in kwargs.items() if k not in ("row_condition", "condition_parser")}
    if reserved := sorted(_RESERVED & set(arguments)):
        _refuse(source, f"{', '.join(reserved)}: not the suite's to say; take it out")
    shape = CATALOGUE[kind]
    if problem := shape.problem(arguments):
        _refuse(source, problem)
    return Expectation(
        type=kind,
        columns=_columns(shape, arguments, source),
        arguments=_canonical(arguments),
        condition=None if condition is None else parse_condition(condition, source),
        severity=_severity(found, source),
    )


def _columns(shape: Shape, arguments: Mapping[str, object], source: str) -> tuple[str, ...]:
    named: list[object] = []
    for key in shape.columns:
        value = arguments.get(key)
        named.extend(value if isinstance(value, list) else [value])
    columns = tuple(check_column(column, source) for column in named)
    if len(set(columns)) != len(columns):
        _refuse(source, "it names one column twice")
    return columns


def _severity(found: Mapping[str, object], source: str) -> Severity:
    meta = found.get("meta") or {}
    if not isinstance(meta, dict):
        _refuse(source, "meta: expected an object")
    given = [place["severity"] for place in (found, meta) if "severity" in place]
    named = {_SEVERITIES.get(value) if isinstance(value, str) else None for value in given}
    if None in named:
        _refuse(source, f"severity: expected one of {', '.join(_SEVERITIES)}")
    if len(named) > 1:
        _refuse(source, "severity and meta.severity contradict each other; keep severity")
    return "warn" if named == {"warn"} else "block"


def _plain(value: object, source: str, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        _refuse(source, f"nested deeper than {_MAX_DEPTH}")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(source, "a number is not finite; leave an open end out")
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            # $PARAMETER is filled in at run time by whoever calls, past this digest.
            _refuse(source, "parameters such as $PARAMETER are not supported; write the value out")
        for inner in value.values():
            _plain(inner, source, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _plain(inner, source, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float)):
        _refuse(source, f"expected JSON values, found {type(value).__name__}")


def _digest(listed: list[dict[str, object]], expectations: tuple[Expectation, ...]) -> str:
    content = [
        [e.type, raw["kwargs"], e.severity] for raw, e in zip(listed, expectations, strict=True)
    ]
    # The number says by which rules verdicts were made: stricter rules get a new one.
    return "sha256:" + hashlib.sha256(_canonical(["asml/suite/1", content]).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(
        _one_number(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )


def _one_number(value: object) -> object:
    # Great Expectations turns 0 into 0.0 when it saves a suite: one demand, one digest.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_one_number(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _one_number(inner) for key, inner in value.items()}
    return value


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("one key twice in an object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN or Infinity")


def _where(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} in line {error.lineno}"
    return "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _known(found: Mapping[str, object], keys: set[str], source: str) -> None:
    if unknown := sorted(str(key) for key in set(found) - keys):
        _refuse(source, f"unknown field {_shown(unknown[0])}; expected {', '.join(sorted(keys))}")


def _shown(value: object) -> str:
    return repr(value)[:80]


def _refuse(source: str, problem: str) -> NoReturn:
    raise ConfigurationError(f"{source}: {problem}")
