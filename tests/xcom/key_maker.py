"""A process that finds or makes a DAG's key when told to, and may die in between.

Arguments: keyring, the keys' folder, what to die after (`header`, `pointer` or nothing). A line on
standard input starts it; it prints a value, sealed, in hex.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_xcom import key_context, key_folder
from airflow_secure_ml.services.sealed_values import OwnerKeys, seal_value


class Store(LocalObjects):
    """A store whose process dies once a name has been given."""

    def __init__(self, last):
        self.last = last

    def create(self, uri):
        writer = super().create(uri)
        commit = writer.commit
        kind = "header" if uri.endswith(".asmk") else "pointer"

        def dying(**how):
            commit(**how)
            if kind == self.last:
                os.kill(os.getpid(), signal.SIGKILL)

        writer.commit = dying
        return writer


def main(keyring, folder, last):
    store = Store(last)
    keys = OwnerKeys(
        store,
        store.canonical(folder),
        keys=LocalKeyring(Path(keyring)),
        wrap_key="data",
        open_keys=["data"],
    )
    print("ready", flush=True)
    sys.stdin.readline()
    context = key_context("churn")
    key = keys.sealing_key(key_folder("churn"), context)
    print(seal_value(b"hello", key=key, context=context).hex(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
