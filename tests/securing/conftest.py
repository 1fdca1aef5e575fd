"""A wrapped task over a deployment of a test's own, as a task process has it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "services" / "secured_run" / "conftest.py"


@pytest.fixture
def shm():
    path = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bench(tmp_path, shm):
    """Real keys, files, spool, scratch and guardian, in this process's place."""
    from airflow_secure_ml.deployment import use_deployment
    from airflow_secure_ml.recording import use_sink

    spec = importlib.util.spec_from_file_location("bench_of_tasks", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made = module.Bench.make(tmp_path, shm)
    use_deployment(made)
    use_sink(made.sink())
    yield made
    use_sink(None)
    use_deployment(None)
    made.close()


@pytest.fixture
def execute():
    """Render and execute a task as a worker does, with what is left of its timeout."""
    from airflow.sdk.execution_time.timeout import TimeoutPosix

    from airflow_secure_ml.testing.task_context import Announced, TaskInstance, make_context

    def run(operator, timeout_s=3600.0):
        ti = TaskInstance(operator, "r1", -1)
        context = make_context(operator, ti, "2026-11-22", Announced())
        operator.render_template_fields(context)
        with TimeoutPosix(timeout_s):
            return operator.execute(context)

    return run
