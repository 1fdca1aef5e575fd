"""What events say of holds and of prunings; both are the sequencer's to say.

A hold keeps its own leaf too, so that no pruning can take away what forbids it.

Source: AUDIT_TRAIL, Tree, checkpoint, signer (pruning).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HELD, RELEASED = "held", "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold that stands.

    Attributes:
        name: Its name.
        from_index: Leaves from this one on stay.
        because: Why, as it was said.
        time: When, ms since 1970 UTC.
    """

    name: str
    from_index: int
    because: str = ""
    time: int = 0


@dataclass(slots=True)
class Holds:
    """The holds that stand, as a log's leaves are read in order."""

    standing: dict[str, Hold] = field(default_factory=dict)

    def note(self, at: int, event: Mapping[str, Any]) -> None:
        """Take the leaf `at`."""
        more = event.get("more")
        if event["act"] != "trail.hold" or not isinstance(more, Mapping):
            return
        name = str(more.get("name"))
        if more.get("state") == RELEASED:
            self.standing.pop(name, None)
            return
        said = more.get("from_index")
        self.standing[name] = Hold(
            name=name,
            from_index=min(said, at) if type(said) is int else 0,
            because=str(more.get("because", "")),
            time=event["time"],
        )

    def lowest(self, *, otherwise: int) -> int:
        """The first leaf that a hold keeps; `otherwise` if that is lower, or there is none."""
        return min([hold.from_index for hold in self.standing.values()] + [otherwise])


def pruned_to(event: Mapping[str, Any]) -> int:
    """Below which leaf a trail.prune removes bytes; 0 if it does not say."""
    more = event.get("more")
    found = more.get("below") if isinstance(more, Mapping) else None
    return found if type(found) is int else 0
