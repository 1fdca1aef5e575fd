"""The sealing back end in a task's place: Airflow's own code, and a database in a dict below it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_secure_ml.deployment import use_deployment
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.memory_deployment import MemoryDeployment

DAG, RUN, TASK, KEY = "churn", "manual__1", "train", "return_value"


class Database:
    """What the API server does with XCom messages, in a dict by (dag, run, task, key, map)."""

    def __init__(self):
        self.rows = {}

    def send(self, msg):
        from airflow.sdk.execution_time import comms

        name = type(msg).__name__
        if name == "SetXCom":
            at = (msg.dag_id, msg.run_id, msg.task_id, msg.key, msg.map_index)
            self.rows[at] = msg.value
            return None
        if name == "DeleteXCom":
            self.rows.pop((msg.dag_id, msg.run_id, msg.task_id, msg.key, msg.map_index or -1), None)
            return None
        if name == "GetXCom":
            index = -1 if msg.map_index is None else msg.map_index
            at = (msg.dag_id, msg.run_id, msg.task_id, msg.key, index)
            if msg.include_prior_dates and at not in self.rows:
                at = next(k for k in self.rows if (k[0], *k[2:]) == (at[0], *at[2:]))
            return comms.XComResult(key=msg.key, value=self.rows.get(at))
        values = [
            self.rows[at]
            for at in sorted(self.rows)
            if (at[0], at[2], at[3]) == (msg.dag_id, msg.task_id, msg.key)
            and (at[1] == msg.run_id or getattr(msg, "include_prior_dates", False))
        ]
        if name == "GetXComCount":
            return comms.XComCountResponse(len=len(values))
        if name == "GetXComSequenceSlice":
            return comms.XComSequenceSliceResult(root=values[msg.start : msg.stop : msg.step])
        assert name == "GetXComSequenceItem"
        try:
            return comms.XComSequenceIndexResult(root=values[msg.offset])
        except IndexError:
            return comms.ErrorResponse()

    async def asend(self, msg):
        return self.send(msg)


class Bench:
    """A back end over keys and a trail in memory, and the rows that it writes."""

    def __init__(self, here, database, backend):
        self.here, self.database, self.backend = here, database, backend

    @property
    def rows(self):
        return self.database.rows

    @property
    def facts(self):
        return self.here.audit.facts

    def put(self, value, *, dag=DAG, run=RUN, task=TASK, key=KEY, at=-1):
        self.backend.set(key, value, dag_id=dag, task_id=task, run_id=run, map_index=at)
        return (dag, run, task, key, at)

    def get(self, *, dag=DAG, run=RUN, task=TASK, key=KEY, at=-1, **more):
        return self.backend.get_one(
            key=key, dag_id=dag, task_id=task, run_id=run, map_index=at, **more
        )

    def get_all(self, *, dag=DAG, run=RUN, task=TASK, key=KEY, **more):
        return self.backend.get_all(key=key, dag_id=dag, task_id=task, run_id=run, **more)

    def forget_keys(self):
        """Begin as another process would."""
        from airflow_secure_ml.xcom import backend

        backend._keys.cache_clear()

    def sequence(self, task=TASK, key=KEY):
        from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

        operator = SimpleNamespace(dag_id=DAG, task_id=task)
        return LazyXComSequence(
            xcom_arg=SimpleNamespace(operator=operator, key=key), ti=SimpleNamespace(run_id=RUN)
        )


@pytest.fixture
def make_bench(tmp_path, monkeypatch):
    """A bench over given settings of [secure_ml], its back end being XCom."""
    from airflow.sdk.execution_time import task_runner, xcom

    from airflow_secure_ml.xcom import SealedXComBackend, sequences

    sequences._in_order.clear()

    def make(backend=SealedXComBackend, **settings):
        settings.setdefault("xcom_keys_dir", str(tmp_path / "keys"))
        here = MemoryDeployment(parse_settings(settings))
        database = Database()
        use_deployment(here)
        use_sink(here.audit)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", database, raising=False)
        monkeypatch.setattr(xcom, "XCom", backend)
        return Bench(here, database, backend)

    yield make
    use_sink(None)
    use_deployment(None)


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def serde(monkeypatch):
    """Which classes Airflow makes of stored values, and a stored value of one that it allows."""
    from airflow.sdk import serde

    made, load = [], serde.import_string

    def seen(name):
        made.append(name)
        return load(name)

    monkeypatch.setattr(serde, "import_string", seen)
    stored = {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1]}
    return SimpleNamespace(made=made, tuple=stored)
