"""Counters and gauges in Airflow's own metrics, where Airflow runs and was told to send them.

Nothing is raised and nothing is imported: a process in which Airflow did not set up its metrics
counts nothing. Values are numbers; no event's words leave this way.

Source: Airflow, Metrics Configuration.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.ports import AuditSink

log = logging.getLogger(__name__)

EVENTS, REFUSED, LOST = "secure_ml.events", "secure_ml.refused", "secure_ml.lost"
SIZE, LAG_S, WAITING = (
    "secure_ml.trail.size",
    "secure_ml.trail.lag_s",
    "secure_ml.trail.waiting_bytes",
)
# A task's process sets up the first; a server the second, and its forked tasks inherit that.
_MODULES = ("airflow.sdk.observability.stats", "airflow.observability.stats")


def count(name: str) -> None:
    """Add one to a counter."""
    _send("incr", name)


def gauge(name: str, value: float) -> None:
    """Set a gauge."""
    _send("gauge", name, value)


class CountedSink:
    """An AuditSink that counts what another one takes.

    Args:
        sink: The other one.
    """

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink

    def record(self, fact: Fact) -> str:
        """As the other one does; an event without a name was lost."""
        name = self._sink.record(fact)
        count(EVENTS if name else LOST)
        if name and fact.result == "refused":
            count(REFUSED)
        return name

    def settle(self) -> None:
        """As the other one does."""
        self._sink.settle()

    def close(self) -> None:
        """As the other one does."""
        self._sink.close()


def _send(kind: str, *values: str | float) -> None:
    try:
        stats = _stats()
        if stats is not None:
            getattr(stats, kind)(*values)
    except Exception:
        # A metric must never end what it counts, whatever a client of Airflow's raises.
        log.debug("metric %s was not sent", values[0], exc_info=True)


def _stats() -> Any:
    """The module whose metrics were set up in this process; None: no one's."""
    for name in _MODULES:
        module = sys.modules.get(name)
        initialize = getattr(module, "initialize", None)
        # Asked of the module that defines it: a call to one that was not set up is lost.
        if getattr(initialize, "__globals__", {}).get("_factory") is not None:
            return module
    return None
