"""Secured tasks and operators whose data lies in S3 from end to end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

from airflow.sdk import DAG, task

from airflow_secure_ml import Reads, secure
from airflow_secure_ml.operators import (
    DecryptFileOperator,
    EncryptFileOperator,
    SignArtifactOperator,
    VerifyArtifactOperator,
)

BUCKET = os.environ.get("SECURE_ML_TEST_BUCKET", "bucket")
OTHER = os.environ.get("SECURE_ML_TEST_OTHER_BUCKET", "other-bucket")
DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
RAW, ROOT = f"s3://{BUCKET}/in", f"s3://{BUCKET}/{{{{ run_id }}}}"
# A percent sign and a space in a key are what they are.
TABLE, MODEL, FOLDER = f"{ROOT}/table 1%20.csv", f"s3://own@{OTHER}/model", f"{ROOT}/folder"

with DAG("on_s3", schedule=None, catchup=False):

    @secure(writes={"table": TABLE})
    @task
    def make(table: Path) -> None:
        table.write_text("age\n41\n")

    @secure(reads=["table"], writes={"model": MODEL})
    @task
    def train(table: Path, model: Path) -> None:
        model.write_bytes(table.read_bytes() * 2)

    @secure(reads={"tables": [TABLE, TABLE]})
    @task
    def count(tables: list[Path]) -> int:
        return sum(len(one.read_bytes()) for one in tables)

    @secure(reads={"table": Reads(TABLE, stream=True)})
    @task
    def stream(table: BinaryIO) -> str:
        table.seek(4)
        return table.read(2).decode()

    @secure(writes={"folder": FOLDER})
    @task
    def split(folder: Path) -> None:
        for name in ("a", "b/c"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)

    @secure(reads=["folder"])
    @task
    def join(folder: Path) -> list[str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [path.read_text() for path in files]

    encrypt = EncryptFileOperator(
        task_id="encrypt", source=f"{RAW}/plain.csv", target=f"{ROOT}/sealed.csv"
    )
    verify = VerifyArtifactOperator(task_id="verify", artifact=encrypt.output)
    sign = SignArtifactOperator(task_id="sign", artifact=encrypt.output)
    decrypt = DecryptFileOperator(
        task_id="decrypt", source=encrypt.output, target=f"{ROOT}/delivered.csv"
    )

    made = make()
    train(made["table"])
    made >> [count(), stream()]
    join(split()["folder"])
    verify >> sign >> decrypt

with DAG("reading_s3", schedule=None, catchup=False):

    @secure(reads={"table": f"s3://{BUCKET}/altered"})
    @task
    def read(table: Path) -> int:
        return len(table.read_bytes())

    @secure(writes={"table": f"s3://{BUCKET}/altered"})
    @task
    def write(table: Path) -> None:
        table.write_text("age\n41\n")

    @task
    def wait_until_altered() -> None:
        while not (Path(DATA) / "altered").exists():
            time.sleep(0.1)

    write() >> wait_until_altered() >> read()
