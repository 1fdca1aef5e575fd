"""Count what lies below some addresses by suite and kind of slot, and what of it is old.

Old is what a policy would not write any more. What cannot be read is a refusal, since a count with
a hole in it is no proof; no key is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.crypto_policy import SUITES, CryptoPolicy, slot_name
from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, Header
from airflow_secure_ml.errors import MAX_NAMES, PolicyError
from airflow_secure_ml.services.sealed_walk import objects_below, pin_below


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoUsage:
    """What lies there.

    Attributes:
        suites: How many files are of each suite.
        slots: How many slots are of each kind, in files and in data-set keys.
        old: How many objects hold what would not be written any more.
        old_uris: The first ten of them.
        sealed: How many sealed objects were looked at.
    """

    suites: Counter[str]
    slots: Counter[str]
    old: int
    old_uris: tuple[str, ...]
    sealed: int

    def as_record(self) -> dict[str, Any]:
        """What a program gets to read."""
        return {
            "sealed_files": self.sealed,
            "suites": dict(sorted(self.suites.items())),
            "slots": dict(sorted(self.slots.items())),
            "old": self.old,
        }

    def refuse_old(self) -> None:
        """Return if nothing old is left.

        Raises:
            PolicyError: Something is (rule_denied), or there was nothing to look at
                (not_checkable).
        """
        if not self.sealed:
            raise PolicyError(
                "expected sealed objects, found none below the addresses that were named; name "
                "the addresses where they lie",
                why="not_checkable",
            )
        if self.old:
            raise PolicyError(
                f"{self.old} of {self.sealed} sealed objects hold what [secure_ml] crypto_policy "
                f"does not write, such as {self.old_uris[0]}; seal them anew with "
                "ResealArtifactOperator",
                why="rule_denied",
            )


def count_crypto(
    store: Callable[[str], ObjectStore],
    uris: Collection[str],
    policy: CryptoPolicy,
    *,
    progress: Callable[[int], None] | None = None,
) -> CryptoUsage:
    """Look at the header of every sealed object below some canonical addresses.

    Args:
        store: From an address to its store.
        uris: Directories, or objects; what lies below two of them counts once.
        policy: What is not written any more, and of suites all but the first, is old.
        progress: Called with the number of sealed objects seen so far.

    Raises:
        ConfigurationError: Nothing is at one of the addresses, or no right to read it.
        FormatError: Something that is no object, or a broken one.
    """
    suites: Counter[str] = Counter()
    slots: Counter[str] = Counter()
    old: list[str] = []
    seen: set[str] = set()
    sealed = 0
    for uri in uris:
        here = store(uri)
        for each in objects_below(here, uri):
            address = each.uri
            found = None if address in seen else pin_below(each)
            seen.add(address)
            if found is None:
                continue
            pinned, header = found
            pinned.__exit__(None, None, None)
            sealed += 1
            if header.core.suite != SUITE_DATASET_KEY:
                suites[SUITES[header.core.suite]] += 1
            slots.update(_kinds(header))
            if is_old(header, policy):
                old.append(address)
            if progress is not None:
                progress(sealed)
    return CryptoUsage(
        suites=suites, slots=slots, old=len(old), old_uris=tuple(old[:MAX_NAMES]), sealed=sealed
    )


def is_old(header: Header, policy: CryptoPolicy) -> bool:
    """Whether a file is of another suite than is written, or has slots that are not."""
    suite = header.core.suite
    is_old_suite = suite != SUITE_DATASET_KEY and suite != policy.suite_to_write
    return is_old_suite or not _kinds(header) <= set(policy.write.slots)


def _kinds(header: Header) -> set[str]:
    return {slot_name(slot.type, slot.body) for slot in header.slots}
