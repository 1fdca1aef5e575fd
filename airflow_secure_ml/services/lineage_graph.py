"""A lineage: versions of objects, the works between them, and the arrows.

Values only; `services.lineage` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_secure_ml.services.works import Version, Work

WROTE, READ, SAME = "wrote", "read", "same bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An arrow, from `source` to `target`: one of them is a version unless bytes are the same.

    Attributes:
        source: A version, or a work's key.
        target: Likewise.
        kind: WROTE, READ or SAME.
        event: The name of the event that says so; empty for SAME.
        is_sure: Whether digests say so; else the address alone does.
    """

    source: Version | str
    target: Version | str
    kind: str
    event: str
    is_sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A work with how it ended.

    Attributes:
        work: It.
        result: ok, refused, failed or unknown; empty: nothing says so.
    """

    work: Work
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What the trail knows of where versions come from and where they went.

    Attributes:
        starts: The versions that were asked about.
        versions: All versions, in the order in which they were found.
        works: All works, likewise.
        links: The arrows.
        more_before: Versions and works that come from more than was followed.
        more_after: Versions and works that went into more.
    """

    starts: tuple[Version, ...]
    versions: tuple[Version, ...]
    works: tuple[Ended, ...]
    links: tuple[Link, ...]
    more_before: frozenset[Version | str]
    more_after: frozenset[Version | str]

    @property
    def is_cut(self) -> bool:
        """Whether the trail holds more than was followed."""
        return bool(self.more_before or self.more_after)
