"""The audit trail as the pages reach it: the log to read, the spool to write, the keys to trust.

Made once a process from the settings. Everything that can be slow or missing is opened by the call
that needs it, so that the pages say what is wrong instead of keeping Airflow from starting.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.relaying import RelayBook
from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    PolicyError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.recording import sink_of_this_process
from airflow_secure_ml.settings import Settings

log = logging.getLogger(__name__)
# A page's search; without an end, a few of them would hold every thread of the API server.
QUERY_S = 10.0
# What a page shows besides, such as how many there are: it is left out rather than waited for.
ASIDE_S = 0.2
# From an event's being durable to its being in the log: the sequencer's pace, and a margin.
TAKEN_S, _POLL_S = 3.0, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The newest checkpoint and whether its signature holds.

    Attributes:
        note: The whole note; empty if nothing was signed yet.
        checkpoint: What is signed, if a known key signed it.
        problem: Why it is not believed; empty if it is.
    """

    note: str = ""
    checkpoint: Checkpoint | None = None
    problem: str = ""

    @property
    def size(self) -> int:
        """How many leaves are proven; 0 without a checkpoint that holds."""
        return self.checkpoint.size if self.checkpoint else 0


class Trail:
    """One process's way to the trail; safe from many threads.

    Args:
        settings: Where everything lies.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Deployment(settings).audit_reader(query_s=QUERY_S)
        self.hasty_store = Deployment(settings).audit_reader(query_s=ASIDE_S)
        self.verifying = threading.Lock()

    @property
    def book(self) -> RelayBook:
        """What the relay beside this log remembers; nothing, where it runs elsewhere."""
        return Deployment(self.settings).relay_book

    def log_keys(self) -> tuple[LogKey, ...]:
        """As the deployment; its files may change while this process lives."""
        return Deployment(self.settings).log_keys()

    def signed(self) -> Signed:
        """The newest checkpoint, checked."""
        note = self.store.checkpoint()
        if note is None:
            return Signed()
        try:
            found = open_checkpoint(note, self.log_keys(), origin=self.store.origin())
            return Signed(note=note, checkpoint=found)
        except (ConfigurationError, FormatError, PolicyError, SignatureError) as error:
            return Signed(note=note, problem=str(error))

    def record(self, *facts: Fact) -> list[str]:
        """Record what a reader did; returns the events' names once they are durable.

        Raises:
            ServiceUnavailableError: It cannot be recorded, so it must not be done.
        """
        sink = sink_of_this_process(program="api-server")
        names = [sink.record(fact) for fact in facts]
        sink.settle()
        try:
            # Anew each time: this process lives longer than a sequencer that had nothing to do.
            deployment().ensure_sequencer()
        except ServiceUnavailableError as error:
            # The event is durable already; whoever records next tries again.
            log.warning("what a page recorded waits in the spool: %s", error)
        return names

    def has_taken(self, name: str) -> bool:
        """Wait until the log has what was recorded; False: not yet, a page shows it later."""
        deadline = time.monotonic() + TAKEN_S
        while self.store.find(name) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


def now_ms() -> int:
    """The wall clock, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def trail_of(request: Request) -> Trail:
    """The process's trail, made on first use.

    Raises:
        ConfigurationError: [secure_ml] does not say where it lies.
    """
    state = request.app.state
    if not hasattr(state, "trail"):
        state.trail = Trail(deployment().settings)
    trail: Trail = state.trail
    return trail


TrailDep = Annotated[Trail, Depends(trail_of)]
