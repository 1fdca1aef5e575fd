"""`seal`, `open`, `inspect`, `rewrap`: sealed files one at a time.

Nothing has its final name before all of it was verified and the act is durable in the trail.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.commands.pipes import PipeWriter, pinned_input
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT, Expected
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_dataset import KEY_FOLDER, DataSetRoot
from airflow_secure_ml.services.sealed_header import ReaderKey, read_sealed_header
from airflow_secure_ml.services.sealing import Opened, open_object, seal_object

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import ObjectStore, ObjectWriter, PinnedObject

PIPE = "-"
_MAX_LEVELS = 64


def seal(arguments: argparse.Namespace, session: Session) -> Result:
    """Seal SRC into DST."""
    context = _pairs(arguments.context)
    target = None if arguments.target == PIPE else session.address(arguments.target)
    if target is not None:
        _require_free(session.store, target, replace=arguments.replace)
        context.setdefault("object", target)
    names = arguments.key or [session.settings.data_key]
    facts = {"uri": target} if target else {}
    with _written(session, target) as writer:
        with session.act("object.seal", object=facts, key={"name": names[0]}) as outcome:
            keys = [session.keys.wrapper(name) for name in names]
            with _input(session, arguments.source) as source:
                total = None if source is None else source.size_bytes
                with Progress(total) as progress:
                    sealed = seal_object(
                        sys.stdin.buffer if source is None else source,
                        writer,
                        keys=keys,
                        context=context,
                        # A pipe takes its bytes in order.
                        threads=1 if target is None else 2,
                        progress=progress,
                    )
            outcome.key = key_facts(sealed.key)
            outcome.object = {"bytes": sealed.plaintext_bytes}
            outcome.more = {"core_id": sealed.core_id.hex(), "payload": sealed.payload_digest}
        _publish(session, writer, target, replace=arguments.replace)
    data = {
        "object": target,
        "key": str(sealed.key),
        "bytes": sealed.plaintext_bytes,
        "core_id": sealed.core_id.hex(),
        "payload_digest": sealed.payload_digest,
        "context": dict(context),
    }
    line = f"sealed {sealed.plaintext_bytes} bytes for {', '.join(names)}: {target or 'pipe'}"
    return Result(data=data, lines=[line], beside=target is None)


def open_sealed(arguments: argparse.Namespace, session: Session) -> Result:
    """Open SRC into DST."""
    expect = _expected(arguments)
    target = None if arguments.target == PIPE else session.address(arguments.target)
    if target is not None:
        _require_free(session.store, target, replace=arguments.replace)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_pinned(session, arguments.source))
        writer = stack.enter_context(_written(session, target))
        opened = _open(session, source, writer, expect, arguments)
        _publish(session, writer, target, replace=arguments.replace)
    data = {
        "object": target,
        "key": str(opened.key),
        "bytes": opened.plaintext_bytes,
        "core_id": opened.core_id.hex(),
        "context": dict(opened.context),
    }
    line = f"opened {opened.plaintext_bytes} bytes with {opened.key}: {target or 'pipe'}"
    return Result(data=data, lines=[line], beside=target is None)


def _open(
    session: Session,
    source: PinnedObject,
    writer: ObjectWriter,
    expect: Expected,
    arguments: argparse.Namespace,
) -> Opened:
    facts = {"uri": source.uri} if arguments.source != PIPE else {}
    with session.act("object.open", object=facts) as outcome:
        keys = _reader_keys(session, arguments)
        with Progress(source.size_bytes) as progress:
            opened = open_object(
                source,
                writer,
                keys=keys,
                expect=expect,
                # A pipe takes its bytes in order.
                threads=1 if arguments.target == PIPE else 2,
                digest_algorithm=None,
                progress=progress,
                state_of=session.keys.state_of,
            )
        outcome.key = key_facts(opened.key)
        outcome.object = {"bytes": opened.plaintext_bytes}
    return opened


def inspect(arguments: argparse.Namespace, session: Session) -> Result:
    """Show a sealed file's header."""
    with _pinned(session, arguments.file) as pinned:
        header = read_sealed_header(pinned)
        size_bytes = pinned.size_bytes
    data: dict[str, Any] = {
        "version": 1,
        "suite": f"0x{header.core.suite:02x}",
        "core_id": header.core_id.hex(),
        "context": dict(header.core.context),
        "header_bytes": header.size_bytes,
        "payload_bytes": size_bytes - header.size_bytes,
        "slots": [{"type": slot.type, "id": slot.id} for slot in header.slots],
        "authenticated": False,
    }
    lines = [
        f"sealed file, version 1, suite {data['suite']}",
        f"core id  {data['core_id']}",
        f"header   {header.size_bytes} bytes, payload {data['payload_bytes']} bytes",
        *(f"context  {key} = {value}" for key, value in header.core.context.items()),
        *(f"slot     {slot.id} (type {slot.type})" for slot in header.slots),
        "read without a key: nothing of this is proved before the file is opened",
    ]
    return Result(data=data, lines=lines)


def rewrap(arguments: argparse.Namespace, session: Session) -> Result:
    """Give a sealed file other slots."""
    if not arguments.key:
        raise ConfigurationError("rewrap: expected --key, once for each key that shall open it")
    uri = session.address(arguments.file)
    with (
        session.store.open(uri) as pinned,
        session.store.create(uri) as writer,
        session.act(
            "object.rewrap", object={"uri": uri}, more={"to_keys": list(arguments.key)}
        ) as outcome,
    ):
        keys = [session.keys.wrapper(name) for name in arguments.key]
        rewrapped = rewrap_object(
            pinned,
            writer,
            readers=_reader_keys(session, arguments),
            keys=keys,
            # Who may open it changes; what it is, is for its readers to demand.
            expect=ANY_CONTEXT,
            state_of=session.keys.state_of,
        )
        outcome.key = key_facts(rewrapped.opened_by)
        outcome.more = {"to_keys": [slot_id for _, slot_id in rewrapped.slots]}
        version = writer.commit(replace=True, if_version=rewrapped.replaces)
        outcome.object = {"version": version}
    data = {
        "object": uri,
        "opened_by": str(rewrapped.opened_by),
        "slots": [slot_id for _, slot_id in rewrapped.slots],
        "core_id": rewrapped.core_id.hex(),
    }
    opens = ", ".join(slot_id for _, slot_id in rewrapped.slots)
    return Result(data=data, lines=[f"rewrapped {uri}: opens with {opens}"])


def _pairs(given: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or key in pairs:
            raise ConfigurationError(f"--context {text}: expected KEY=VALUE, each key once")
        pairs[key] = value
    return pairs


def _expected(arguments: argparse.Namespace) -> Expected:
    pairs: Mapping[str, str] = _pairs(arguments.context)
    if arguments.any_context:
        if pairs:
            raise ConfigurationError("expected --context or --any-context, found both")
        return ANY_CONTEXT
    if not pairs:
        raise ConfigurationError(
            "expected what the file's context must hold: --context object=ADDRESS, or "
            "--any-context to demand nothing (`secure-ml inspect` shows what is there)"
        )
    return pairs


def _reader_keys(session: Session, arguments: argparse.Namespace) -> list[ReaderKey]:
    keys = session.keys.unwrappers()
    found: list[ReaderKey] = list(keys)
    for root in _roots(session, arguments):
        found.append(DataSetRoot(session.store, root, keys=keys, state_of=session.keys.state_of))
    return found


def _roots(session: Session, arguments: argparse.Namespace) -> Iterator[str]:
    """The data set that the reader names, else the nearest above the address that they gave."""
    if arguments.data_set is not None:
        yield session.address(arguments.data_set)
        return
    source = getattr(arguments, "source", None) or arguments.file
    folder = "" if source == PIPE else os.path.dirname(os.path.realpath(source))
    for _ in range(_MAX_LEVELS if folder else 0):
        if os.path.isdir(os.path.join(folder, KEY_FOLDER)):
            yield session.address(folder)
            return
        folder = os.path.dirname(folder)


def _require_free(store: ObjectStore, uri: str, *, replace: bool) -> None:
    info = store.info(uri)
    if info is not None and (info.is_directory or not replace):
        what = "a folder" if info.is_directory else "a file; --replace replaces it"
        raise PolicyError(f"{uri}: expected nothing there, found {what}", why="address_taken")


def _pinned(session: Session, name: str) -> PinnedObject:
    if name == PIPE:
        return pinned_input()
    return session.store.open(session.address(name))


@contextlib.contextmanager
def _input(session: Session, name: str) -> Iterator[PinnedObject | None]:
    if name == PIPE:
        yield None
        return
    with session.store.open(session.address(name)) as pinned:
        yield pinned


@contextlib.contextmanager
def _written(session: Session, target: str | None) -> Iterator[ObjectWriter]:
    if target is None:
        yield PipeWriter(sys.stdout.buffer)
        return
    with session.store.create(target) as writer:
        yield writer


def _publish(session: Session, writer: ObjectWriter, target: str | None, *, replace: bool) -> None:
    if target is None:
        writer.commit(replace=False)
        return
    with session.act("object.publish", object={"uri": target}) as outcome:
        outcome.object = {"version": writer.commit(replace=replace)}
