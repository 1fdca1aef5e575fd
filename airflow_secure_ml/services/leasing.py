"""Lease the credentials of a run, have them kept alive, and see them ended.

The guard is told how to reach the source before anything is taken from it: what was granted and
not yet handed over ends with the token, should this process die in between.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.lease import Granted
from airflow_secure_ml.core.ports import CredentialSource
from airflow_secure_ml.errors import SecureMLError, ServiceRefusedError
from airflow_secure_ml.services.credential import Credential
from airflow_secure_ml.services.desk import GuardReport, RunGuard, ScratchDirectory, Work
from airflow_secure_ml.services.run_plan import LeaseRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """One credential that was leased.

    Attributes:
        request: What was asked for.
        granted: What was given.
        source: Who gave it.
        event: The event that says so.
    """

    request: LeaseRequest
    granted: Granted
    source: CredentialSource
    event: str

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
        self._lines: dict[str | None, tuple[int, CredentialSource]] = {}
        self._credentials: dict[str, Credential] = {}
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

    def record_ended(self, report: GuardReport) -> bool:
        """Record what the guard ended, or end it here if the guard is gone.

        Returns:
            Whether every lease has ended; if not, the guard goes on trying.
        """
        complete = True
        for leased in self.taken:
            if leased.granted.lease_id is None:
                continue
            if leased.granted.id_digest in report.revoked:
                self._say_ended(leased)
            elif report.answered or not self._revoke(leased):
                complete = False
                self._work.journal.tell(
                    f"{leased.request.name}: {leased.request.path} could not be revoked yet; it "
                    "is tried until it ends by itself"
                )
        return complete

    def _take(self, request: LeaseRequest) -> Credential:
        journal = self._work.journal
        lease, more = {"path": request.path}, {"connection": request.conn_id}
        since = journal.now()
        try:
            number, source = self._line(request.source)
            granted = source.grant(request.path, request.data)
        except SecureMLError as error:
            refusal = _as_refusal(error)
            journal.refused("lease.grant", refusal, lease=lease, more=more)
            raise refusal from error.__cause__
        expires_at = self._expires_at(granted)
        facts = {**lease, "id": granted.id_digest, "ttl_s": granted.ttl_s}
        event = journal.did("lease.grant", since=since, lease=facts, more=more)
        if granted.lease_id is not None:
            self._guard.take_lease(number, request.path, granted, event)
        leased = Leased(request=request, granted=granted, source=source, event=event)
        self.taken.append(leased)
        journal.tell(_words(leased, round((journal.now() - since) * 1000)))
        return Credential(request.name, granted, expires_at, lambda: self._folder(request.name))

    def _line(self, name: str | None) -> tuple[int, CredentialSource]:
        if name not in self._lines:
            source = self._work.desk.credentials(name)
            self._guard.take_line(len(self._lines), source.line())
            self._lines[name] = (len(self._lines), source)
        return self._lines[name]

    def _expires_at(self, granted: Granted) -> dt.datetime | None:
        if granted.ttl_s is None:
            return None
        now_s = self._work.desk.now_ms() / 1000
        return dt.datetime.fromtimestamp(now_s + granted.ttl_s, tz=dt.UTC)

    def _folder(self, name: str) -> Any:
        path = self._scratch.path_for(name)
        path.mkdir(mode=0o700)
        return path

    def _revoke(self, leased: Leased) -> bool:
        assert leased.granted.lease_id is not None
        try:
            leased.source.revoke(leased.granted.lease_id)
        except SecureMLError as error:
            self._work.journal.refused(
                "lease.revoke", error, of=leased.event, lease=leased.facts, more={}
            )
            return False
        self._say_ended(leased)
        return True

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
