"""Tasks that hold a login and are ended by force; each says first who and where it is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psycopg
from airflow.sdk import DAG, BaseHook, task
from seen import DATA, READER, user_of

from airflow_secure_ml import secure


def say(name: str, run_id: str) -> None:
    """Who and where it is, in one step, so that nobody reads half of it."""
    said = {"user": user_of(), "pid": os.getpid(), "supervisor": os.getppid()}
    aside = Path(DATA) / f"{run_id}-{name}.aside"
    aside.write_text(json.dumps(said))
    aside.rename(aside.with_suffix(""))


with DAG("ends", schedule=None, catchup=False):

    @secure(credentials=READER)
    @task
    def killed(run_id=None) -> None:
        say("killed", run_id)
        time.sleep(600)

    @secure(credentials=READER)
    @task
    def exits(run_id=None) -> None:
        say("exits", run_id)
        os._exit(3)

    @secure(credentials=READER)
    @task
    def cleared(run_id=None) -> str:
        if (Path(DATA) / f"{run_id}-cleared").exists():
            return user_of()
        say("cleared", run_id)
        time.sleep(600)
        raise AssertionError("nobody ended it")

    killed()
    exits()
    cleared()


with DAG("orphans", schedule=None, catchup=False):

    @secure(credentials=READER)
    @task
    def orphaned(run_id=None) -> None:
        """Goes on without its supervisor, and finds its login gone."""
        login = BaseHook.get_connection("warehouse")
        say("orphaned", run_id)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                psycopg.connect(
                    host=login.host,
                    port=login.port,
                    dbname=login.schema,
                    user=login.login,
                    password=login.password,
                ).close()
            except psycopg.OperationalError:
                (Path(DATA) / f"{run_id}-lost").write_text("its login")
                return
            time.sleep(0.05)

    orphaned()
