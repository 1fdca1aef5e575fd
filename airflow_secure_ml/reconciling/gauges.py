"""How the log stands, as gauges of Airflow's metrics: size, age of its newest event, what waits.

Nothing is raised: a log that cannot be read is what the round beside it tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.hooks.metrics import LAG_S, SIZE, WAITING, gauge

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.ports import AuditReader

log = logging.getLogger(__name__)


def set_up_metrics() -> None:
    """Have this process send metrics as Airflow's configuration says."""
    try:
        from airflow.configuration import conf
        from airflow.observability import stats
        from airflow.observability.metrics import stats_utils

        has_old_names = conf.getboolean("metrics", "legacy_names_on", fallback=True)
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=has_old_names)
    except Exception:
        # Coverage is checked with and without metrics, whatever their configuration holds.
        log.warning("metrics are not sent: Airflow's cannot be set up", exc_info=True)


def show_trail(reader_of: Callable[[], AuditReader], *, now_ms: Callable[[], int]) -> None:
    """Set the gauges.

    Args:
        reader_of: Gives the log.
        now_ms: Wall clock, ms since 1970 UTC.
    """
    try:
        reader = reader_of()
        size = reader.size()
        newest = reader.leaf(size - 1) if size else None
        beats = reader.page(EventQuery(acts=("trail.beat",)), limit=1)
    except Exception:
        # A page, an alert and the round itself tell of that; a gauge has no words.
        log.debug("the log's gauges are not set", exc_info=True)
        return
    gauge(SIZE, size)
    at = None if newest is None else newest.event.get("time")
    if isinstance(at, int):
        gauge(LAG_S, max(now_ms() - at, 0) / 1000)
    waiting = beats[0].event.get("more", {}).get("waiting_bytes") if beats else None
    if isinstance(waiting, int):
        gauge(WAITING, waiting)
