"""An audit sink over the spool: each emitter writes segments of its own.

Sequencing is `services.auditing`'s business.

Source: AUDIT_TRAIL, When it is durable; Spool, bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Final

from airflow_secure_ml.adapters.spool.emitting import EmitterSink, mono_ms, now_ms
from airflow_secure_ml.adapters.spool.parts import Parts
from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.audit.lines import not_durable
from airflow_secure_ml.errors import ServiceUnavailableError

# A long-lived process would otherwise keep the sequencer from ever removing its segment.
MAX_SEGMENT_BYTES: Final = 16 << 20


class SpoolLines:
    """Gives each emitter its parts in the spool, and in the spare directory if need be.

    Args:
        audit_dir: On a local file system; `spool` in it is made 0700.
        spare_dir: A further spool directory, 0700, for when `audit_dir` cannot be written.
        system: Stands for module `os`.
    """

    def __init__(
        self,
        audit_dir: str | os.PathLike[str],
        spare_dir: str | os.PathLike[str] | None = None,
        *,
        system: Any = os,
    ) -> None:
        spares = () if spare_dir is None else (os.fspath(spare_dir),)
        self._folders = (os.path.join(os.fspath(audit_dir), "spool"), *spares)
        self._system = system

    def open(self, emitter: str) -> Parts:
        return Parts(self._system, self._folders, emitter, MAX_SEGMENT_BYTES)

    def unavailable(self, found: str) -> ServiceUnavailableError:
        advice = "free space or mend the directory, or set [secure_ml] audit_spare_dir"
        return not_durable("audit spool", " and ".join(self._folders), found, advice)


class Spool(EmitterSink):
    """An AuditSink over `<audit_dir>/spool`; safe from many threads, and across a fork."""

    def __init__(
        self,
        audit_dir: str | os.PathLike[str],
        program: str,
        *,
        run: RunRef | None = None,
        airflow: str | None = None,
        spare_dir: str | os.PathLike[str] | None = None,
        hide: Collection[str] = (),
        on_unavailable: str = "refuse",
        now_ms: Callable[[], int] = now_ms,
        mono_ms: Callable[[], int] = mono_ms,
        random_bytes: Callable[[int], bytes] = os.urandom,
        system: Any = os,
    ) -> None:
        """Store the arguments; the first event opens the emitter, its first `settle` the segment.

        Args:
            audit_dir: On a local file system; `spool` in it is made 0700.
            program: What this process is, such as `task`, `guardian`, `scheduler`.
            run: What events belong to that name no run themselves.
            airflow: Airflow's version, where it is loaded.
            spare_dir: A further spool directory, 0700, for when `audit_dir` cannot be written.
            hide: Fields to hide (option audit_hide).
            on_unavailable: `refuse` raises at a point not reached; `continue` counts it.
            now_ms: Wall clock, ms since 1970 UTC.
            mono_ms: A clock that never goes back, ms.
            random_bytes: Draws emitters and salts.
            system: Stands for module `os`.

        Raises:
            ConfigurationError: `hide` names a field that must stay readable, or another
                `on_unavailable`.
        """
        super().__init__(
            program,
            SpoolLines(audit_dir, spare_dir, system=system),
            run=run,
            airflow=airflow,
            hide=hide,
            on_unavailable=on_unavailable,
            now_ms=now_ms,
            mono_ms=mono_ms,
            random_bytes=random_bytes,
            system=system,
        )
