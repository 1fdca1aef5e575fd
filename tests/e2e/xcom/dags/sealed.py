"""Every way that Airflow moves XCom values, each checked by the task that receives them."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, get_current_context, task, task_group

from airflow_secure_ml import secure

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
TABLE = f"{DATA}/{{{{ run_id }}}}/table.csv"
CANARY = "canary-" + "c9d41e"
# Deferring for a short while can end in "state mismatch".
A_WHILE = timedelta(seconds=15)


class Deferring(BaseOperator):
    """Pushes before it defers and reads it when it goes on."""

    def execute(self, context):
        context["ti"].xcom_push(key="kept", value={"before": CANARY})
        self.defer(trigger=TimeDeltaTrigger(A_WHILE), method_name="go_on")

    def go_on(self, context, event=None):
        # A deferred task keeps its values.
        assert context["ti"].xcom_pull(task_ids=self.task_id, key="kept") == {"before": CANARY}
        return "resumed"


with DAG("child", schedule=None):

    @task
    def nothing() -> None:
        pass

    nothing()


# Airflow would print what a task returns in its log.
QUIET = {"show_return_value_in_logs": False}

with DAG("sealed", schedule=None, catchup=False, default_args=QUIET):

    @task
    def make() -> dict:
        return {"secret": CANARY, "numbers": [1, 2, 3], "pair": (1, 2)}

    @task
    def check(value: dict) -> None:
        assert value == {"secret": CANARY, "numbers": [1, 2, 3], "pair": (1, 2)}
        assert isinstance(value["pair"], tuple)

    made = make()
    check(made)

    BashOperator(
        task_id="templated",
        # What is rendered goes to the database in clear: never the value itself.
        bash_command="test {{ ti.xcom_pull(task_ids='make')['secret'] | length }} = 13",
    ).set_upstream(made.operator)

    BashOperator(task_id="no_value", bash_command="printf {{ run_id }}")

    @task
    async def asynchronous() -> str:
        ti = get_current_context()["ti"]
        await ti.axcom_push(key="own", value=CANARY)
        assert await ti.axcom_pull(task_ids="asynchronous", key="own") == CANARY
        return (await ti.axcom_pull(task_ids="make"))["secret"]

    waits = asynchronous()
    made >> waits

    @task(multiple_outputs=True)
    def several() -> dict:
        return {"left": CANARY, "right": [CANARY]}

    @task
    def one_of_several(right: list) -> None:
        assert right == [CANARY]

    one_of_several(several()["right"])

    @task
    def large() -> list:
        return [CANARY] * 4000

    @task
    def check_large(value: list) -> None:
        assert value == [CANARY] * 4000

    check_large(large())

    @task
    def parts() -> list:
        return ["a", "bb", "ccc"]

    @task
    def measure(part: str) -> int | None:
        # The second pushes nothing: a gap in the sequence.
        return None if part == "bb" else len(part)

    @task
    def double(number: int) -> int:
        return number * 2

    @task
    def total(numbers) -> None:
        assert list(numbers) == [2, 6]
        assert (numbers[0], numbers[-1], len(numbers)) == (2, 6, 2)
        assert list(numbers[::-1]) == [6, 2]

    @task
    def all_of(numbers) -> None:
        ti = get_current_context()["ti"]
        assert list(numbers) == [1, 3]
        assert ti.xcom_pull(task_ids="measure") == [1, 3]
        assert ti.xcom_pull(task_ids="measure", map_indexes=2) == 3

    measured = measure.expand(part=parts())
    all_of(measured)

    @task
    def two() -> list:
        return [1, 3]

    total(double.expand(number=two()))

    @task_group
    def group(number: int) -> None:
        @task
        def begin(number: int) -> int:
            return number + 1

        @task
        def end(number: int, begun: int) -> None:
            assert begun == number + 1

        end(number, begin(number))

    group.expand(number=two())

    @task.branch
    def branch() -> str:
        return "taken"

    @task
    def taken() -> None:
        pass

    @task
    def not_taken() -> None:
        pass

    branch() >> [taken(), not_taken()]

    @task.short_circuit
    def short_circuit() -> bool:
        return False

    @task
    def cut_off() -> None:
        pass

    short_circuit() >> cut_off()

    trigger = TriggerDagRunOperator(task_id="trigger", trigger_dag_id="child")

    @task
    def triggered() -> None:
        ti = get_current_context()["ti"]
        assert ti.xcom_pull(task_ids="trigger", key="trigger_run_id")

    trigger >> triggered()

    @secure(writes={"table": TABLE})
    @task
    def write(table: Path) -> str:
        table.write_text("age\n41\n")
        return CANARY

    @secure(reads=["table"])
    @task
    def read(table: Path, said: str) -> None:
        assert table.read_text() == "age\n41\n"
        assert said == CANARY

    written = write()
    read(written["table"], written)
    Deferring(task_id="deferring")


with DAG("other", schedule=None, catchup=False, default_args=QUIET):

    @task
    def pull_from_another_dag() -> str:
        ti = get_current_context()["ti"]
        run = "sealed-1"
        return ti.xcom_pull(dag_id="sealed", run_id=run, task_ids="make", map_indexes=-1)["secret"]

    pull_from_another_dag()


def wait_for(name: str) -> None:
    deadline = time.monotonic() + 300
    while not Path(DATA, name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.3)


with DAG("attacked", schedule=None, catchup=False):

    @task
    def mine() -> str:
        return "mine"

    @task
    def theirs() -> str:
        return "theirs"

    @task
    def plain() -> str:
        return "sealed at first"

    @task
    def wait() -> None:
        wait_for("attacked")

    @task(retries=3)
    def take_moved(value: str) -> None:
        raise AssertionError("its body ran")

    @task(retries=3)
    def take_plain(value: str) -> None:
        raise AssertionError("its body ran")

    first, second, third, waited = mine(), theirs(), plain(), wait()
    [first, second, third] >> waited
    waited >> [take_moved(first), take_plain(third)]
