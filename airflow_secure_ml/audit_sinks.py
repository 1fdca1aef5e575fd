"""Where this process says what it does, as the settings have it, and who takes that into the log.

Airflow is not imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_secure_ml.audit_ports import push_lines, push_target
from airflow_secure_ml.errors import SecureMLError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.spool.emitting import Lines
    from airflow_secure_ml.audit_ports import AuditPlace
    from airflow_secure_ml.core.audit.event import Fact, RunRef
    from airflow_secure_ml.core.ports import AuditSink
    from airflow_secure_ml.settings import Settings

log = logging.getLogger(__name__)


def open_emitter(
    settings: Settings, run: RunRef | None, program: str, *, airflow: str | None
) -> AuditSink:
    """A new emitter of this process.

    Args:
        settings: Where its events go.
        run: What they belong to that name no run themselves.
        program: What this process is, such as `task`.
        airflow: Airflow's version, where it is loaded.

    Raises:
        ConfigurationError: It is not clear where events are to be handed over to.
        MissingExtraError: What reaches that place is not installed.
    """
    from airflow_secure_ml.adapters.spool import EmitterSink

    return EmitterSink(
        program,
        _lines(settings),
        run=run,
        airflow=airflow,
        hide=settings.audit_hide,
        on_unavailable=settings.audit_unavailable,
    )


def _lines(settings: Settings) -> Lines:
    target = push_target(settings)
    if target is not None:
        return push_lines(target)
    if settings.audit_collector is not None:
        from airflow_secure_ml.adapters.collector.line import CollectorLines

        return CollectorLines(settings.audit_collector)
    from airflow_secure_ml.adapters.spool import SpoolLines

    if settings.audit_spool == "shared":
        _check_lasting(settings.audit_dir)
    return SpoolLines(settings.audit_dir, settings.audit_spare_dir)


def segment_folders(settings: Settings) -> list[Path]:
    """Where segments of this machine lie until they are in the log."""
    from airflow_secure_ml.core.audit.collecting import COLLECTED_DIRECTORY
    from airflow_secure_ml.core.audit.ingesting import INGESTED_DIRECTORY

    spare = settings.audit_spare_dir
    names = ("spool", COLLECTED_DIRECTORY, INGESTED_DIRECTORY)
    folders = [settings.audit_dir / name for name in names]
    return folders if spare is None else [*folders, spare]


def _check_lasting(folder: Path) -> None:
    from airflow_secure_ml.adapters.spool.lasting import check_lasting

    try:
        found = check_lasting(folder)
    except OSError:
        # The spool says so itself, as audit_unavailable has it.
        return
    if found is not None:
        log.warning("[secure_ml] audit_spool = shared: %s", found)


def ensure_sequencer(settings: Settings, place: AuditPlace) -> None:
    """Start the log's sequencer on this machine, unless one runs or the log is elsewhere.

    Raises:
        ServiceUnavailableError: It did not start.
    """
    from airflow_secure_ml.adapters.log_signer import KEY_FILE
    from airflow_secure_ml.adapters.relay import ensure_relay
    from airflow_secure_ml.adapters.sequencer import ensure_sequencer as ensure

    # The collector's user has its own.
    if settings.audit_collector is not None:
        return
    signer_socket = settings.audit_signer_socket
    if signer_socket is None and not (settings.audit_signer_dir / KEY_FILE).exists():
        return
    asks = () if signer_socket is None else ("--signer-socket", str(signer_socket))
    if settings.takes_ingest:
        asks = (*asks, "--ingest")
    spare = settings.audit_spare_dir
    ensure(
        settings.audit_dir,
        settings.audit_signer_dir,
        spares=() if spare is None else (spare,),
        log=(*place.arguments(), *asks),
    )
    if settings.has_relay_work:
        ensure_relay(settings.audit_dir)


class SequencedSink:
    """A sink that sees to it, once it is durable, that somebody sequences what it wrote.

    Args:
        sink: Where events go.
        ensure: Starts a sequencer unless one runs.
    """

    def __init__(self, sink: AuditSink, ensure: Callable[[], None]) -> None:
        self._sink, self._ensure = sink, ensure
        self._sequenced = False

    def record(self, fact: Fact) -> str:
        """As the sink."""
        return self._sink.record(fact)

    def settle(self) -> None:
        """As the sink; the first time, a sequencer is started."""
        self._sink.settle()
        if self._sequenced:
            return
        self._sequenced = True
        try:
            self._ensure()
        except SecureMLError as error:
            # What is in the spool is durable, and any later sequencer takes it up.
            log.warning("the audit trail's sequencer did not start: %s", error)

    def close(self) -> None:
        """As the sink."""
        self._sink.close()
