"""What was made in the end from where a lineage starts, and through which works.

Source: PAGES, the ten questions (9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from airflow_secure_ml.services.lineage_graph import WROTE, Lineage
from airflow_secure_ml.services.works import Version

End = Version | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A version that nothing more was made from.

    Attributes:
        version: It.
        works: The keys of the works between the start and it, in no order.
    """

    version: Version
    works: tuple[str, ...]


def ends_of(found: Lineage) -> Iterator[Made]:
    """The versions that were made from the starts, and that nothing more was made from."""
    after, before = _neighbours(found, forth=True), _neighbours(found, forth=False)
    below = _reached(found.starts, after) - set(found.starts)
    makers = {link.source for link in found.links if link.kind == WROTE}
    for version in found.versions:
        if version not in below:
            continue
        # Somebody may have read it and made nothing: a model that scores, a check.
        leads_on = any(one in makers or isinstance(one, Version) for one in after.get(version, ()))
        if not leads_on:
            way = _reached([version], before) & below
            works = [one for one in way if isinstance(one, str)]
            yield Made(version=version, works=tuple(sorted(works)))


def _neighbours(found: Lineage, *, forth: bool) -> Mapping[End, Sequence[End]]:
    near: dict[End, list[End]] = {}
    for link in found.links:
        here, there = (link.source, link.target) if forth else (link.target, link.source)
        near.setdefault(here, []).append(there)
    return near


def _reached(starts: Iterable[End], near: Mapping[End, Sequence[End]]) -> set[End]:
    seen: set[End] = set(starts)
    stack = list(seen)
    while stack:
        for one in near.get(stack.pop(), ()):
            if one not in seen:
                seen.add(one)
                stack.append(one)
    return seen
