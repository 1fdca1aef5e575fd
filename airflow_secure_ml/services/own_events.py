"""The sequencer's own facts: leaves of an emitter of its own, straight into the log.

Nothing here is stored; a caller keeps the new state once its batch is in the log.

Source: AUDIT_TRAIL, Producers and Sequencer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.event import Fact, assemble, parse_event
from airflow_secure_ml.core.audit.ports import EmitterRow, NewLeaf
from airflow_secure_ml.core.audit.tree import leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where times come from.

    Attributes:
        now_ms: Wall clock, ms since 1970 UTC.
        mono_ms: A clock that never goes back, ms since anything.
    """

    now_ms: Callable[[], int]
    mono_ms: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the sequencer says of itself in its first event.

    Attributes:
        name: The host's name.
        facts: Further facts of emitter.open, such as pid and version.
    """

    name: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEmitter:
    """The sequencer as an emitter.

    Attributes:
        row: Its row in the log.
        opened_ms: `mono_ms` when it began.
    """

    row: EmitterRow
    opened_ms: int

    def say(self, fact: Fact, clock: Clock) -> tuple[OwnEmitter, NewLeaf]:
        """Make the next leaf; returns the emitter after it."""
        now, last = clock.now_ms(), self.row.last
        record = assemble(
            fact,
            emitter=self.row.id,
            seq=self.row.next_seq,
            prev=None if last is None else last.hex(),
            time=now,
            mono=max(clock.mono_ms() - self.opened_ms, 0),
        )
        data = canonical.encode(record)
        leaf = NewLeaf(data=data, hash=leaf_hash(data), event=parse_event(data))
        row = replace(
            self.row,
            next_seq=self.row.next_seq + 1,
            last=leaf.hash,
            first_ms=now if last is None else self.row.first_ms,
            last_ms=now,
        )
        return replace(self, row=row), leaf


def seen(act: str, *, why: str | None = None, **more: Any) -> Fact:
    """A fact that the sequencer observed; `refused` if a reason is given."""
    result = "ok" if why is None else "refused"
    return Fact(act=act, phase="seen", result=result, why=why, more=more)
