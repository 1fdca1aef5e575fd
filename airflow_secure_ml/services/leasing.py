"""Lease the credentials of a run, have them kept alive, and see them ended.

The guard is told how to reach the source before anything is taken from it: what was granted and
not yet handed over ends with the token, should this process die in between.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_secure_ml.core.lease import Granted
from airflow_secure_ml.core.ports import CredentialSource
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError, ServiceUnavailableError
from airflow_secure_ml.services.credential import Credential
from airflow_secure_ml.services.desk import GuardReport, RunGuard, ScratchDirectory, Work
from airflow_secure_ml.services.run_plan import LeaseRequest


@dataclass(slots=True, kw_only=True)
class Leased:
    """One credential that was leased.

    Attributes:
        request: What was asked for.
        granted: What was given.
        source: Who gave it.
        event: The event that says so; None: there is none yet.
    """

    request: LeaseRequest
    granted: Granted
    source: CredentialSource
    event: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The lease as events name it."""
        return {"path": self.request.path, "id": self.granted.id_digest}


class Leases:
    """The credentials of one run.

    Args:
        work: The run.
        guard: What keeps them; it watches already.
        scratch: Where a credential's files go.
    """

    def __init__(self, work: Work, guard: RunGuard, scratch: ScratchDirectory) -> None:
        self._work, self._guard, self._scratch = work, guard, scratch
        self._sources: dict[str | None, CredentialSource] = {}
        self._lines: dict[tuple[str | None, Secret], int] = {}
        self._credentials: dict[str, Credential] = {}
        self._away: dict[str | None, ServiceUnavailableError] = {}
        self.taken: list[Leased] = []

    def take(self) -> Mapping[str, Credential]:
        """Lease all of the plan; returns them by name.

        Raises:
            SecureMLError: One is refused, or its source does not answer; recorded. What was
                taken before is ended when the run is left.
        """
        for request in self._work.plan.leases:
            self._credentials[request.name] = self._take(request)
        return self._credentials

    def end_use(self) -> None:
        """Have the credentials that the body held give nothing away any more."""
        for credential in self._credentials.values():
            credential.end()

    def record_ended(self, report: GuardReport) -> Sequence[str]:
        """Record what the guard ended, and end here what it knows nothing of.

        Returns:
            The leases of whose end this run has told the trail, as events name them; the others
            are the guard's to record.
        """
        recorded = []
        for leased in self.taken:
            digest = leased.granted.id_digest
            if digest is None:
                continue
            if digest in report.revoked:
                self._say_ended(leased)
            elif report.is_alone or digest in report.held:
                self._work.journal.tell(
                    f"{leased.request.name}: {leased.request.path} is not revoked yet; the "
                    "guardian goes on until it is, or has ended by itself"
                )
                continue
            else:
                self._revoke(leased)
            recorded.append(digest)
        return recorded

    def _take(self, request: LeaseRequest) -> Credential:
        journal = self._work.journal
        lease, more = {"path": request.path}, {"connection": request.conn_id}
        since = journal.now()
        try:
            leased = self._grant(request)
        except SecureMLError as error:
            refusal = _as_refusal(error)
            journal.refused("lease.grant", refusal, lease=lease, more=more)
            raise refusal from error.__cause__
        granted = leased.granted
        facts = {**lease, "id": granted.id_digest, "ttl_s": granted.ttl_s}
        leased.event = journal.did("lease.grant", since=since, lease=facts, more=more)
        if granted.lease_id is not None:
            # The source may have had to log in anew meanwhile.
            number = self._line(request.source, leased.source)
            self._guard.take_lease(number, request.path, granted, leased.event)
        journal.tell(_words(leased, round((journal.now() - since) * 1000)))
        expires_at = self._expires_at(granted)
        return Credential(request.name, granted, expires_at, lambda: self._folder(request.name))

    def _grant(self, request: LeaseRequest) -> Leased:
        """Ask for a credential; whatever strikes here, the guard knows that it was asked for."""
        source = self._source(request.source)
        number = self._line(request.source, source)
        self._guard.ask(number)
        try:
            granted = source.grant(request.path, request.data)
        except ServiceRefusedError:
            self._guard.answered(number)
            raise
        leased = Leased(request=request, granted=granted, source=source)
        self.taken.append(leased)
        if granted.may_be_twice:
            self._guard.ask(number)
        if granted.lease_id is None:
            self._guard.answered(number)
        return leased

    def _source(self, name: str | None) -> CredentialSource:
        if name not in self._sources:
            self._sources[name] = self._work.desk.credentials(name)
        return self._sources[name]

    def _line(self, name: str | None, source: CredentialSource) -> int:
        """The line to a source with the token that it uses now; the guard has taken it."""
        line = source.line()
        known = self._lines.get((name, line.token))
        if known is None:
            known = len(self._lines)
            self._guard.take_line(known, line)
            self._lines[name, line.token] = known
        return known

    def _expires_at(self, granted: Granted) -> dt.datetime | None:
        if granted.ttl_s is None:
            return None
        now = dt.datetime.fromtimestamp(self._work.desk.now_ms() / 1000, tz=dt.UTC)
        try:
            return now + dt.timedelta(seconds=granted.ttl_s)
        except OverflowError:
            return dt.datetime.max.replace(tzinfo=dt.UTC)

    def _folder(self, name: str) -> Path:
        path = self._scratch.path_for(name)
        path.mkdir(mode=0o700)
        return path

    def _revoke(self, leased: Leased) -> None:
        """End a lease without the guard, and record what became of it."""
        assert leased.granted.lease_id is not None
        name = leased.request.source
        # Asked once: it keeps the task waiting, and has the same to say of the next lease.
        failure: SecureMLError | None = self._away.get(name)
        try:
            if failure is None:
                leased.source.revoke(leased.granted.lease_id)
        except ServiceUnavailableError as error:
            failure = self._away[name] = error
        except SecureMLError as error:
            failure = error
        if failure is None:
            self._say_ended(leased)
        else:
            self._say_held(leased, failure)

    def _say_held(self, leased: Leased, error: SecureMLError) -> None:
        journal, facts = self._work.journal, leased.facts
        journal.refused("lease.revoke", error, of=leased.event, lease=facts, more={})
        journal.tell(
            f"{leased.request.name}: {leased.request.path} was not revoked, and ends by itself: "
            f"{error}"
        )

    def _say_ended(self, leased: Leased) -> None:
        more = {"because": "task_ended"}
        self._work.journal.did("lease.revoke", of=leased.event, lease=leased.facts, more=more)
        self._work.journal.tell(f"revoked {leased.request.name}: {leased.request.path}")


def _as_refusal(error: SecureMLError) -> SecureMLError:
    """A source's no as the refusal of a lease; everything else as it is."""
    if not isinstance(error, ServiceRefusedError):
        return error
    return ServiceRefusedError(
        str(error),
        service=error.service,
        action=error.action,
        reason=error.reason,
        why="lease_refused",
    )


def _words(leased: Leased, took_ms: int) -> str:
    granted, request = leased.granted, leased.request
    if granted.lease_id is None:
        until = "not leased by its engine, so it is not revoked"
        if granted.ttl_s is not None:
            until = f"holds {granted.ttl_s} s and {until}"
    else:
        until = f"for {granted.ttl_s} s" + (", renewed" if granted.renewable else ", not renewable")
    return f"leased {request.name}: {request.path} in {took_ms} ms, {until}"
