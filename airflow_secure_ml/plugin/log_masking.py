"""Airflow's masks, for what its components write of tasks to their own standard output.

With LocalExecutor each line of a task's log is copied to the scheduler's output, and Airflow masks
secrets in the log alone. What a component writes of its own goes through the same mask.
"""

from __future__ import annotations

from typing import Any


def mask_component_output() -> None:
    """Have this process's own log masked from here on, and that of its forked children."""
    import structlog
    from airflow.sdk.log import mask_logs

    processors: Any = structlog.get_config()["processors"]
    # In place: loggers that were used before hold this very list.
    if isinstance(processors, list) and processors and mask_logs not in processors:
        processors.insert(len(processors) - 1, mask_logs)
