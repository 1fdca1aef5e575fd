"""Work out the derived fields of alert rules from the log.

What was looked up is remembered for a while, never for good: a look-up again gives the same.

Source: core.alerts.taxonomy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from airflow_secure_ml.core.audit.event_fields import part
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import EventQuery, Leaf

REMEMBERED = 2000
# A key's first week: every DAG is new to it.
LEARN_MS = 7 * 24 * 3_600_000
# Of others about an emitter, not of their own.
_ABOUT_ANOTHER = ("trail.emitter", "trail.refused")


class DerivedFacts:
    """Derives fields. A `core.alerts.matching.Derive`.

    Args:
        reader: The log.
    """

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader
        self._clocks: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        self._opened: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], bool] = OrderedDict()
        self._fields: Mapping[str, Callable[[Leaf], Any]] = {
            "derived.clock_jump_ms": self._clock_jump_ms,
            "derived.is_new_dag_for_key": self._is_new_dag,
            "derived.host": lambda leaf: self._opening(leaf).get("host"),
            "derived.program": lambda leaf: self._opening(leaf).get("program"),
        }

    def __call__(self, leaf: Leaf, name: str) -> Any:
        """A field's value; None: the log does not have what it takes."""
        found = self._fields[name](leaf)
        return found if isinstance(found, str | int) else None

    def _clock_jump_ms(self, leaf: Leaf) -> int | None:
        event = leaf.event
        emitter, seq, time, mono = (event.get(n) for n in ("emitter", "seq", "time", "mono"))
        if not (isinstance(emitter, str) and isinstance(seq, int) and isinstance(time, int)):
            return None
        if not isinstance(mono, int):
            return None
        before = self._clocks.get(emitter)
        if seq and (before is None or before[0] != seq - 1):
            earlier = self._reader.find(f"{emitter}:{seq - 1}")
            before = None if earlier is None else _clock(earlier.event)
        if before is None or seq >= before[0]:
            _keep(self._clocks, emitter, (seq, time, mono))
        if not seq or before is None:
            return None
        return abs((time - before[1]) - (mono - before[2]))

    def _opening(self, leaf: Leaf) -> Mapping[str, Any]:
        event = leaf.event
        emitter = event.get("emitter")
        if event.get("act") in _ABOUT_ANOTHER:
            emitter = part(event, "more").get("emitter")
        if not isinstance(emitter, str):
            return {}
        if emitter not in self._opened:
            first = self._reader.find(f"{emitter}:0")
            if first is None:
                # It may still come.
                return {}
            _keep(self._opened, emitter, part(first.event, "more"))
        return self._opened[emitter]

    def _is_new_dag(self, leaf: Leaf) -> bool | None:
        key, dag = part(leaf.event, "key").get("name"), part(leaf.event, "run").get("dag")
        time = leaf.event.get("time")
        if not (isinstance(key, str) and isinstance(dag, str) and isinstance(time, int)):
            return None
        if (key, dag) in self._pairs:
            return False
        query = EventQuery(key=key, dag=dag)
        earlier = self._reader.page(query, older_than=(time, leaf.index), limit=1)
        old = EventQuery(key=key, until_ms=time - LEARN_MS)
        is_new = not earlier and bool(self._reader.page(old, limit=1))
        if earlier:
            _keep(self._pairs, (key, dag), True)
        return is_new


def _clock(event: Mapping[str, Any]) -> tuple[int, int, int] | None:
    found = tuple(event.get(name) for name in ("seq", "time", "mono"))
    seq, time, mono = found
    if isinstance(seq, int) and isinstance(time, int) and isinstance(mono, int):
        return (seq, time, mono)
    return None


def _keep(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
