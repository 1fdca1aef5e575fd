"""Find the sealed objects below an address, the headers of data-set keys among them.

Needs no key. Whatever cannot be read ends the walk: what it did not see, it cannot speak for.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_secure_ml.core.ports import ObjectStore, PinnedObject
from airflow_secure_ml.core.sealed_file.header import MAGIC, Header
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER
from airflow_secure_ml.services.sealed_header import read_sealed_header


def addresses_below(store: ObjectStore, uri: str) -> Iterator[str]:
    """Every object below a canonical address, or the one there.

    Raises:
        ConfigurationError: Nothing is there.
        FormatError: As `ObjectStore.walk`.
    """
    info = store.info(uri)
    if info is None:
        raise ConfigurationError(f"{uri}: expected sealed objects, found nothing there")
    if not info.is_directory:
        yield uri
        return
    for name in store.walk(uri):
        yield store.child(uri, name)
    # A walk leaves out the data set's own headers, and they are what its key opens.
    headers = store.child(uri, KEY_FOLDER)
    if store.info(headers) is not None:
        for name in store.walk(headers):
            yield store.child(headers, name)


def pin_sealed(store: ObjectStore, uri: str) -> tuple[PinnedObject, Header] | None:
    """Pin a sealed object and read its header; the caller lets go of it.

    None: it is plain, or was removed meanwhile.

    Raises:
        FormatError: It begins like a sealed object and is none that this release reads.
    """
    try:
        pinned = store.open(uri)
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
