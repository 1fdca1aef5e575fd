"""Tasks that succeed, fail and are refused over data that must show up nowhere."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

from airflow_secure_ml import secure
from airflow_secure_ml.operators import ValidateDatasetOperator

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
HERE = f"{DATA}/{{{{ run_id }}}}"
SUITE = "adults.json"


def canary(run, name):
    """A word and a number that nobody could have by accident; the test computes them too."""
    drawn = hashlib.sha256(f"{run}/{name}".encode()).hexdigest()
    return f"Cnry{drawn[:24]}", 10**15 + int(drawn[24:], 16) % 10**15


def rows(run, name, *, age=41):
    word, number = canary(run, name)
    return f"age,name,number\n{age},{word},{number}\n35,{word},{number}\n"


def probe(run, task_id):
    """Keep command line and environment of this process's children and of our own programs."""
    found = b""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() or b"airflow_secure_ml" in command:
                found += command + b"\n" + (entry / "environ").read_bytes() + b"\n"
        except OSError:
            continue
    folder = Path(DATA) / "probes"
    folder.mkdir(exist_ok=True)
    (folder / f"{run}-{task_id}").write_bytes(found)


with DAG("canary", schedule=None, catchup=False, max_active_tasks=3) as canaries:

    @secure(writes={"table": f"{HERE}/table.csv"})
    @task
    def ingest(table: Path, run_id=None) -> int:
        table.write_text(rows(run_id, "ingest"))
        return 2

    @secure(reads={"table": f"{HERE}/table.csv"}, writes={"out": f"{HERE}/set"})
    @task
    def use(table: Path, out: Path, run_id=None) -> int:
        text = table.read_text()
        out.mkdir()
        (out / "part").write_text(text)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        probe(run_id, "use")
        child.communicate(b"\n")
        return len(text)

    in_bash = secure(
        BashOperator(task_id="in_bash", bash_command="wc -c < {{ secure.table }}"),
        reads={"table": f"{HERE}/table.csv"},
    )

    @secure(writes={"mixed": f"{HERE}/mixed.csv"})
    @task
    def mix(mixed: Path, run_id=None) -> None:
        mixed.write_text(rows(run_id, "mix", age=17))

    @secure(reads={"mixed": f"{HERE}/mixed.csv"})
    @task
    def raises(mixed: Path, run_id=None) -> None:
        held = mixed.read_text()
        word = canary(run_id, "raises")[0]
        assert held
        assert word
        raise ValueError("on purpose")

    validated = ValidateDatasetOperator(
        task_id="validated",
        dataset=f"{HERE}/mixed.csv",
        expect=SUITE,
        quarantine=f"{HERE}/bad.csv",
    )
    refused = ValidateDatasetOperator(task_id="refused", dataset=f"{HERE}/mixed.csv", expect=SUITE)

    def writing(task_id, make):
        from airflow_secure_ml import Writes

        def body(out: Path, run_id=None) -> None:
            out.write_text(make(run_id))

        name = {"out": Writes(target=f"{HERE}/{task_id}.csv", expect=SUITE)}
        return secure(task(body, task_id=task_id), writes=name)()

    def line(run, name, before="", after=""):
        return rows(run, name) + before + canary(run, name)[0] + after

    writing("failing", lambda run: rows(run, "failing", age=canary(run, "failing")[1]))
    writing("no_numbers", lambda run: rows(run, "no_numbers", age=canary(run, "no_numbers")[0]))
    writing("ragged", lambda run: line(run, "ragged", "1,2,3,4,5,", ",6\n"))
    writing("unclosed", lambda run: line(run, "unclosed", '"'))
    writing("header", lambda run: canary(run, "header")[0] + "\n41\n")

    @secure(writes={"out": f"{HERE}/extra"})
    @task
    def extra(out: Path, run_id=None) -> None:
        out.write_text(canary(run_id, "extra")[0])
        out.with_name("more").write_text(canary(run_id, "extra")[0])

    @secure(writes={"out": f"{HERE}/flipped"})
    @task
    def to_flip(out: Path, run_id=None) -> None:
        out.write_text(canary(run_id, "to_flip")[0])

    @task
    def flip(run_id=None) -> None:
        path = Path(DATA) / run_id / "flipped"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    @secure(reads={"flipped": f"{HERE}/flipped"})
    @task
    def tampered(flipped: Path) -> None:
        raise AssertionError("the body ran")

    @secure(reads={"table": f"{HERE}/table.csv"}, writes={"out": f"{HERE}/killed"})
    @task
    def dies(table: Path, out: Path, run_id=None) -> None:
        out.write_text(table.read_text() + canary(run_id, "dies")[0])
        os.kill(os.getpid(), signal.SIGKILL)

    @secure(writes={"out": f"{HERE}/exits"})
    @task
    def exits(out: Path, run_id=None) -> None:
        out.write_text(canary(run_id, "exits")[0])
        os._exit(3)

    @secure(reads={"table": f"{HERE}/table.csv"}, writes={"out": f"{HERE}/late"})
    @task(execution_timeout=timedelta(seconds=3))
    def late(table: Path, out: Path, run_id=None) -> None:
        out.write_text(table.read_text() + canary(run_id, "late")[0])
        time.sleep(60)

    ingested, mixed_up = ingest(), mix()
    ingested >> [use(), in_bash, dies(), late()]
    mixed_up >> [raises(), validated, refused]
    to_flip() >> flip() >> tampered()
    extra()
    exits()


with DAG("planted", schedule=None, catchup=False):

    @secure(writes={"out": f"{DATA}/planted/{{{{ run_id }}}}"})
    @task
    def plant(out: Path, templated: str, run_id=None) -> str:
        """Leave the run's own name, which is what is planted, wherever something can be left."""
        out.write_text("x")
        child = subprocess.Popen(
            [sys.executable, "-c", "input()", run_id],
            stdin=subprocess.PIPE,
            env=os.environ | {"PLANTED": run_id},
        )
        probe(run_id, "plant")
        child.communicate(b"\n")
        (Path(os.environ["TMPDIR"]) / "planted").write_text(run_id)
        return run_id

    @task
    def fail(run_id=None) -> None:
        raise ValueError(f"about {run_id}")

    plant(templated="{{ run_id }}") >> fail()
