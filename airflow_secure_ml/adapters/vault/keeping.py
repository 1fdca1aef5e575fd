"""Keep leases alive, and end them: what the guardian does with what it was handed.

Standard library alone. Each lease and each token has threads of its own, so none waits for
another's answer and the guardian for none. All are made when something is handed over: at the end
of a task that used up what its user may have, none could be.

Source: SECURE_TASK, The guardian.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.adapters.vault.line import LineError, VaultLine

# A third of a term leaves room for two tries more before it ends.
_PART = 3
_SHORTEST_S, _LONGEST_S = 0.2, 86400.0
_RETRY_S, _LEAST_TIMEOUT_S = 2.0, 0.5
# What is known of may be confirmed before the token takes everything with it, if that is soon.
_UNSEEN_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
# As many threads as leases fit into a small limit of memory.
_STACK_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True, eq=False)
class Kept:
    """One lease.

    Attributes:
        line: Number of the line it was taken over.
        id: The lease id.
        digest: The lease id as events name it.
        path: Where it was made.
        ttl_s: Its term when it was granted, in seconds; 0: nobody told.
        renewable: Whether to prolong it.
        of: The event that granted it.
        ends_s: The clock when it ends by itself.
        renewals: How often it was prolonged.
        is_over: Whether nothing more is tried to end it.
        result: `ok`: it has ended; `unknown`: Vault was told to end it, with its token; `failed`.
        why: A reason's code with `failed`.
    """

    line: int
    id: str = field(repr=False)
    digest: str
    path: str
    ttl_s: int
    renewable: bool
    of: str
    ends_s: float = float("inf")
    renewals: int = 0
    is_over: bool = False
    result: str = "failed"
    why: str | None = "service_unavailable"


@dataclass(slots=True, kw_only=True, eq=False)
class _Line:
    """A token; `asked` counts leases asked for with it of which nothing was heard."""

    vault: VaultLine
    ours: bool
    ttl_s: int
    ends_s: float
    asked: int = 0
    is_due: bool = False
    is_over: bool = False
    has_ended: bool = False


Tell = Callable[[str, str | None, Kept], None]


class LeaseKeeper:
    """Every lease of one task.

    Args:
        tell: Takes `ok` or `failed`, a reason's code, and the lease, for each renewal; called
            from any thread.
        clock: Seconds; any zero.
    """

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._lines: dict[int, _Line] = {}
        # Also tells that something is over.
        self._changed = threading.Condition()
        self._ending = False
        self.leases: list[Kept] = []
        threading.stack_size(_STACK_BYTES)

    def take_line(self, given: Mapping[str, Any]) -> None:
        """Take a server and a token: `line`, `server`, `token`, `ttl_s`, `ours`.

        Raises:
            ValueError: All is at its end, or no thread can be made; OSError: its certificates
                cannot be read.
        """
        ttl_s = int(given["ttl_s"])
        line = _Line(
            vault=VaultLine(given["server"], given["token"]),
            ours=bool(given["ours"]),
            ttl_s=ttl_s,
            ends_s=self._clock() + ttl_s if ttl_s else float("inf"),
        )
        self._begin(self._keep_token, line)
        self._begin(self._end_token, line)
        self._lines[given["line"]] = line

    def ask(self, number: int) -> None:
        """Take it that a lease is being asked for: should it not be heard of, its token ends."""
        with self._changed:
            self._lines[number].asked += 1

    def answered(self, number: int) -> None:
        """Take it that what was asked for was heard of."""
        with self._changed:
            line = self._lines[number]
            line.asked = max(0, line.asked - 1)

    def take_lease(self, given: Mapping[str, Any]) -> None:
        """Take a lease: the fields of `Kept` up to `of`; errors as in `take_line`."""
        names = ("line", "id", "digest", "path", "ttl_s", "renewable", "of")
        lease = Kept(**{name: given[name] for name in names})
        if lease.ttl_s:
            lease.ends_s = self._clock() + lease.ttl_s
        self._begin(self._keep, lease)
        self._begin(self._end, lease)
        self.leases.append(lease)
        self.answered(lease.line)

    def end(self, *, with_tokens: bool = False) -> None:
        """Prolong nothing more, and begin to end everything; returns at once.

        Args:
            with_tokens: The tokens too that were made for the task.
        """
        with self._changed:
            self._ending = True
            for line in self._lines.values():
                line.is_due = line.is_due or with_tokens or line.asked > 0
            self._changed.notify_all()

    def wait(self, deadline_s: float) -> bool:
        """Return once nothing more is tried, or after so many seconds; whether it is so."""
        with self._changed:
            return self._changed.wait_for(self._is_over, deadline_s)

    def _is_over(self) -> bool:
        tokens = (line.is_over or not (line.ours and line.is_due) for line in self._lines.values())
        return all(lease.is_over for lease in self.leases) and all(tokens)

    def _begin(self, work: Callable[[Any], None], subject: Any) -> None:
        if self._ending:
            raise ValueError("everything is being ended")
        try:
            threading.Thread(target=work, args=(subject,), daemon=True).start()
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    def _is_so(self, condition: Callable[[], bool], wait_s: float) -> bool:
        """Wait so long at most; whether it is so."""
        # A little less: those that began at once need not come back at once.
        wait_s *= random.uniform(0.9, 1.0)  # noqa: S311 - no secret
        wait_s = max(_SHORTEST_S, min(wait_s, _LONGEST_S))
        with self._changed:
            return self._changed.wait_for(condition, wait_s)

    def _keep(self, lease: Kept) -> None:
        wait_s = lease.ttl_s / _PART if lease.renewable and lease.ttl_s else None
        while wait_s is not None and not self._is_so(lambda: self._ending, wait_s):
            wait_s = self._renewed(lease)

    def _renewed(self, lease: Kept) -> float | None:
        """Prolong a lease once; seconds until the next time, None: no more."""
        vault = self._lines[lease.line].vault
        try:
            left_s = vault.renew(lease.id, lease.ttl_s, _timeout_s(lease.ttl_s))
        except LineError as error:
            if not error.refused and self._clock() < lease.ends_s:
                return _retry_s(lease.ttl_s)
            why = "lease_refused" if error.refused else "service_unavailable"
            self._tell_renewed("failed", why, lease)
            return None
        lease.renewals += 1
        lease.ends_s = self._clock() + left_s
        self._tell_renewed("ok", None, lease)
        # At its longest life Vault gives it less each time, and nothing in the end.
        return left_s / _PART if left_s > min(1, lease.ttl_s - 1) else None

    def _tell_renewed(self, result: str, why: str | None, lease: Kept) -> None:
        # One that is being ended was prolonged in vain.
        if not self._ending:
            self._tell(result, why, lease)

    def _keep_token(self, line: _Line) -> None:
        # Also while leases are being ended: Vault itself would try less often, and tells nobody.
        wait_s = line.ttl_s / _PART
        while line.ttl_s and not self._is_so(lambda: self._ending and self._is_free(line), wait_s):
            try:
                line.ttl_s = line.vault.renew_token(_timeout_s(line.ttl_s))
            except LineError as error:
                if error.refused:
                    return
                wait_s = _retry_s(line.ttl_s)
                continue
            line.ends_s = self._clock() + line.ttl_s if line.ttl_s else float("inf")
            wait_s = line.ttl_s / _PART

    def _end(self, lease: Kept) -> None:
        """Once it is time, end a lease; until it ends by itself, if need be."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending)
        line = self._lines[lease.line]
        error = self._tried(lambda: line.vault.revoke(lease.id, line.vault.timeout_s), lease.ends_s)
        with self._changed:
            if error is not None and error.refused and line.ours and not error.token_is_gone:
                # The token may not do this: its own end is what is left.
                line.is_due = True
                line.asked += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: line.is_over)
            if error is None:
                lease.result, lease.why = "ok", None
            elif error.token_is_gone or line.has_ended:
                lease.result, lease.why = "unknown", None
            elif error.refused:
                lease.why = "lease_refused"
            lease.is_over = True
            self._changed.notify_all()

    def _end_token(self, line: _Line) -> None:
        """Once it is due, end a token, and every lease that was taken with it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending and line.is_due and line.ours)
            # What is known of is better ended by itself: then it is known to have ended, too.
            self._changed.wait_for(lambda: self._is_free(line) or line.asked > 0, _LONGEST_S)
            self._changed.wait_for(lambda: self._is_free(line), _UNSEEN_S)
        error = self._tried(lambda: line.vault.revoke_token(line.vault.timeout_s), line.ends_s)
        with self._changed:
            line.is_over, line.has_ended = True, error is None or error.token_is_gone
            self._changed.notify_all()

    def _is_free(self, line: _Line) -> bool:
        return all(one.is_over for one in self.leases if self._lines[one.line] is line)

    def _tried(self, act: Callable[[], None], until_s: float) -> LineError | None:
        """Do something until it is done, refused, or of no use any more."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                act()
            except LineError as error:
                if error.refused or self._clock() >= until_s:
                    return error
            else:
                return None
            # Not all at once, when Vault comes back to many.
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _timeout_s(ttl_s: int) -> float:
    """How long an answer is waited for, so that there is time to ask again."""
    return max(_LEAST_TIMEOUT_S, ttl_s / (2 * _PART))


def _retry_s(ttl_s: int) -> float:
    """Soon, where the term is short; where there is time, Vault has others to answer."""
    return max(min(_RETRY_S, ttl_s / (2 * _PART)), ttl_s / 120)
