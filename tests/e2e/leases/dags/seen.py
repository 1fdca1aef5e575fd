"""What a body learns of its leased login, and the ways in which it may give it away."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote, quote_plus

DATA = os.environ.get("SECURE_ML_TEST_DATA", "/tmp")
# Outside of everything that is searched.
SECRETS = Path(os.environ.get("SECURE_ML_TEST_SECRETS", "/tmp"))
READER = {"warehouse": "database/creds/reader"}


def user_of(conn_id: str = "warehouse") -> str:
    """Who PostgreSQL says is there, by Airflow's own hook; the password is kept aside."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection(conn_id)
    keep(found.password)
    (user,) = PostgresHook(conn_id).get_first("SELECT current_user")
    assert user == found.login
    probe()
    return user


def keep(secret: str) -> None:
    """Put a secret where the tests know what to search for."""
    (SECRETS / uuid.uuid4().hex).write_text(secret)


def probe() -> None:
    """Keep command line and environment of every process, as they are while a login is leased."""
    found = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            for name in ("cmdline", "environ"):
                try:
                    found += (entry / name).read_bytes() + b"\n"
                except OSError:
                    continue
    folder = Path(DATA) / "probes"
    folder.mkdir(exist_ok=True)
    (folder / uuid.uuid4().hex).write_bytes(found)


def spellings(secret: str) -> list[str]:
    """A secret as careless code writes it."""
    return [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]


def tell_everybody(secret: str, marker: str) -> None:
    """Write a secret wherever a task's text goes; the marker beside it shows that it got there."""
    for number, text in enumerate(spellings(secret)):
        print(f"{marker}-print-{number} {text}")
        print(f"{marker}-stderr-{number} {text}", file=sys.stderr)
        logging.getLogger("somebody.elses").warning(f"{marker}-log-{number} %s", text)
        logging.getLogger("airflow.task").info(f"{marker}-uri-{number} postgres://u:{text}@h/d")
        os.write(1, f"{marker}-handle-{number} {text}\n".encode())
        line = f"{marker}-child-{number} {text}\n"
        subprocess.run(["/bin/cat"], input=line.encode(), check=True)
