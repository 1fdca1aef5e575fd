"""A Deployment over in-memory ports: keys, objects under any scheme, no guardian process."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.lease import Granted, LeaseLine
from airflow_secure_ml.core.ports import AuditSink, CredentialSource, ObjectStore
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.desk import Desk, GuardReport, RunGuard, ScratchDirectory
from airflow_secure_ml.services.governed_keys import GovernedKeys
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.run_plan import Plan
from airflow_secure_ml.services.secured_run import Bound, Declared, SecuredRun
from airflow_secure_ml.settings import Settings
from airflow_secure_ml.testing.memory_credentials import MemoryCredentials
from airflow_secure_ml.testing.memory_objects import MemoryObjects
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryKeySystem

_ELSEWHERE = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[^/@]*@)?([^/@]+)/([^*?\[\0]+)")


class AnyObjects(MemoryObjects):
    """MemoryObjects that also takes `s3://` and whatever else a DAG may name."""

    def canonical(self, address: str) -> str:
        """The one address an object has, without a connection's name in it."""
        if "://" not in address or address.startswith("file://"):
            return super().canonical(address)
        found = _ELSEWHERE.fullmatch(address)
        parts = found[3].rstrip("/").split("/") if found else [".."]
        if found is None or any(part in ("", ".", "..") for part in parts):
            raise ConfigurationError(f"{address!r}: expected scheme://bucket/key, without a glob")
        return f"{found[1]}://{found[2]}/{'/'.join(parts)}"


class WatchedRun(SecuredRun):
    """A secured run that knows whether its body's turn came."""

    body_ran = False

    def open(self) -> Bound:
        """As in SecuredRun."""
        bound = super().open()
        self.body_ran = True
        return bound

    def move(self) -> Mapping[str, dict[str, Any]]:
        """As in SecuredRun; what has no body has had its turn when it is done."""
        moved = super().move()
        self.body_ran = True
        return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    revoked: tuple[str, ...]
    held: tuple[str, ...] = ()
    is_alone: bool = False


class _InProcessGuard:
    """Revokes and shreds when told; nobody outlives a test."""

    def __init__(self, scratch: ScratchDirectory, credentials: MemoryCredentials) -> None:
        self._scratch, self._credentials = scratch, credentials
        self._leases: list[Granted] = []

    def ready(self) -> None:
        """Return."""

    def take_line(self, number: int, line: LeaseLine) -> None:
        """Return: the source is in this process."""

    def ask(self, number: int) -> None:
        """Return: nothing strikes between the question and its answer."""

    def answered(self, number: int) -> None:
        """Return."""

    def take_lease(self, number: int, path: str, granted: Granted, of: str) -> None:
        """Revoke it when told."""
        self._leases.append(granted)

    def finish(self) -> GuardReport:
        """Have everything revoked and shredded now."""
        for granted in self._leases:
            assert granted.lease_id is not None
            self._credentials.revoke(granted.lease_id)
        self._scratch.shred()
        digests = [granted.id_digest for granted in self._leases]
        return _Report(revoked=tuple(one for one in digests if one))

    def bye(self, recorded: Collection[str]) -> None:
        """Return."""

    def leave(self) -> None:
        """Shred what is left."""
        self.finish()


class MemoryDeployment(Deployment):
    """A Deployment whose keys and objects live in this process.

    Attributes:
        objects: Every object, by address.
        memory_keys: The key system.
        memory_credentials: What is leased, whichever connection to Vault a lease names.
        audit: What was recorded.
        last_run: The newest secured run; None: there was none yet.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.objects = AnyObjects()
        self.memory_keys = MemoryKeySystem()
        self.keys = GovernedKeys(self.memory_keys, settings.crypto_policy)
        self.memory_credentials = MemoryCredentials()
        self.audit = MemoryAudit()
        self.last_run: WatchedRun | None = None
        self._scratch: dict[Path, ScratchDirectory] = {}

    def store(self, uri: str) -> ObjectStore:
        """The one store."""
        return self.objects

    def credentials(self, conn_id: str | None) -> CredentialSource:
        """The one source."""
        return self.memory_credentials

    def open_sink(self, run: RunRef | None, program: str) -> AuditSink:
        """The one sink."""
        return self.audit

    def ensure_sequencer(self) -> None:
        """Return: nothing is sequenced."""

    def _make_run(
        self, desk: Desk, make_plan: Callable[[], Plan], declared: Declared, journal: Journal
    ) -> SecuredRun:
        self.last_run = WatchedRun(desk, make_plan, declared, journal)
        return self.last_run

    def _make_scratch(self, need_bytes: int) -> ScratchDirectory:
        scratch = super()._make_scratch(need_bytes)
        self._scratch[scratch.root] = scratch
        return scratch

    def _guard(self, run: RunRef | None, root: Path) -> RunGuard:
        return _InProcessGuard(self._scratch.pop(root), self.memory_credentials)
