"""What a run keeps on this machine while it lasts: plaintext, leased credentials, and their guard.

Nothing comes here before the guard watches, and all of it ends with the run: leases are revoked,
plaintext is shredded, by this process or by the guard that outlives it.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.credential import Credential
from airflow_secure_ml.services.desk import Desk, RunGuard, ScratchDirectory, Work
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.leasing import Leased, Leases


class Shelter:
    """Scratch, leases and guard of one run; nothing is made until it is asked for.

    Args:
        desk: Makes them.
        journal: Where it says what it does.
    """

    def __init__(self, desk: Desk, journal: Journal) -> None:
        self._desk, self._journal = desk, journal
        self._scratch: ScratchDirectory | None = None
        self._guard: RunGuard | None = None
        self._leases: Leases | None = None
        self._recorded: Sequence[str] = ()

    @property
    def leased(self) -> Sequence[Leased]:
        """The credentials that the body may use."""
        return () if self._leases is None else self._leases.taken

    def prepare(self, need_bytes: int) -> ScratchDirectory:
        """A directory with so much room, and its guard on its way."""
        self._scratch = self._desk.make_scratch(need_bytes)
        self._guard = self._desk.guard(self._scratch.root)
        return self._scratch

    def await_guard(self) -> None:
        """Return once somebody watches over the plaintext or the lease that comes next."""
        if self._guard is not None:
            self._guard.ready()

    def take_leases(self, work: Work) -> Mapping[str, Credential]:
        """Last before the body, so that no refusal comes after a lease."""
        if not work.plan.leases:
            return {}
        assert self._guard is not None
        assert self._scratch is not None
        self._leases = Leases(work, self._guard, self._scratch)
        return self._leases.take()

    def end_use(self) -> None:
        """Have the body's credentials be of no more use to it; twice does nothing."""
        if self._leases is not None:
            self._leases.end_use()

    def revoke_and_shred(self) -> None:
        """End leases and plaintext.

        Raises:
            SecureMLError: Somebody still writes into scratch; recorded.
        """
        if self._scratch is None:
            return
        more = {"path": self._scratch.root.name}
        self.end_use()
        if self._guard is not None:
            report = self._guard.finish()
            if self._leases is not None:
                self._recorded = self._leases.record_ended(report)
        try:
            # The guard may be gone, and what it left is then ours; else this only lets go.
            self._scratch.shred()
        except SecureMLError as error:
            self._journal.refused("scratch.shred", error, more=more)
            raise
        self._journal.did("scratch.shred", more=more)

    def let_go(self, *, settled: bool) -> None:
        """Let the guard go; where the end does not stand in the trail, it sees to the rest."""
        if self._guard is not None and settled:
            self._guard.bye(self._recorded)
        elif self._guard is not None:
            self._guard.leave()
