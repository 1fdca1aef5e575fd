"""`seal` and `rewrap`: sealed files one at a time; `open` is `opening`'s.

Nothing has its final name before all of it was verified and the act is durable in the trail.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_secure_ml.commands import trees
from airflow_secure_ml.commands.places import (
    PIPE,
    context_pairs,
    publish,
    reader_keys,
    require_free,
    written_target,
)
from airflow_secure_ml.commands.progress import Progress
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session, key_facts
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.key_choice import sealing_keys
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealing import DEFAULT_THREADS, seal_object

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import PinnedObject


def seal(arguments: argparse.Namespace, session: Session) -> Result:
    """Seal SRC into DST."""
    if arguments.recursive:
        if arguments.mixed_strength:
            raise ConfigurationError("--mixed-strength: expected without --recursive")
        return trees.seal_tree(arguments, session)
    trees.refuse_without_recursive(arguments, "sign_key", "keep_going", "threads")
    context = context_pairs(arguments.context)
    target = None if arguments.target == PIPE else session.address(arguments.target)
    if target is not None:
        require_free(session.store_of(target), target, replace=arguments.replace)
        context.setdefault("object", target)
    names = arguments.key or [session.settings.data_key]
    facts = {"uri": target} if target else {}
    with written_target(session, target) as writer:
        with session.act("object.seal", object=facts, key={"name": names[0]}) as outcome:
            keys = sealing_keys(session.keys, names, mixed_strength=arguments.mixed_strength)
            with _input(session, arguments.source) as source:
                total = None if source is None else source.size_bytes
                with Progress(total) as progress:
                    sealed = seal_object(
                        sys.stdin.buffer if source is None else source,
                        writer,
                        keys=keys,
                        context=context,
                        # A pipe takes its bytes in order.
                        threads=1 if target is None else DEFAULT_THREADS,
                        progress=progress,
                    )
            outcome.key = key_facts(sealed.key)
            outcome.object = {"bytes": sealed.plaintext_bytes}
            outcome.more = {"core_id": sealed.core_id.hex(), "payload": sealed.payload_digest}
        publish(session, writer, target, replace=arguments.replace)
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


def rewrap(arguments: argparse.Namespace, session: Session) -> Result:
    """Give a sealed file other slots."""
    if not arguments.key:
        raise ConfigurationError("rewrap: expected --key, once for each key that shall open it")
    uri = session.address(arguments.file)
    store = session.store_of(uri)
    with (
        store.open(uri) as pinned,
        store.create(uri) as writer,
        session.act(
            "object.rewrap", object={"uri": uri}, more={"to_keys": list(arguments.key)}
        ) as outcome,
    ):
        keys = sealing_keys(session.keys, arguments.key, mixed_strength=arguments.mixed_strength)
        rewrapped = rewrap_object(
            pinned,
            writer,
            readers=reader_keys(session, arguments),
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


@contextlib.contextmanager
def _input(session: Session, name: str) -> Iterator[PinnedObject | None]:
    if name == PIPE:
        yield None
        return
    uri = session.address(name)
    with session.store_of(uri).open(uri) as pinned:
        yield pinned
