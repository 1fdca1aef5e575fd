"""The only calls into Great Expectations: a frame and checked expectations in, counts out.

An ephemeral context, made for one call; the caller's current context is put back. The library is
imported here when it is first needed (7 s of CPU) and nowhere else.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.adapters.gx_checker.library import load_library
from airflow_secure_ml.adapters.gx_checker.table import not_checkable
from airflow_secure_ml.core.suite import Expectation
from airflow_secure_ml.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """What is taken over from one result.

    Attributes:
        success: Its verdict.
        raised: Whether the library met an exception instead of a verdict.
        checked: Rows looked at; None where it is not about rows. So are the next two.
        missing: Rows without a value.
        unexpected: Rows that fail.
        rows: Positions of these, if they were asked for.
    """

    success: bool
    raised: bool
    checked: int | None
    missing: int | None
    unexpected: int | None
    rows: tuple[int, ...]


@contextmanager
def silence() -> Iterator[None]:
    """Keep the library's log records and warnings, which quote data, from every handler."""
    logger = logging.getLogger("great_expectations")
    before, mute = (logger.level, logger.propagate), logging.NullHandler()
    # Its loggers below set levels of their own, so records are stopped on their way up.
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    logger.addHandler(mute)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(mute)
        logger.propagate = before[1]
        logger.setLevel(before[0])


def evaluate(
    expectations: Mapping[int, Expectation], frame: Any, *, find_rows: bool
) -> dict[int, Raw]:
    """Hold a pandas DataFrame against expectations that `core.suite` let through.

    Args:
        expectations: By number; the columns they name are there.
        frame: Its index holds row positions.
        find_rows: Whether the positions of failing rows are wanted.

    Returns:
        A result for each number.

    Raises:
        ConfigurationError: The library does not take an expectation's arguments.
        PolicyError: It gave no verdict (not_checkable).
    """
    load_library()
    import great_expectations as gx

    built = [_build(number, expectation, frame) for number, expectation in expectations.items()]
    suite = gx.ExpectationSuite(name="suite", expectations=built)
    # COMPLETE lists failing values too; they are dropped in `_raw`.
    shown = "COMPLETE" if find_rows else "SUMMARY"
    with _context() as context:
        source = context.data_sources.add_pandas("source")
        batches = source.add_dataframe_asset("asset").add_batch_definition_whole_dataframe("whole")
        try:
            batch = batches.get_batch(batch_parameters={"dataframe": frame})
            found = batch.validate(
                suite, result_format={"result_format": shown, "partial_unexpected_count": 0}
            )
        except Exception:  # noqa: BLE001 - pandas and marshmallow have roots of their own
            found = None
    # Not chained: the library's words quote values.
    if found is None:
        raise not_checkable("the engine failed")
    raws = {result.expectation_config.meta["number"]: _raw(result) for result in found.results}
    if set(raws) != set(expectations):
        raise not_checkable("the engine left expectations out")
    return raws


@contextmanager
def _context() -> Iterator[Any]:
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions.exceptions import DataContextRequiredError

    try:
        before = project_manager.get_current_project()
    except DataContextRequiredError:
        before = None
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    try:
        yield context
    finally:
        # Tasks may use the library themselves: theirs is the current context again.
        project_manager.set_project(before)


def _build(number: int, expectation: Expectation, frame: Any) -> Any:
    import great_expectations.expectations as gxe

    # Core classes by name, not the library's registry: anyone may have added to that.
    wanted = expectation.type
    core = next(
        (c for c in vars(gxe).values() if getattr(c, "expectation_type", None) == wanted), None
    )
    if core is None:
        raise ConfigurationError(f"{wanted}: not in this version of Great Expectations")
    arguments = json.loads(expectation.arguments)
    if expectation.shape.infinite == "bounded":
        arguments = _bounded(arguments, frame[expectation.columns[0]])
    try:
        return core(**arguments, meta={"number": number})
    except (TypeError, ValueError) as error:
        fields = _fields(error)
    raise ConfigurationError(
        f"{wanted}({', '.join(expectation.columns)}): arguments not taken{fields}"
    )


def _bounded(arguments: dict[str, Any], column: Any) -> dict[str, Any]:
    """Close a range's open end at the largest number, so that an infinity lies outside."""
    import numpy as np

    if column.dtype.kind != "f":
        return arguments
    # The column's own precision: in a narrower one the largest double is itself infinite.
    largest = float(np.finfo(getattr(column.dtype, "numpy_dtype", column.dtype)).max)
    ends = {"min_value": -largest, "max_value": largest}
    given = {key: value for key, value in arguments.items() if value is not None}
    return {**ends, **given}


def _fields(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    names = [str(item["loc"][0]) for item in errors()] if callable(errors) else []
    return f": {', '.join(names)}" if names else ""


def _raw(result: Any) -> Raw:
    found = result.result or {}
    counts = [found.get(key) for key in ("element_count", "missing_count", "unexpected_count")]
    checked, missing, unexpected = (None if count is None else int(count) for count in counts)
    # Some aggregates count distinct values under the same name: rows were not judged there.
    if checked is None or unexpected is None:
        checked = missing = unexpected = None
    rows = found.get("unexpected_index_list") or ()
    return Raw(
        success=bool(result.success),
        raised=_raised(result.exception_info or {}),
        checked=checked,
        missing=missing,
        unexpected=unexpected,
        rows=tuple(int(position) for position in rows),
    )


def _raised(info: Mapping[str, Any]) -> bool:
    # One record for the expectation, or one for each of the metrics that it needs.
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(bool(record.get("raised_exception", True)) for record in info.values())
