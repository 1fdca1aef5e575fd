"""Run a program's `main`, or some code, as another user; what it needs is loaded before that.

Not by exec: a user who may do nothing else need not be able to read this interpreter.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys

LOADED = (
    "airflow_secure_ml.adapters.collector.line",
    "airflow_secure_ml.adapters.collector.places",
    "airflow_secure_ml.adapters.collector.server",
    "airflow_secure_ml.adapters.collector.usage",
    "airflow_secure_ml.adapters.log_signer",
    "airflow_secure_ml.adapters.log_signer.client",
    "airflow_secure_ml.adapters.log_signer.serving",
    "airflow_secure_ml.adapters.sequencer",
    "airflow_secure_ml.adapters.spool",
    "airflow_secure_ml.adapters.sqlite_audit",
    "airflow_secure_ml.adapters.subject_keys",
    "airflow_secure_ml.audit_ports",
    "airflow_secure_ml.collector",
    "airflow_secure_ml.core.audit.stamp",
    "airflow_secure_ml.sequencer",
    "airflow_secure_ml.services.auditing",
    "airflow_secure_ml.signer",
    "concurrent.futures.thread",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "fcntl",
    "gettext",
    "json",
    "linecache",
    "locale",
    "multiprocessing",
    "secrets",
    "shutil",
    "signal",
    "sqlite3",
    "time",
    "traceback",
)
_PR_SET_DUMPABLE = 4


def main() -> None:
    """`as_user.py UID program|code TEXT ARGUMENT…`."""
    uid, what, text, *arguments = sys.argv[1:]
    for name in LOADED:
        importlib.import_module(name)
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    # As a process that was started by that user would be.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    sys.argv = [what, *arguments]
    if what == "program":
        sys.exit(importlib.import_module(text).main(arguments))
    exec(compile(text, "<task>", "exec"), {"__name__": "task"})


if __name__ == "__main__":
    main()
