"""One look-up of XCom values: its events, and where its values must belong.

Airflow hands a back end values without their place: whoever looks up says it here, and what is
opened meanwhile in the same thread or asynchronous task is held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_xcom import Place, check_order, map_index_of
from airflow_secure_ml.current_task import current_run, this_program
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.recording import sink_of_this_process
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.services.recorded_act import Outcome, printable, recorded

_current: ContextVar[Lookup | None] = ContextVar("secure_ml_xcom_lookup", default=None)
# Tries of this process that have opened a sealed value; None stands for whoever is no try.
_openers: set[str | None] = set()


class Lookup:
    """A look-up under way.

    Args:
        place: Where its values must belong.
        step: The order of its values: 1 ascending map index, -1 descending, 0 ascending with
            repetitions.
        outcome: What its outcome will say.

    Attributes:
        indices: Map indices of the values that were opened; None for each that was not sealed.
    """

    def __init__(self, place: Place, step: int, outcome: Outcome) -> None:
        self.place, self.step, self._outcome = place, step, outcome
        self.indices: list[int | None] = []
        self._last: int | None = None
        outcome.because = "absent"

    def opened(self, context: Mapping[str, str], key: KeyRef) -> None:
        """Take note of a value that was opened; IntegrityError if it is out of order."""
        index = map_index_of(context)
        check_order(index, self._last, self.step)
        self._last = index
        self.indices.append(index)
        _openers.add(_try())
        self._outcome.key, self._outcome.because = key, None

    def found(self, what: str) -> None:
        """Take note of a value that was not sealed, in a word."""
        self.indices.append(None)
        self._outcome.because = what


def current_lookup() -> Lookup | None:
    """The look-up that this thread or asynchronous task is in."""
    return _current.get()


def has_opened() -> bool:
    """Whether the try of this process has opened a sealed value."""
    return _try() in _openers


@contextmanager
def looking_up(place: Place, *, step: int = 1) -> Iterator[Lookup]:
    """Look values up: the intent is durable before the block, the outcome is recorded after it.

    Raises:
        SecureMLError: A value was refused, as a class that Airflow does not retry; or the intent
            could not be made durable.
    """
    facts = {"name": printable(place.key), "task": printable(place.task_id), "map": place.map_index}
    with act("xcom.read", facts, place) as outcome:
        lookup = Lookup(place, step, outcome)
        token = _current.set(lookup)
        try:
            yield lookup
        finally:
            _current.reset(token)


@contextmanager
def act(name: str, facts: Mapping[str, Any], place: Place) -> Iterator[Outcome]:
    """Record an act on a value; errors as in `looking_up`."""
    run = current_run()
    at_home = run is not None and (run.dag, run.run) == (place.dag_id, place.run_id)
    try:
        sink = sink_of_this_process(run, program=this_program(run))
        # The events name their own run; another DAG's or run's value needs its address.
        elsewhere = None if at_home else {"uri": _address(place)}
        with recorded(sink, run, name, facts, place=elsewhere) as outcome:
            yield outcome
    except SecureMLError as error:
        raise surfaced(error) from error.__cause__


def _try() -> str | None:
    run = current_run()
    return None if run is None else run.ti


def _address(place: Place) -> str:
    parts = (place.dag_id, place.run_id or "*", place.task_id)
    return "xcom:" + "/".join(quote(printable(part), safe="*") for part in parts)
