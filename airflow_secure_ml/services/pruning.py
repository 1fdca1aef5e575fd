"""Remove the bytes of old leaves, and only those that nobody is to keep: hashes and proofs stay.

What is decided here is decided under the sequencer's lock. An intent is in the log and signed
before the first byte goes; where to is written first, if anywhere, is `services.archiving`'s.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.ports import LogWriter, WholeLog
from airflow_secure_ml.core.audit.pruning import HELD, RELEASED, Hold, Holds, pruned_to
from airflow_secure_ml.core.audit.receiving import RESERVED_ACTS
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.sequencing import Sequencer

MAX_NAME_CHARS = 100
# Who may still add events: their older ones are counted and compared.
_OPEN = ("live", "gap")


@dataclass(slots=True)
class Survey:
    """What a log's leaves say of what may go.

    Attributes:
        first: The first leaf whose bytes are there.
        size: Number of leaves.
        holds: The holds that stand.
        live_from: First leaf of, or about, an emitter that has not ended; None: all have.
        older_than: Leaves below it were in the log before the time asked for.
        unfinished: Where a pruning that was broken off was to end; 0: none was.
    """

    first: int = 0
    size: int = 0
    holds: Holds = field(default_factory=Holds)
    live_from: int | None = None
    older_than: int = 0
    unfinished: int = 0

    def limit(self) -> int:
        """Below which leaf all may go: a multiple of 256."""
        lowest = self.holds.lowest(otherwise=self.size)
        live = self.size if self.live_from is None else self.live_from
        return _whole_tiles(min(lowest, live))

    def due(self) -> int:
        """Below which leaf all may go that is old enough."""
        return min(self.limit(), _whole_tiles(self.older_than))


def survey(
    leaves: Iterable[tuple[int, bytes]], live: Collection[str], *, before_ms: int = 0
) -> Survey:
    """Read a log's leaves for what may go.

    Only the sequencer's own clock tells how old a leaf is: what a task says of the time may keep
    or remove nothing.

    Args:
        leaves: (index, bytes) by index, from a log that verifies.
        live: Emitters that have not ended.
        before_ms: What was in the log by then is old enough, ms since 1970 UTC.
    """
    found = Survey()
    for index, data in leaves:
        event = json.loads(data)
        if not found.size:
            found.first = index
        found.size = index + 1
        # Who sends for an emitter is known by the leaf that says where it was found.
        about = event["more"]["emitter"] if event["act"] == "trail.emitter" else event["emitter"]
        if found.live_from is None and about in live:
            found.live_from = index
        if event["act"] not in RESERVED_ACTS:
            continue
        found.holds.note(index, event)
        if event["time"] < before_ms:
            found.older_than = index + 1
        if event["act"] == "trail.prune":
            found.unfinished = pruned_to(event) if event["phase"] == "intent" else 0
    return found


def survey_log(log: WholeLog, *, before_ms: int = 0) -> Survey:
    """The same of one consistent view."""
    live = {row.id for row in log.emitters(_OPEN)}
    return survey(((at, data) for at, data, _ in log.leaves()), live, before_ms=before_ms)


def prune_log(
    sequencer: Sequencer,
    checkpointer: Checkpointer,
    log: LogWriter,
    below: int,
    *,
    because: str,
    archive: str | None = None,
) -> None:
    """Prune a log that nobody else writes; the sequencer ends with it.

    Args:
        sequencer: Says it.
        checkpointer: Has it signed before anything goes, and after.
        log: The log.
        below: The first leaf that keeps its bytes, a multiple of 256.
        because: Why.
        archive: Where the bytes are kept from now on; None: nowhere.

    Raises:
        ConfigurationError: A hold, an emitter that has not ended, or the log's end forbids it.
        AuditLogError: The log is not what was signed; nothing is removed.
    """
    first, size = log.first_leaf(), log.edge().size
    live = {row.id for row in log.emitters(_OPEN)}
    _check(survey(enumerate(log.leaf_data(first, size), first), live), below)
    more = {"below": below, "because": because, "archive": archive}
    # Removes nothing; a login that may not remove leaves is refused before anything is said.
    log.prune(first)
    # Nothing goes that no checkpoint covers, and the intent is covered before anything goes.
    checkpointer.make()
    intent = sequencer.record(Fact(act="trail.prune", phase="intent", more=more))
    checkpointer.make()
    result, why = "unknown", None
    try:
        log.prune(below)
        result = "ok"
    except SecureMLError as error:
        result, why = error.result, error.why
        raise
    finally:
        sequencer.record(
            Fact(
                act="trail.prune",
                phase="outcome",
                result=result,
                why=why,
                of=intent,
                more=more,
            )
        )
        sequencer.close()
        checkpointer.make()


def _check(found: Survey, below: int) -> None:
    if below % TILE_WIDTH or not found.first <= below <= found.size or not below:
        raise ConfigurationError(
            f"prune below {below}: expected a multiple of {TILE_WIDTH} from {found.first} to "
            f"{found.size}"
        )
    for hold in found.holds.standing.values():
        if below > hold.from_index:
            raise ConfigurationError(
                f"prune below {below}: the hold {hold.name!r} keeps all leaves from "
                f"{hold.from_index} on; release it first, if it is over"
            )
    if found.live_from is not None and below > found.live_from:
        raise ConfigurationError(
            f"prune below {below}: leaf {found.live_from} is of a process that has not ended; "
            "prune below that"
        )


def hold_log(sequencer: Sequencer, checkpointer: Checkpointer, log: LogWriter, hold: Hold) -> None:
    """Keep leaves from pruning from now on; the sequencer ends with it.

    Raises:
        ConfigurationError: A hold of this name stands, or it would keep what is gone.
    """
    first, size = log.first_leaf(), log.edge().size
    standing = survey(enumerate(log.leaf_data(first, size), first), ()).holds.standing
    if hold.name in standing or not 0 < len(hold.name) <= MAX_NAME_CHARS:
        raise ConfigurationError(
            f"hold {hold.name[:MAX_NAME_CHARS]!r}: expected a new name of at most "
            f"{MAX_NAME_CHARS} characters"
        )
    if not first <= hold.from_index <= size:
        raise ConfigurationError(
            f"hold from leaf {hold.from_index}: leaves {first} to {size - 1} have their bytes; "
            "name one of them"
        )
    _say(sequencer, checkpointer, hold, HELD)


def release_hold(
    sequencer: Sequencer, checkpointer: Checkpointer, log: LogWriter, hold: Hold
) -> None:
    """Let a hold go; the sequencer ends with it.

    Raises:
        ConfigurationError: No hold of this name stands.
    """
    first, size = log.first_leaf(), log.edge().size
    standing = survey(enumerate(log.leaf_data(first, size), first), ()).holds.standing
    if hold.name not in standing:
        raise ConfigurationError(f"hold {hold.name[:MAX_NAME_CHARS]!r}: there is none")
    _say(sequencer, checkpointer, hold, RELEASED)


def _say(sequencer: Sequencer, checkpointer: Checkpointer, hold: Hold, state: str) -> None:
    more: dict[str, str | int] = {"name": hold.name, "state": state, "because": hold.because}
    if state == HELD:
        more = {**more, "from_index": hold.from_index}
    sequencer.record(Fact(act="trail.hold", phase="seen", result="ok", more=more))
    sequencer.close()
    checkpointer.make()


def _whole_tiles(index: int) -> int:
    return index - index % TILE_WIDTH
