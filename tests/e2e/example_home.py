"""Where an example runs by itself: an Airflow home, a lake, and scratch in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def example_home(folder, **more):
    """The environment of an Airflow of its own; `more` goes before what is in it.

    Args:
        folder: Gets `home` and `lake`.
        **more: Further variables.
    """
    (folder / "home").mkdir()
    (folder / "lake").mkdir()
    scratch = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    yield {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__SECURE_ML__SCRATCH_DIRS": str(scratch),
        "SECURE_ML_DEMO_DATA": str(folder / "lake"),
        **more,
    }
    shutil.rmtree(scratch)
