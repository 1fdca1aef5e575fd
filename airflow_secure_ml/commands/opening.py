"""`open`: a sealed file, or a folder of them, becomes plain where the caller says.

DST appears whole or not at all. A pipe cannot be taken back: each part was verified before it is
written, and only exit status 0 says that it was all.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.commands import trees
from airflow_secure_ml.commands.places import (
    PIPE,
    context_pairs,
    pinned_source,
    publish,
    reader_keys,
    require_free,
    written_target,
)
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.commands.vouched import check_asked, signed_entry
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT, AnyContext, Expected
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.sealed_header import ReaderKey
from airflow_secure_ml.services.sealing import DEFAULT_THREADS, Opened, open_object

if TYPE_CHECKING:
    from airflow_secure_ml.core.manifest import Entry
    from airflow_secure_ml.core.ports import ObjectWriter, PinnedObject


def open_sealed(arguments: argparse.Namespace, session: Session) -> Result:
    """Open SRC into DST."""
    if arguments.recursive:
        return trees.open_tree(arguments, session)
    trees.refuse_without_recursive(arguments, "keep_going", "threads")
    expect = _expected(arguments)
    target = None if arguments.target == PIPE else session.address(arguments.target)
    if target is not None:
        require_free(session.store_of(target), target, replace=arguments.replace)
    if arguments.source != PIPE:
        source = session.address(arguments.source)
        info = session.store_of(source).info(source)
        if info is not None and info.is_directory:
            check_asked(arguments, whole=False)
            return _open_folder(session, source, target, expect, arguments)
    check_asked(arguments, whole=arguments.source != PIPE)
    return _open_file(session, target, expect, arguments)


def _open_file(
    session: Session, target: str | None, expect: Expected, arguments: argparse.Namespace
) -> Result:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(pinned_source(session, arguments.source))
        writer = stack.enter_context(written_target(session, target))
        facts = {} if arguments.source == PIPE else {"uri": source.uri}
        signed = signed_entry(arguments, session, source, expect)
        with session.act("object.open", object=facts) as outcome:
            keys = reader_keys(session, arguments)
            with Progress(source.size_bytes) as progress:
                opened = _open(
                    session, source, writer, keys, expect, signed=signed, progress=progress
                )
            outcome.key = key_facts(opened.key)
            outcome.object = {"bytes": opened.plaintext_bytes}
        publish(session, writer, target, replace=arguments.replace)
    data = {
        "object": target,
        "key": str(opened.key),
        "bytes": opened.plaintext_bytes,
        "core_id": opened.core_id.hex(),
        "context": dict(opened.context),
    }
    line = f"opened {opened.plaintext_bytes} bytes with {opened.key}: {target or 'pipe'}"
    return Result(data=data, lines=[line], beside=target is None)


def _open_folder(
    session: Session,
    source: str,
    target: str | None,
    expect: Expected,
    arguments: argparse.Namespace,
) -> Result:
    if target is None:
        raise ConfigurationError(f"{source}: a folder; expected a DST that is none yet, not a pipe")
    files: list[dict[str, Any]] = []
    store = session.store_of(source)
    with session.store_of(target).create_directory(target) as folder:
        with session.act("object.open", object={"uri": source}) as outcome:
            keys = reader_keys(session, arguments)
            for name in store.walk(source):
                wanted = _expected_of(session, name, expect)
                with (
                    store.open(store.child(source, name)) as pinned,
                    folder.create(name) as writer,
                ):
                    opened = _open(session, pinned, writer, keys, wanted)
                    writer.commit(replace=False)
                files.append({"name": name, "bytes": opened.plaintext_bytes})
                outcome.key = key_facts(opened.key)
            total = sum(each["bytes"] for each in files)
            outcome.object = {"bytes": total}
        publish(session, folder, target, replace=arguments.replace)
    line = f"opened {len(files)} files, {total} bytes: {target}"
    return Result(data={"object": target, "bytes": total, "files": files}, lines=[line])


def _open(
    session: Session,
    source: PinnedObject,
    writer: ObjectWriter,
    keys: Sequence[ReaderKey],
    expect: Expected,
    *,
    signed: Entry | None = None,
    progress: Progress | None = None,
) -> Opened:
    return open_object(
        source,
        writer,
        keys=keys,
        expect=expect,
        expected_payload_digest=None if signed is None else str(signed.digest),
        expected_payload_bytes=None if signed is None else signed.size_bytes,
        threads=getattr(writer, "threads", DEFAULT_THREADS),
        digest_algorithm=None,
        progress=progress,
        state_of=session.keys.state_of,
    )


def _expected(arguments: argparse.Namespace) -> Expected:
    pairs = context_pairs(arguments.context)
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


def _expected_of(session: Session, name: str, expect: Expected) -> Expected:
    """Of a folder's file: its own address below the one demanded, so that two cannot be swapped."""
    if isinstance(expect, AnyContext) or "object" not in expect:
        return expect
    original = session.address(expect["object"])
    return {**expect, "object": session.store_of(original).child(original, name)}
