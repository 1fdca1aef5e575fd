"""A batch of leaves in the making: what one step of the sequencer is about to add.

Nothing of it counts before the log has taken it whole.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.ports import (
    Batch,
    EmitterRow,
    LogWriter,
    NewLeaf,
    Segment,
)
from airflow_secure_ml.core.audit.tiles import build_tiles
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.services.following import Refusal
from airflow_secure_ml.services.own_events import Clock, Host, OwnEmitter, seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Self:
    """Who the sequencer is.

    Attributes:
        emitter: Its own emitter, 32 hex digits.
        host: What it says of itself.
        clock: Where its times come from.
        opened_ms: The monotonic clock when it began.
    """

    emitter: str
    host: Host
    clock: Clock
    opened_ms: int


@dataclass(slots=True, kw_only=True)
class Draft:
    """Leaves, rows and hidden values of one transaction.

    Attributes:
        me: Who the sequencer is.
        log: The log as it is before.
        own: The sequencer's own emitter after this batch; None: it said nothing yet.
        leaves: New leaves, in order.
        asides: Hidden values that came with them.
        changed: Emitters' rows after it.
        done: Segments that can go once the batch is in the log.
        has_more: Whether something was left for the next batch.
        held_bytes: Bytes of its leaves and hidden values.
    """

    me: Self
    log: LogWriter
    own: OwnEmitter | None
    leaves: list[NewLeaf] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    changed: dict[str, EmitterRow] = field(default_factory=dict)
    done: list[Segment] = field(default_factory=list)
    has_more: bool = False
    held_bytes: int = 0
    _hashes: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    def put(self, leaf: NewLeaf) -> None:
        """Add a leaf."""
        self.leaves.append(leaf)
        self.held_bytes += len(leaf.data)
        self._hashes[leaf.event["emitter"], leaf.event["seq"]] = leaf.hash

    def hide(self, aside: Aside) -> None:
        """Add a hidden value."""
        self.asides.append(aside)
        self.held_bytes += len(aside.value) + len(aside.h) + len(aside.salt)

    def known(self, emitter: str, seq: int) -> bytes | None:
        """Leaf hash of an event that is in the log or in this batch."""
        found = self._hashes.get((emitter, seq))
        return found if found is not None else self.log.event_hash(emitter, seq)

    def say(self, fact: Fact) -> None:
        """Add a fact of the sequencer's own."""
        # The first leaf of a log is trail.start; any later sequencer introduces itself.
        own = self._new_own() if fact.act == "trail.start" else self.introduce()
        self.own, leaf = own.say(fact, self.me.clock)
        self.put(leaf)

    def introduce(self) -> OwnEmitter:
        """Say who the sequencer is, unless that was said."""
        if self.own is None:
            opening = seen("emitter.open", host=self.me.host.name, **self.me.host.facts)
            self.own, leaf = self._new_own().say(opening, self.me.clock)
            self.put(leaf)
        return self.own

    def _new_own(self) -> OwnEmitter:
        row = EmitterRow(id=self.me.emitter, state="sequencer")
        return OwnEmitter(row=row, opened_ms=self.me.opened_ms)

    def end_self(self) -> None:
        """Say that the sequencer ends."""
        if self.own is not None:
            self.say(seen("emitter.close", events=self.own.row.next_seq + 1))
            self.own = replace(self.own, row=replace(self.own.row, state="sequencer_ended"))

    def refuse(
        self,
        refusal: Refusal,
        segment: Segment,
        at: int,
        keep: Callable[[str, bytes], bool],
    ) -> None:
        """Say that bytes were refused, once however often they are read, and keep them."""
        found = leaf_hash(refusal.data).hex()
        if found in self._refused or self.log.has_refused(found):
            return
        self._refused.add(found)
        fact = seen(
            "trail.refused",
            why=refusal.why,
            emitter=segment.emitter,
            seq=refusal.seq,
            at=at,
            bytes=len(refusal.data),
            hash=found,
            because=refusal.because[:200],
            kept=keep(found, refusal.data),
        )
        self.say(fact)

    def batch(self) -> Batch | None:
        """What is to be added; None: nothing."""
        if not self.leaves and not self.changed and not self.asides:
            return None
        old = self.log.edge()
        hashes = [leaf.hash for leaf in self.leaves]
        own = () if self.own is None else (self.own.row,)
        return Batch(
            old_size=old.size,
            leaves=self.leaves,
            edge=old.append(hashes),
            tiles=build_tiles(old.size, hashes, self.log.leaf_hashes, self.log.tile),
            emitters=(*self.changed.values(), *own),
            asides=self.asides,
        )
