"""Find where a key's older versions are in use, as few places that tasks can share out.

Needs no key. A place is a data set, or a folder of files with slots of their own; no place lies in
another.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_secure_ml.core.ports import ObjectStore, RotatingKeys
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.sealed_walk import addresses_below, pin_sealed


def places_to_rewrap(
    store: ObjectStore,
    uri: str,
    *,
    keys: RotatingKeys,
    name: str,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Addresses that `rewrap_below` has something to do at, sorted.

    Args:
        store: Where it all lies.
        uri: A directory, or one object.
        keys: The key system; asked once, for the key's versions.
        name: The key.
        progress: Called with the number of objects looked at so far.

    Raises:
        ConfigurationError: Nothing is there.
        FormatError: A broken sealed object.
        PolicyError: There is no such key.
        ServiceRefusedError: No right to ask for the key's versions.
    """
    newest = keys.versions(name)[-1].number
    found: set[str] = set()
    for done, address in enumerate(addresses_below(store, uri), start=1):
        if progress is not None:
            progress(done)
        seen = pin_sealed(store, address)
        if seen is None:
            continue
        pinned, header = seen
        pinned.__exit__(None, None, None)
        numbers = [keys.version_in(name, slot) for slot in header.slots]
        if all(number is None or number == newest for number in numbers):
            continue
        folder = address.rpartition("/")[0]
        if header.core.suite == SUITE_DATASET_KEY:
            folder = folder.removesuffix(f"/{KEY_FOLDER}")
        found.add(uri if address == uri else folder)
    return _outermost(found)


def _outermost(places: set[str]) -> list[str]:
    kept: list[str] = []
    # In this order a folder comes before all that lies in it.
    for place in sorted(places, key=lambda each: f"{each}/"):
        if not kept or not place.startswith(f"{kept[-1]}/"):
            kept.append(place)
    return sorted(kept)
