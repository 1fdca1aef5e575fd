"""Find the sealed objects below an address, the headers of data-set keys among them.

Needs no key. Whatever cannot be read ends the walk: what it did not see, it cannot speak for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_secure_ml.core.ports import ObjectStore, PinnedObject
from airflow_secure_ml.core.sealed_file.header import MAGIC, Header
from airflow_secure_ml.errors import ConfigurationError, IntegrityError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.sealed_header import read_sealed_header


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """An object that was found.

    Attributes:
        uri: Its canonical address.
        open: Pins what readers of its directory get: in a store that lists versions, that one.
            Only for as long as the walk stands at it.
    """

    uri: str
    open: Callable[[], PinnedObject]


def addresses_below(store: ObjectStore, uri: str) -> Iterator[str]:
    """Every object below a canonical address, or the one there.

    Raises:
        ConfigurationError: Nothing is there.
        FormatError: As `ObjectStore.walk`.
    """
    return (each.uri for each in objects_below(store, uri))


def objects_below(store: ObjectStore, uri: str) -> Iterator[Below]:
    """As `addresses_below`, each as its readers get it."""
    info = store.info(uri)
    if info is None:
        raise ConfigurationError(f"{uri}: expected sealed objects, found nothing there")
    if not info.is_directory:
        yield Below(uri=uri, open=lambda: store.open(uri))
        return
    yield from _in_directory(store, uri)
    # A walk leaves out the data set's own headers, and they are what its key opens.
    headers = store.child(uri, KEY_FOLDER)
    if store.info(headers) is not None:
        yield from _in_directory(store, headers)


def _in_directory(store: ObjectStore, uri: str) -> Iterator[Below]:
    def opening(name: str, address: str) -> Callable[[], PinnedObject]:
        def open_() -> PinnedObject:
            try:
                return directory.open(name)
            except IntegrityError:
                # Replaced since it was listed, by a writer at work: what lies there now counts.
                return store.open(address)

        return open_

    with store.open_directory(uri) as directory:
        for name in directory.names():
            address = store.child(uri, name)
            yield Below(uri=address, open=opening(name, address))


def pin_sealed(store: ObjectStore, uri: str) -> tuple[PinnedObject, Header] | None:
    """As `pin_below`, of what lies at an address now."""
    return pin_below(Below(uri=uri, open=lambda: store.open(uri)))


def pin_below(found: Below) -> tuple[PinnedObject, Header] | None:
    """Pin a sealed object and read its header; the caller lets go of it.

    None: it is plain, or was removed meanwhile.

    Raises:
        FormatError: It begins like a sealed object and is none that this release reads.
    """
    try:
        pinned = found.open()
    except FileNotFoundError:
        return None
    try:
        # Only the magic makes an object sealed: one that begins so and is broken is no plain one.
        if pinned.read_at(0, len(MAGIC)) == MAGIC:
            return pinned, read_sealed_header(pinned)
    except BaseException:
        pinned.__exit__(None, None, None)
        raise
    pinned.__exit__(None, None, None)
    return None
