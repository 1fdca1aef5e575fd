"""The context of a task that no scheduler runs: what templates and operators ask for most."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

RUN_ID = "test_run"
_TI = "00000000-0000-7000-8000-000000000000"


class TaskInstance:
    """A try of a task, with XCom in a dict.

    Attributes:
        pushed: XCom values by key.
    """

    def __init__(self, task: Any, run_id: str, map_index: int) -> None:
        self.task, self.run_id, self.map_index = task, run_id, map_index
        self.dag_id, self.task_id = task.dag_id, task.task_id
        self.id, self.try_number, self.hostname = _TI, 1, "localhost"
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        """Keep a value."""
        self.pushed[key] = value

    def xcom_pull(self, *_: Any, **__: Any) -> None:
        """Nothing: a test passes what an upstream task would have returned."""

    def get_task_states(self, **_: Any) -> dict[str, Any]:
        """This try, and no other, is running."""
        return {self.run_id: {self.task_id: "running"}}


class _Outlet:
    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}

    def add(self, asset: Any, extra: dict[str, Any] | None = None) -> None:
        self.extra.update(extra or {})


class Announced:
    """What tasks announced about assets, and what later tasks find there.

    Attributes:
        outlets: Extras of the task that runs now, by asset name.
    """

    def __init__(self) -> None:
        self.outlets: dict[str, _Outlet] = defaultdict(_Outlet)
        self._events: dict[str, list[Any]] = defaultdict(list)

    def __getitem__(self, asset: Any) -> Any:
        """What the running task says about an asset."""
        return self.outlets[asset.name]

    def publish(self, task: Any, run_id: str) -> None:
        """Make what the task said known to later ones."""
        for name, outlet in self.outlets.items():
            self._events[name].append(_Event(task, run_id, dict(outlet.extra)))
        self.outlets.clear()

    def inlets(self) -> _Inlets:
        """What was announced, as `inlet_events` shows it."""
        return _Inlets(self._events)


class _Event:
    def __init__(self, task: Any, run_id: str, extra: dict[str, Any]) -> None:
        self.extra, self.source_run_id = extra, run_id
        self.source_dag_id, self.source_task_id = task.dag_id, task.task_id


class _Events(list[Any]):
    def ascending(self, value: bool = True) -> _Events:
        return self if value else _Events(reversed(self))

    def limit(self, count: int) -> _Events:
        return _Events(self[:count])


class _Inlets:
    def __init__(self, events: Mapping[str, list[Any]]) -> None:
        self._events = events

    def __getitem__(self, asset: Any) -> _Events:
        return _Events(self._events.get(asset.name, ()))


def make_context(task: Any, ti: TaskInstance, ds: str, announced: Announced) -> dict[str, Any]:
    """The context of a task's run on a day."""
    from airflow.sdk.execution_time.context import ConnectionAccessor, MacrosAccessor

    day = dt.datetime.fromisoformat(ds).replace(tzinfo=dt.UTC)
    params = {**_values(task.dag.params), **_values(task.params)}
    return {
        "conn": ConnectionAccessor(),
        "dag": task.dag,
        "dag_run": None,
        "data_interval_end": day,
        "data_interval_start": day,
        "ds": ds,
        "ds_nodash": ds.replace("-", ""),
        "inlet_events": announced.inlets(),
        "inlets": task.inlets,
        "logical_date": day,
        "macros": MacrosAccessor(),
        "outlet_events": announced,
        "outlets": task.outlets,
        "params": params,
        "run_id": ti.run_id,
        "task": task,
        "task_instance": ti,
        "ti": ti,
        "ts": day.isoformat(),
        "ts_nodash": day.strftime("%Y%m%dT%H%M%S"),
    }


def _values(params: Any) -> dict[str, Any]:
    return dict(params.dump() if hasattr(params, "dump") else params or {})
