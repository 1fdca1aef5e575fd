"""Have Airflow's lazy sequences of a mapped task's values say where their values must belong.

They read by position, and the database alone says which map index stands there: where that is not
the position itself, the whole sequence is read and must be in order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

from airflow_secure_ml.core.sealed_xcom import Place
from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.xcom.lookups import looking_up

_TAUGHT = "_secure_ml_taught"


def teach_sequences() -> None:
    """Wrap their one way to read; a second call does nothing."""
    read = LazyXComSequence.__getitem__
    if not hasattr(read, _TAUGHT):
        taught = _saying_where(read)
        setattr(taught, _TAUGHT, True)
        LazyXComSequence.__getitem__ = taught  # type: ignore[method-assign]  # no other way in


def _saying_where(read: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(read)
    def read_here(self: Any, at: Any) -> Any:
        step = -1 if isinstance(at, slice) and at.step is not None and at.step < 0 else 1
        with looking_up(_place(self), step=step) as lookup:
            value = read(self, at)
            if not isinstance(at, slice) and lookup.indices and lookup.indices != [at]:
                _check_position(self, read, at, lookup.indices[0])
        return value

    return read_here


def _check_position(sequence: Any, read: Callable[[Any, Any], Any], at: int, found: int) -> None:
    """Map indices have gaps, where an instance pushed nothing, or values were exchanged."""
    place = _place(sequence)
    with looking_up(place) as lookup:
        read(sequence, slice(None))
    if not -len(lookup.indices) <= at < len(lookup.indices) or lookup.indices[at] != found:
        raise IntegrityError(
            f"{place}: position {at} holds map index {found}; the values of the mapped task were "
            "copied or exchanged in the database"
        )


def _place(sequence: Any) -> Place:
    xcom, run = sequence._xcom_arg, sequence._ti
    return Place(
        dag_id=xcom.operator.dag_id,
        task_id=xcom.operator.task_id,
        key=xcom.key,
        run_id=run.run_id,
        map_index=None,
    )
