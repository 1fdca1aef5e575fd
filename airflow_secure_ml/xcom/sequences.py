"""Have Airflow's lazy sequences of a mapped task's values say where their values must belong.

They read by position, and the database alone says which map index stands there: where that is not
the position itself, the whole sequence is read and must be in order. Values of another back end are
left alone.
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
_POSITIONS = range(1 << 31)
# Map indices of whole sequences that were in order: one with a gap would else be read whole for
# each of its values.
_in_order: dict[Place, list[int | None]] = {}
_MAX_KEPT = 64


def teach_sequences(backend: type) -> None:
    """Wrap their one way to read; a second call does nothing.

    Args:
        backend: Whose values are held to their places, and those of classes below it.
    """
    read = LazyXComSequence.__getitem__
    if not hasattr(read, _TAUGHT):
        taught = _saying_where(read, backend)
        setattr(taught, _TAUGHT, True)
        LazyXComSequence.__getitem__ = taught  # type: ignore[method-assign]  # no other way in


def _saying_where(read: Callable[[Any, Any], Any], backend: type) -> Callable[[Any, Any], Any]:
    @functools.wraps(read)
    def read_here(self: Any, at: Any) -> Any:
        from airflow.sdk.execution_time.xcom import XCom

        return _read(self, read, at) if issubclass(XCom, backend) else read(self, at)

    return read_here


def _read(sequence: Any, read: Callable[[Any, Any], Any], at: Any) -> Any:
    step = -1 if isinstance(at, slice) and at.step is not None and at.step < 0 else 1
    with looking_up(_place(sequence), step=step) as lookup:
        try:
            value = read(sequence, at)
        except IndexError:
            # Behind the last one, as every iteration ends: nothing failed.
            is_there = False
        else:
            is_there = True
            _check_position(sequence, read, at, lookup.indices)
    if not is_there:
        raise IndexError(at)
    return value


def _check_position(
    sequence: Any, read: Callable[[Any, Any], Any], at: Any, found: list[int | None]
) -> None:
    """Map indices have gaps, where an instance pushed nothing, or values were exchanged."""
    if _is_whole(at) or _stands_there(found, at):
        return
    place = _place(sequence)
    if _part(_in_order.get(place, []), at) == found:
        return
    with looking_up(place) as lookup:
        read(sequence, slice(None))
    if _part(lookup.indices, at) != found:
        raise IntegrityError(
            f"{place}: position {at} holds map index {found}; the values of the mapped task were "
            "copied or exchanged in the database"
        )
    if len(_in_order) >= _MAX_KEPT:
        _in_order.clear()
    _in_order[place] = lookup.indices


def _is_whole(at: Any) -> bool:
    """Whether all values are read, so that their order says it all."""
    return isinstance(at, slice) and (at.start, at.stop, at.step or 1) == (None, None, 1)


def _stands_there(found: list[int | None], at: Any) -> bool:
    """Whether each value is at the position that is its map index."""
    positions = _POSITIONS[at] if isinstance(at, slice) else range(at, at + 1)
    pairs = zip(found, positions, strict=False)
    return all(index is None or index == position for index, position in pairs)


def _part(indices: list[int | None], at: Any) -> list[int | None]:
    if isinstance(at, slice):
        return indices[at]
    return [indices[at]] if -len(indices) <= at < len(indices) else []


def _place(sequence: Any) -> Place:
    xcom, run = sequence._xcom_arg, sequence._ti
    return Place(
        dag_id=xcom.operator.dag_id,
        task_id=xcom.operator.task_id,
        key=xcom.key,
        run_id=run.run_id,
        map_index=None,
    )
