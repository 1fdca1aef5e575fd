"""What a component of Airflow writes of tasks to its own output is masked, too."""

from __future__ import annotations

import subprocess
import sys

# As the scheduler does it: Airflow's own configuration of its components' logs.
COMPONENT = """
import os, sys
os.environ.pop("PYTEST_VERSION", None)
from airflow.logging_config import configure_logging
configure_logging()
import structlog
log = structlog.get_logger("supervisor")
log.info("before")
from airflow.sdk.log import mask_secret
mask_secret("s3cret-word")
{load}
log.info("a task says s3cret-word", logger="task.stdout", error_detail=[{{"v": "s3cret-word"}}])
if not os.fork():
    structlog.get_logger("another").info("a child says s3cret-word")
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
LOAD = """
from airflow_secure_ml.plugin.airflow_plugin import SecureMLPlugin
SecureMLPlugin.on_load()
SecureMLPlugin.on_load()
"""


def said(load):
    done = subprocess.run(
        [sys.executable, "-c", COMPONENT.format(load=load)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_copy_of_a_tasks_log_is_masked():
    out = said(LOAD)

    assert "s3cret-word" not in out
    assert "a task says ***" in out
    assert "a child says ***" in out


def test_airflow_alone_does_not_mask_it():
    """If this fails, Airflow masks by itself, and the plugin need not."""
    assert "a task says s3cret-word" in said("")
