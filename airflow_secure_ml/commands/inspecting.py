"""`inspect`: what headers say of a sealed file, or of everything below a folder, without a key."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_secure_ml.commands.places import PIPE, pinned_source
from airflow_secure_ml.commands.progress import TreeProgress
from airflow_secure_ml.commands.running import REFUSED, Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY
from airflow_secure_ml.services.inspecting import Overview, inspect_below
from airflow_secure_ml.services.journal import in_words
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealed_payload import payload_layout

# Headers are small and far away: what counts is how many are asked for at once.
_THREADS = 16
_NOT_PROVED = "read without a key: nothing of this is proved before the file is opened"


def inspect(arguments: argparse.Namespace, session: Session) -> Result:
    """Show a sealed file's header, or count those below a folder."""
    if arguments.file != PIPE:
        uri = session.address(arguments.file)
        store = session.store_of(uri)
        info = store.info(uri)
        if info is not None and info.is_directory:
            with TreeProgress("inspected", is_quiet=arguments.json) as progress:
                return _overview(uri, inspect_below(store, uri, threads=_THREADS, pace=progress))
    return _one(arguments, session)


def _one(arguments: argparse.Namespace, session: Session) -> Result:
    with pinned_source(session, arguments.file) as pinned:
        header = read_sealed_header(pinned)
        size_bytes = pinned.size_bytes
        is_key = header.core.suite == SUITE_DATASET_KEY
        plain = None if is_key else payload_layout(pinned, header).plaintext_bytes
    data: dict[str, Any] = {
        "version": 1,
        "suite": f"0x{header.core.suite:02x}",
        "core_id": header.core_id.hex(),
        "context": dict(header.core.context),
        "header_bytes": header.size_bytes,
        "payload_bytes": size_bytes - header.size_bytes,
        "plaintext_bytes": plain,
        "slots": [{"type": slot.type, "id": slot.id} for slot in header.slots],
        "authenticated": False,
    }
    lines = [
        f"sealed file, version 1, suite {data['suite']}",
        f"core id  {data['core_id']}",
        f"header   {header.size_bytes} bytes, payload {data['payload_bytes']} bytes",
        *([] if plain is None else [f"holds    {plain} bytes"]),
        *(f"context  {key} = {value}" for key, value in header.core.context.items()),
        *(f"slot     {slot.id} (type {slot.type})" for slot in header.slots),
        _NOT_PROVED,
    ]
    return Result(data=data, lines=lines)


def _overview(uri: str, seen: Overview) -> Result:
    lines = [
        f"sealed   {seen.sealed} files, {in_words(seen.plaintext_bytes)} "
        f"(headers {in_words(seen.header_bytes)}, payloads {in_words(seen.payload_bytes)})",
        f"plain    {seen.plain} files",
        f"signed   {seen.signed} have a statement beside or above them, {seen.unsigned} have none",
        f"keys     {seen.data_set_keys} data-set keys",
        *_counts("suite", seen.suites),
        *_counts("slot", seen.slots),
        *_counts("key", seen.keys),
        *_counts("context", seen.context),
        f"broken   {seen.broken} files",
        *(f"broken   {text}" for text in seen.failures),
        _NOT_PROVED,
    ]
    status = REFUSED if seen.broken else 0
    return Result(data={"prefix": uri, **seen.as_record()}, lines=lines, status=status)


def _counts(word: str, counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{word:<9}{name}: {count}" for name, count in sorted(counts.items()))
