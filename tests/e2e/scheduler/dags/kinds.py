"""Every kind of task that `secure()` is for: each reads one table and says how long it is."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, PokeReturnValue, task, task_group

from airflow_secure_ml import Reads, open_artifact, secure

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
RUN = f"{DATA}/{{{{ run_id }}}}"
TABLE = f"{RUN}/table.csv"
COUNT = "wc -c < {{ secure.table }}"
# Deferring for a short while can end in "state mismatch".
A_WHILE = timedelta(seconds=15)


def length(table: Path) -> int:
    return len(table.read_bytes())


class Deferring(BaseOperator):
    """Reads its table before it defers, and again when it goes on."""

    template_fields = ("path", "out")

    def __init__(self, *, path: str, out: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.path, self.out = path, out

    def execute(self, context):
        before = len(Path(self.path).read_bytes())
        self.defer(
            trigger=TimeDeltaTrigger(A_WHILE),
            method_name="go_on",
            kwargs={"before": before},
        )

    def go_on(self, context, event=None, before=0):
        Path(self.out).write_text("resumed")
        return [before, len(Path(self.path).read_bytes())]


with DAG("kinds_child", schedule=None):

    @task
    def nothing() -> None:
        pass

    nothing()


with DAG("kinds", schedule=None, catchup=False):

    @secure(writes={"table": TABLE})
    @task
    def make(table: Path) -> str:
        table.write_text("age\n41\n")
        return "made"

    reads = {"table": TABLE}
    made = make()

    @secure(reads=reads)
    @task
    def plain(table: Path) -> int:
        return length(table)

    @secure(reads=reads)
    @task
    async def asynchronous(table: Path) -> int:
        return length(table)

    python = secure(PythonOperator(task_id="python", python_callable=length), reads=reads)
    bash = secure(BashOperator(task_id="bash", bash_command=COUNT), reads=reads)

    @secure(reads=reads)
    @task.bash
    def bash_decorated(table: Path) -> str:
        return f"wc -c < {table}"

    @secure(reads=reads)
    @task.branch
    def branch(table: Path) -> str:
        return "taken" if length(table) == 7 else "not_taken"

    @task
    def taken() -> None:
        pass

    @task
    def not_taken() -> None:
        pass

    @secure(reads=reads, writes={"note": f"{RUN}/note.txt"})
    @task.short_circuit
    def short_circuit(table: Path, note: Path) -> bool:
        note.write_text("seen")
        return length(table) != 7

    @task
    def cut_off() -> None:
        pass

    @secure(reads=["part"], writes={"out": f"{RUN}/mapped-{{{{ ti.map_index }}}}.txt"})
    @task
    def mapped(part: Path, out: Path, factor: int) -> int:
        out.write_bytes(part.read_bytes() * factor)
        return length(part) * factor

    before_expand = secure(
        BashOperator.partial(task_id="before_expand"),
        reads=reads,
    ).expand(bash_command=[COUNT, "head -c 3 {{ secure.table }}"])
    after_expand = secure(
        BashOperator.partial(task_id="after_expand").expand(bash_command=[COUNT]),
        reads=reads,
    )

    @task_group
    def group(number: int):
        @secure(reads=reads, writes={"out": f"{RUN}/group-{{{{ ti.map_index }}}}.txt"})
        @task
        def member(number: int, table: Path, out: Path) -> int:
            out.write_text(str(number))
            return length(table) + number

        member(number)

    deferring = secure(
        Deferring(task_id="deferring", path="{{ secure.table }}", out="{{ secure.out }}"),
        reads=reads,
        writes={"out": f"{RUN}/deferred.txt"},
    )
    # Its trigger would end the task from the triggerer, where nothing can be recorded.
    sensor = secure(
        WaitSensor(task_id="sensor", time_to_wait=A_WHILE, deferrable=True), reads=reads
    )

    @secure(reads=reads)
    @task.sensor(mode="reschedule", poke_interval=15, timeout=300)
    def rescheduled(table: Path, run_id: str) -> PokeReturnValue:
        seen = Path(DATA, f"{run_id}-seen")
        if not seen.exists():
            seen.write_text("once")
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=length(table))

    trigger_dag = secure(
        TriggerDagRunOperator(
            task_id="trigger_dag", trigger_dag_id="kinds_child", trigger_run_id="{{ run_id }}"
        ),
        reads=reads,
    )
    human = secure(ApprovalOperator(task_id="human", subject="Release it?"), reads=reads)

    @secure(writes={"room": f"{RUN}/room.txt"})
    @task
    def prepare(room: Path) -> None:
        room.write_text("ready")

    @secure(reads={"room": f"{RUN}/room.txt"})
    @task
    def tidy(room: Path) -> str:
        return room.read_text()

    @secure(reads=reads)
    @task.virtualenv(system_site_packages=True)
    def virtualenv(table):
        with open(table, "rb") as file:
            return len(file.read())

    @secure(reads=reads)
    @task.external_python(python=sys.executable)
    def external_python(table):
        with open(table, "rb") as file:
            return len(file.read())

    @secure(reads={"table": Reads(TABLE, stream=True)})
    @task
    def streamed(table: BinaryIO) -> str:
        table.seek(4)
        return table.read().decode().strip()

    @secure(reads=["parts"])
    @task
    def reduced(parts: list[Path]) -> int:
        return sum(length(part) for part in parts)

    @secure(reads=reads, writes={"folder": f"{RUN}/folder"})
    @task
    def split(table: Path, folder: Path) -> None:
        folder.mkdir()
        for number, line in enumerate(table.read_text().split()):
            (folder / f"{number}.txt").write_text(line)

    @secure(reads=["folder"])
    @task
    def joined(folder: Path) -> str:
        return "+".join(sorted(path.read_text() for path in folder.iterdir()))

    @task
    def opening(source: str) -> int:
        with open_artifact(source) as path:
            return length(path)

    set_up = prepare().as_setup()
    done = plain()
    set_up >> done >> tidy().as_teardown(setups=set_up)
    chosen = branch()
    chosen >> [taken(), not_taken()]
    shortened = short_circuit()
    shortened >> cut_off()
    many = mapped.partial(factor=2).expand(part=[TABLE, TABLE])
    reduced(many["out"])
    halves = split()
    joined(halves["folder"])
    last = [
        many,
        halves,
        streamed(),
        opening(TABLE),
        group.expand(number=[10, 20]),
        bash_decorated(),
        asynchronous(),
        rescheduled(),
        virtualenv(),
        external_python(),
    ]
    made >> [set_up, python, bash, chosen, shortened, before_expand, after_expand, deferring]
    made >> [sensor, trigger_dag, human, *last]
