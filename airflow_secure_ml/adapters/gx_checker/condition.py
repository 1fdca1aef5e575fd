"""Select rows by a structured condition, by comparing columns: nothing is parsed or evaluated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from airflow_secure_ml.core.row_condition import Comparison, Condition, Nullity

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def select(frame: Any, condition: Condition) -> Any:
    """Which rows of a pandas DataFrame meet the condition.

    Returns:
        bool[rows]; a missing value meets only `is_null`, `!=` and `NOT_IN`, as in the library.

    Raises:
        TypeError: A column cannot be compared with the value.
    """
    if isinstance(condition, Nullity):
        null = frame[condition.column].isna().to_numpy(dtype=bool)
        return null if condition.is_null else ~null
    if isinstance(condition, Comparison):
        column = frame[condition.column]
        if condition.operator in ("IN", "NOT_IN"):
            found = column.isin(list(condition.values)).to_numpy(dtype=bool)
            return found if condition.operator == "IN" else ~found
        compared = _COMPARE[condition.operator](column, condition.values[0])
        return compared.to_numpy(dtype=bool, na_value=condition.operator == "!=")
    masks = [select(frame, part) for part in condition.parts]
    return reduce(operator.and_ if condition.every else operator.or_, masks)
