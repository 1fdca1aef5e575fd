"""Where a command reads and writes: addresses, pipes, keys, and the context on the command line.

Nothing has its final name before the act is durable in the trail.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_secure_ml.commands.pipes import PipeWriter, pinned_input
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER, DataSetRoot
from airflow_secure_ml.services.sealed_header import ReaderKey

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import (
        DirectoryWriter,
        ObjectStore,
        ObjectWriter,
        PinnedObject,
    )

PIPE = "-"
_MAX_LEVELS = 64
# file:///… and s3://bucket/…
_ROOT_SLASHES = 3


def context_pairs(given: Sequence[str] | None) -> dict[str, str]:
    """The pairs of `--context K=V`; ConfigurationError if one is no pair or stands there twice."""
    pairs: dict[str, str] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or key in pairs:
            raise ConfigurationError(f"--context {text}: expected KEY=VALUE, each key once")
        pairs[key] = value
    return pairs


def reader_keys(session: Session, arguments: argparse.Namespace) -> list[ReaderKey]:
    """Every key that may open, and the data set's own.

    Those to receive with only where a signature is demanded, or given up by a word.
    """
    asked = (getattr(arguments, name, None) for name in ("signed_by", "unsigned", "recursive"))
    keys = opening_keys(session.keys) if any(asked) else session.keys.unwrappers()
    found: list[ReaderKey] = list(keys)
    found.extend(
        DataSetRoot(session.store_of(root), root, keys=keys, state_of=session.keys.state_of)
        for root in _roots(session, arguments)
    )
    return found


def _roots(session: Session, arguments: argparse.Namespace) -> Iterator[str]:
    """The data set that the reader names, else the nearest above the address that they gave."""
    if arguments.data_set is not None:
        yield session.address(arguments.data_set)
        return
    source = getattr(arguments, "source", None) or arguments.file
    if source == PIPE:
        return
    # Itself first: a folder that is opened may be the data set.
    folder = session.address(source)
    store = session.store_of(folder)
    for _ in range(_MAX_LEVELS):
        if store.info(store.child(folder, KEY_FOLDER)) is not None:
            yield folder
            return
        folder = folder.rpartition("/")[0]
        # The root directory, or a bucket's own name.
        if folder.count("/") < _ROOT_SLASHES:
            return


def require_free(store: ObjectStore, uri: str, *, replace: bool) -> None:
    """Refuse a target that is taken before any work is done; publishing checks again."""
    info = store.info(uri)
    if info is not None and (info.is_directory or not replace):
        what = "a folder" if info.is_directory else "a file; --replace replaces it"
        raise PolicyError(f"{uri}: expected nothing there, found {what}", why="address_taken")


def pinned_source(session: Session, name: str) -> PinnedObject:
    """What is to be read, held."""
    if name == PIPE:
        return pinned_input()
    uri = session.address(name)
    return session.store_of(uri).open(uri)


@contextlib.contextmanager
def written_target(session: Session, target: str | None) -> Iterator[ObjectWriter]:
    """A writer for an address, or for standard output."""
    if target is None:
        yield PipeWriter(sys.stdout.buffer)
        return
    with session.store_of(target).create(target) as writer:
        yield writer


def publish(
    session: Session, writer: ObjectWriter | DirectoryWriter, target: str | None, *, replace: bool
) -> None:
    """Let what was written appear at its address; both ends of that stand in the trail."""
    if target is None:
        writer.commit(replace=False)
        return
    with session.act("object.publish", object={"uri": target}) as outcome:
        outcome.object = {"version": writer.commit(replace=replace)}
