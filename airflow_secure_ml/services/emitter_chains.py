"""Follow the chain of each emitter's events through a log that is read from its beginning.

Each event names the one before it. What does not fit is held until it is known whether the
sequencer says that events are missing there.

Source: AUDIT_TRAIL, Must be caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.ports import WholeLog
from airflow_secure_ml.core.audit.receiving import RESERVED_ACTS
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.errors import AuditLogError

# Of an emitter whose end no leaf tells: (index of that leaf, state).
_LIVE = (-1, "live")


@dataclass(slots=True, kw_only=True)
class _Chain:
    """One emitter's events so far."""

    next_seq: int = 0
    last: bytes | None = None
    newest: int = 0
    broken_at: int | None = None
    broken_by: int = 0


class Chains:
    """The chains of all emitters, and how those ended.

    Args:
        log: Where an emitter's earlier events are looked up.

    Attributes:
        is_pruned: Whether the log's first leaves are there by their hashes alone.
    """

    def __init__(self, log: WholeLog) -> None:
        self._log = log
        self.is_pruned = False
        self._chains: dict[str, _Chain] = {}
        self._ended: dict[str, tuple[int, str]] = {}
        # Emitters that ended whole are counted, not held: a log has millions of them.
        self._whole = 0
        self._sequencers: set[str] = set()

    def add(self, at: int, event: Mapping[str, Any], found: bytes) -> None:
        """Take the next leaf.

        Args:
            at: Its index.
            event: What it says.
            found: Its hash.
        """
        emitter, seq = event["emitter"], event["seq"]
        chain = self._chains.get(emitter)
        if chain is None:
            chain = self._chains[emitter] = self._begun(event, at)
        prev = None if chain.last is None else chain.last.hex()
        if (seq, event.get("prev")) != (chain.next_seq, prev) and chain.broken_at is None:
            chain.broken_at = chain.newest if seq == chain.next_seq and seq else at
            chain.broken_by = at
        if seq >= chain.next_seq:
            chain.next_seq, chain.last, chain.newest = seq + 1, found, at

    def note(self, at: int, event: Mapping[str, Any]) -> None:
        """Take what the leaf `at`, which was added, says of emitters."""
        more, act = event.get("more", {}), event["act"]
        # Nobody else could say these: the sequencer refuses them from a spool.
        if act in RESERVED_ACTS:
            self._sequencers.add(event["emitter"])
        if act == "trail.emitter" and more.get("state") != "found":
            self._end(at, str(more.get("emitter")), str(more.get("state")))

    def ends(self) -> dict[str, int]:
        """How many emitters ended in which state, or still live; the sequencers' own are none."""
        held = self._chains.keys() - self._sequencers
        states = Counter(self._ended.get(emitter, _LIVE)[1] for emitter in held)
        return dict(sorted((states + Counter(whole=self._whole)).items()))

    def first_broken(self, low: int) -> int | None:
        """The first leaf from `low` on that does not fit its emitter's chain, if there is one."""
        broken = (chain.broken_at for chain in self._chains.values())
        return min((at for at in broken if at is not None and at >= low), default=None)

    def first_hole(self) -> int | None:
        """The first leaf before which an emitter's events are missing, said by the sequencer.

        Raises:
            AuditLogError: A leaf does not fit its emitter's chain, and no gap was said.
        """
        # A row may be edited: it counts only until a leaf says how its emitter ended.
        gaps = {row.id for row in self._log.emitters(["gap"])}
        holes = []
        for emitter, chain in self._chains.items():
            if chain.broken_at is None:
                continue
            # An emitter may go on after it ended: what was said before speaks of that only.
            said_at, state = self._ended.get(emitter, _LIVE)
            has_gap = state == "gap" if said_at > chain.broken_by else emitter in gaps
            if not has_gap:
                at = chain.broken_at
                raise AuditLogError(
                    f"audit log: leaf {at} does not fit its emitter's chain", index=at
                )
            holes.append(chain.broken_at)
        return min(holes, default=None)

    def _begun(self, event: Mapping[str, Any], at: int) -> _Chain:
        """A new emitter's chain, or that of one which goes on although it ended whole."""
        emitter, seq = event["emitter"], event["seq"]
        opened = self._log.event(emitter, 0) if seq else None
        if opened is None and seq and self.is_pruned:
            opened = self._log.event(emitter, seq - 1)
            if opened is None or opened[0] >= at:
                # What came before is there by its hash alone: the chain begins in its middle.
                prev = event.get("prev")
                last = None if prev is None else bytes.fromhex(prev)
                return _Chain(next_seq=seq, last=last, newest=at)
        if opened is None or opened[0] >= at:
            return _Chain()
        # It is one of those counted; what stands before `at` was verified in this very run.
        self._whole -= 1
        self._ended[emitter] = (-1, "whole")
        before = self._log.event(emitter, seq - 1)
        if before is None or before[0] >= at:
            return _Chain()
        return _Chain(next_seq=seq, last=leaf_hash(before[1]), newest=before[0])

    def _end(self, at: int, emitter: str, state: str) -> None:
        chain = self._chains.get(emitter)
        if chain is None and self.is_pruned:
            return
        if state == "whole" and chain is not None and chain.broken_at is None:
            self._whole += 1
            del self._chains[emitter]
            self._ended.pop(emitter, None)
            return
        self._ended[emitter] = (at, state)
