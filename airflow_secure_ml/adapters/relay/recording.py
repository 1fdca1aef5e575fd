"""Record alerts so that a kill at any point can be made out afterwards.

Each handful of alerts is an emitter of its own: what was not settled can be forgotten with it, and
what a killed process left is in its segment until the sequencer took it.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_secure_ml.errors import SecureMLError

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.event import Fact
    from airflow_secure_ml.core.ports import AuditSink

log = logging.getLogger(__name__)


class AlertRecorder:
    """Records alerts. A `services.alerting.Recorder`.

    Args:
        open_sink: A new emitter.
        folders: Where segments lie until they are sequenced.
        ensure: Sees to it that somebody sequences them.
    """

    def __init__(
        self,
        open_sink: Callable[[], AuditSink],
        folders: Sequence[Path],
        ensure: Callable[[], None],
    ) -> None:
        self._open_sink, self._folders, self._ensure = open_sink, folders, ensure
        self._sink: AuditSink | None = None
        self._names: set[str] = set()

    def record(self, fact: Fact) -> str:
        """As the sink; nothing leaves memory before `settle`."""
        if self._sink is None:
            self._sink = self._open_sink()
        name = self._sink.record(fact)
        self._names.add(name)
        return name

    def settle(self) -> None:
        """As the sink."""
        if self._sink is not None:
            self._sink.settle()

    def abandon(self) -> None:
        """Forget what was recorded and not settled; its segment was never made."""
        self._sink = None
        self._names.clear()

    def close(self) -> None:
        """End the emitter, and have it sequenced."""
        sink, self._sink = self._sink, None
        self._names.clear()
        try:
            if sink is not None:
                sink.close()
            self._ensure()
        except SecureMLError as error:
            # What was settled is durable, and any later sequencer takes it up.
            log.warning("alerts wait in the spool: %s", error)

    def owns(self, name: str) -> bool:
        """Whether this process recorded it, and did not forget it."""
        return name in self._names

    def may_come(self, name: str) -> bool:
        """Whether a segment of its emitter is still there.

        Once it is not, the log has all that was in it: the sequencer commits, then unlinks.
        """
        emitter = name.partition(":")[0]
        found = any(any(folder.rglob(f"{emitter}-*.seg")) for folder in self._folders)
        if found:
            self._ensure()
        return found
