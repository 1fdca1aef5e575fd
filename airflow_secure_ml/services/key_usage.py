"""Count which versions of a key open what lies below some addresses.

It speaks for the addresses that were named and for nothing else; what cannot be read or told is a
refusal, since a count with a hole in it is no proof.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.ports import KeyVersion, ObjectStore, RotatingKeys
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, Header
from airflow_secure_ml.core.sealed_file.keys import TYPE_DATASET_KEY
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.sealed_dataset import DESTROYED_SUFFIX, KEY_FOLDER
from airflow_secure_ml.services.sealed_walk import objects_below, pin_below

# A record goes through XCom: of more places only their number.
MAX_PLACES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A data set, or the objects with slots of their own below one address.

    Attributes:
        uri: The data set's root, or the address that was named.
        is_data_set: Whether one key opens all of it.
        versions: How many headers each version of the key opens.
    """

    uri: str
    is_data_set: bool
    versions: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsage:
    """Where a key is used.

    Attributes:
        key: Its name.
        versions: Its versions, when the walk began.
        places: Where it opens something.
        sealed: Sealed objects that were looked at.
        unresolved: Objects below a data set whose key was not there to look at: by their
            data-set key's id, one of them.
    """

    key: str
    versions: Sequence[KeyVersion]
    places: tuple[Place, ...]
    sealed: int
    unresolved: Mapping[str, str]

    @property
    def counts(self) -> Counter[int]:
        """How many headers each version opens."""
        total: Counter[int] = Counter()
        for place in self.places:
            total.update(place.versions)
        return total

    def oldest(self) -> int:
        """The oldest version that anything needs.

        Raises:
            PolicyError: It cannot be told (not_checkable).
        """
        if self.unresolved:
            identifier, uri = next(iter(self.unresolved.items()))
            raise PolicyError(
                f"key {self.key}: {len(self.unresolved)} data-set keys were not found below the "
                f"addresses that were named, such as {identifier} of {uri}; name the data sets' "
                "own roots too, and remove what nothing opens any more",
                why="not_checkable",
            )
        if not self.places:
            raise PolicyError(
                f"key {self.key}: expected what it opens, found none among {self.sealed} sealed "
                "objects; name the addresses where it is used",
                why="not_checkable",
            )
        return min(self.counts)

    def as_record(self) -> dict[str, Any]:
        """What a program gets to read."""
        counts = self.counts
        return {
            "key": self.key,
            "sealed_files": self.sealed,
            "versions": [
                {"version": each.number, "state": each.state, "files": counts[each.number]}
                for each in self.versions
            ],
            "places": [
                {
                    "uri": place.uri,
                    "data_set": place.is_data_set,
                    "versions": {str(each): n for each, n in sorted(place.versions.items())},
                }
                for place in self.places[:MAX_PLACES]
            ],
            "place_count": len(self.places),
            "unresolved": len(self.unresolved),
        }


def count_usage(
    store: Callable[[str], ObjectStore],
    uris: Collection[str],
    *,
    keys: RotatingKeys,
    name: str,
    progress: Callable[[int], None] | None = None,
) -> KeyUsage:
    """Look at every sealed object below some canonical addresses, without a key.

    Args:
        store: From an address to its store.
        uris: Directories, or objects; what lies below two of them counts once.
        keys: The key system; asked once, for the key's versions.
        name: A key that wraps.
        progress: Called with the number of sealed objects seen so far.

    Raises:
        ConfigurationError: Nothing is at one of the addresses, or no right to read it.
        FormatError: Something that is no object, or a broken one: the count would have a hole.
        PolicyError: There is no such key, or it does not wrap.
    """
    # Refuses a key that only signs.
    opening_keys(keys, [name])
    counting = _Counting(keys, name, keys.versions(name))
    seen: set[str] = set()
    for uri in uris:
        here = store(uri)
        for each in objects_below(here, uri):
            address = each.uri
            found = None if address in seen else pin_below(each)
            seen.add(address)
            if found is None:
                counting.skip(address)
                continue
            pinned, header = found
            pinned.__exit__(None, None, None)
            counting.take(uri, address, header)
            if progress is not None:
                progress(counting.sealed)
    return counting.result()


class _Counting:
    def __init__(self, keys: RotatingKeys, name: str, versions: Sequence[KeyVersion]) -> None:
        self._keys, self._name, self._versions = keys, name, versions
        self._counts: defaultdict[tuple[str, bool], Counter[int]] = defaultdict(Counter)
        self._data_set_keys: set[str] = set()
        self._needed: dict[str, str] = {}
        self.sealed = 0

    def take(self, below: str, address: str, header: Header) -> None:
        """Count one header."""
        self.sealed += 1
        root, is_data_set = below, header.core.suite == SUITE_DATASET_KEY
        if is_data_set:
            self._data_set_keys.add(header.core_id.hex())
            root = address.rpartition("/")[0].removesuffix(f"/{KEY_FOLDER}")
        for slot in header.slots:
            if slot.type == TYPE_DATASET_KEY:
                self._needed.setdefault(slot.id, address)
            number = self._keys.version_in(self._name, slot)
            if number is not None:
                self._counts[root, is_data_set][number] += 1

    def skip(self, address: str) -> None:
        """Take note of a data set's key that was destroyed: no version opens it any more."""
        folder, _, name = address.rpartition("/")
        if folder.endswith(f"/{KEY_FOLDER}") and name.endswith(DESTROYED_SUFFIX):
            self._data_set_keys.add(name.removesuffix(DESTROYED_SUFFIX))

    def result(self) -> KeyUsage:
        """What was counted."""
        missing = sorted(self._needed.keys() - self._data_set_keys)
        return KeyUsage(
            key=self._name,
            versions=self._versions,
            places=tuple(
                Place(uri=uri, is_data_set=is_data_set, versions=dict(counts))
                for (uri, is_data_set), counts in sorted(self._counts.items())
            ),
            sealed=self.sealed,
            unresolved={each: self._needed[each] for each in missing},
        )
