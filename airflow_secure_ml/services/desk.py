"""What a secured run works with: ports, rules and names, introduced once for each run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from airflow_secure_ml.core.lease import Granted, LeaseLine
from airflow_secure_ml.core.parquet.projection import ArrowFields
from airflow_secure_ml.core.policy import Decision, Rules
from airflow_secure_ml.core.ports import CredentialSource, DataChecker, KeySystem, ObjectStore
from airflow_secure_ml.errors import FormatError, PolicyError
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.run_plan import Plan


class ScratchDirectory(Protocol):
    """A private directory in memory for plaintext."""

    @property
    def root(self) -> Path:
        """The directory."""

    def path_for(self, name: str, address: str = "", *, index: int | None = None) -> Path:
        """A neutral path that does not exist yet, in a directory of its own."""

    def shred(self) -> None:
        """Remove everything; may be called twice. ServiceError if somebody still writes."""


class GuardReport(Protocol):
    """What a guard did when it was told to finish; leases go by the names that events give them."""

    @property
    def revoked(self) -> Collection[str]:
        """Leases that have ended; the run records that."""

    @property
    def held(self) -> Collection[str]:
        """Leases that it goes on to end, and records; in neither: it knows nothing of it."""

    @property
    def is_alone(self) -> bool:
        """Whether it took the run's end for come, so that it ends and records every lease."""


class RunGuard(Protocol):
    """Renews leases while a run lasts; revokes and removes plaintext when the run cannot."""

    def ready(self) -> None:
        """Return once it watches; PolicyError (guardian_unavailable) if it does not."""

    def take_line(self, number: int, line: LeaseLine) -> None:
        """Take how to reach a credential source; errors as in `ready`."""

    def ask(self, number: int) -> None:
        """Take it that a lease is asked for; should neither of these follow, its token ends."""

    def answered(self, number: int) -> None:
        """Take it that no lease came of it."""

    def take_lease(self, number: int, path: str, granted: Granted, of: str) -> None:
        """Take a lease that was granted over a line by the event `of`; errors as in `ready`."""

    def finish(self) -> GuardReport:
        """Have everything revoked and shredded now."""

    def bye(self, recorded: Collection[str]) -> None:
        """Let it go, once the shredding and the end of these leases stand in the trail."""

    def leave(self) -> None:
        """Let it go without that: it sees to what is left, and records everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Everything that a secured run may touch.

    Attributes:
        keys: The key system.
        store: From a canonical address to its store.
        scratch_store: A store over scratch paths.
        checker: Makes what holds data against expectations; only runs that check load it.
        rules: The platform team's rules; None: there are none.
        data_key: Key of a write that names none.
        signing_key: Key that signs every write.
        trusted_signers: Signers accepted where nothing else is said.
        make_scratch: A scratch directory with room for so many bytes.
        guard: A guard of a scratch directory, started and not waited for.
        credentials: From the name of a credential source to it; None: the deployment's.
        still_ours: Raises PolicyError (try_replaced) if another try took over.
        now_ms: Wall clock, ms since 1970 UTC.
        arrow_fields: Prunes Arrow's schema of a Parquet file; None: it is left out there.
    """

    keys: KeySystem
    store: Callable[[str], ObjectStore]
    scratch_store: ObjectStore
    checker: Callable[[], DataChecker]
    rules: Rules | None
    data_key: str
    signing_key: str
    trusted_signers: tuple[str, ...]
    make_scratch: Callable[[int], ScratchDirectory]
    guard: Callable[[Path], RunGuard]
    credentials: Callable[[str | None], CredentialSource]
    still_ours: Callable[[], None]
    now_ms: Callable[[], int]
    arrow_fields: ArrowFields | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run's desk, plan and journal.

    Attributes:
        desk: What it works with.
        plan: What it is to read and write.
        journal: Where it says what it does.
    """

    desk: Desk
    plan: Plan
    journal: Journal

    @property
    def today(self) -> dt.date:
        """The day in UTC, for rules that begin on one."""
        return dt.datetime.fromtimestamp(self.desk.now_ms() / 1000, tz=dt.UTC).date()

    def obey(self, decision: Decision, action: str, name: str) -> None:
        """Record a rule's decision, and return if it allows.

        Raises:
            PolicyError: It denies; FormatError where plain data is what it denies.
        """
        self.journal.decided(decision.as_record(), {"action": action}, decision.why)
        for warning in decision.warnings:
            self.journal.tell(f"{name}: {warning}")
        if decision.allow:
            return
        kind = FormatError if decision.why == "not_sealed" else PolicyError
        raise kind(f"{name}: {'; '.join(decision.reasons)}", why=decision.why)
