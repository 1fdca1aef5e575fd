"""Keep leases alive, and end them: what the guardian does with what it was handed.

Standard library alone. Nothing here waits: the caller asks how long it may sleep and when to try.

Source: SECURE_TASK, The guardian.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.adapters.vault.line import LineError, VaultLine

# A third of a term leaves room for two tries more before it ends.
_PART = 3
_SHORTEST_S, _RETRY_S = 0.2, 2.0
_REVOKE_RETRY_S = 0.25


@dataclass(slots=True, kw_only=True)
class Kept:
    """One lease.

    Attributes:
        line: Number of the line it was taken over.
        id: The lease id.
        digest: The lease id as events name it.
        path: Where it was made.
        ttl_s: Its term when it was granted, in seconds.
        renewable: Whether to prolong it.
        of: The event that granted it.
        ends_s: The clock when it ends by itself.
        due_s: The clock when to prolong it next.
        renewals: How often it was prolonged.
        revoked: Whether it has been ended.
        reason: Why it could not be ended, so far.
    """

    line: int
    id: str = field(repr=False)
    digest: str
    path: str
    ttl_s: int
    renewable: bool
    of: str
    ends_s: float = 0.0
    due_s: float = 0.0
    renewals: int = 0
    revoked: bool = False
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class _Line:
    vault: VaultLine
    ours: bool
    ttl_s: int
    due_s: float


Tell = Callable[[str, str | None, Kept], None]


class LeaseKeeper:
    """Every lease of one task.

    Args:
        tell: Takes `ok` or `failed`, a reason's code, and the lease, for each renewal.
        clock: Seconds; any zero.
    """

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._lines: dict[int, _Line] = {}
        self.leases: list[Kept] = []

    def take_line(self, given: Mapping[str, Any]) -> None:
        """Take a server and a token: `line`, `server`, `token`, `ttl_s`, `ours`."""
        ttl_s = int(given["ttl_s"])
        self._lines[given["line"]] = _Line(
            vault=VaultLine(given["server"], given["token"]),
            ours=bool(given["ours"]),
            ttl_s=ttl_s,
            due_s=self._due_s(ttl_s) if ttl_s else float("inf"),
        )

    def take_lease(self, given: Mapping[str, Any]) -> None:
        """Take a lease: the fields of `Kept` up to `of`."""
        names = ("line", "id", "digest", "path", "ttl_s", "renewable", "of")
        lease = Kept(**{name: given[name] for name in names})
        lease.ends_s = self._clock() + lease.ttl_s
        lease.due_s = self._due_s(lease.ttl_s) if lease.renewable else float("inf")
        self.leases.append(lease)

    @property
    def held(self) -> list[Kept]:
        """What has not been ended."""
        return [lease for lease in self.leases if not lease.revoked]

    def wait_s(self) -> float | None:
        """Seconds until something is due; None: nothing will be."""
        due = [lease.due_s for lease in self.held] + [line.due_s for line in self._lines.values()]
        soonest = min(due, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - self._clock())

    def renew_due(self) -> None:
        """Prolong what is due; tokens first, since leases end with them."""
        now = self._clock()
        for line in self._lines.values():
            if line.due_s <= now:
                self._renew_token(line)
        for lease in self.held:
            if lease.due_s <= now:
                self._renew(lease)

    def revoke(self, deadline_s: float, sleep: Callable[[float], None] = time.sleep) -> bool:
        """End every lease; returns whether all are, or have ended by themselves.

        Args:
            deadline_s: Seconds after which it is given up for now; each is tried once at least.
            sleep: Waits between tries.
        """
        until = self._clock() + deadline_s
        while True:
            for lease in self.held:
                self._revoke(lease)
            if not self.held or self._clock() >= until:
                return not self.held
            sleep(_REVOKE_RETRY_S)

    def revoke_tokens(self) -> None:
        """End the tokens that were made for the task: what it took unseen ends with them."""
        for line in self._lines.values():
            if line.ours:
                try:
                    line.vault.revoke_token()
                except LineError:
                    # It ends at its TTL, since nobody prolongs it any more.
                    continue
                line.ours, line.due_s = False, float("inf")

    @property
    def last_end_s(self) -> float:
        """Seconds until the last lease that is held ends by itself; 0: none is held."""
        ends = [lease.ends_s for lease in self.held]
        return max(0.0, max(ends) - self._clock()) if ends else 0.0

    def _renew_token(self, line: _Line) -> None:
        try:
            line.ttl_s = line.vault.renew_token()
            line.due_s = self._due_s(line.ttl_s) if line.ttl_s else float("inf")
        except LineError as error:
            line.due_s = float("inf") if error.final else self._clock() + self._retry_s(line.ttl_s)

    def _renew(self, lease: Kept) -> None:
        try:
            left_s = self._lines[lease.line].vault.renew(lease.id, lease.ttl_s)
        except LineError as error:
            if not error.final and self._clock() < lease.ends_s:
                lease.due_s = self._clock() + self._retry_s(lease.ttl_s)
                return
            lease.due_s = float("inf")
            self._tell("failed", "lease_refused" if error.final else "service_unavailable", lease)
            return
        lease.renewals += 1
        lease.ends_s = self._clock() + left_s
        # At its longest life Vault gives it less each time, and nothing in the end.
        lease.due_s = self._due_s(left_s) if left_s > 1 else float("inf")
        self._tell("ok", None, lease)

    def _revoke(self, lease: Kept) -> None:
        try:
            self._lines[lease.line].vault.revoke(lease.id)
        except LineError as error:
            lease.reason = str(error)
            # One that has ended by itself needs no more.
            lease.revoked = self._clock() > lease.ends_s
            return
        lease.revoked, lease.reason = True, ""

    def _due_s(self, ttl_s: int) -> float:
        return self._clock() + max(_SHORTEST_S, ttl_s / _PART)

    def _retry_s(self, ttl_s: int) -> float:
        return max(_SHORTEST_S, min(_RETRY_S, ttl_s / (2 * _PART)))
