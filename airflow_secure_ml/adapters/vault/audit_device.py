"""Read the log of Vault's file audit device, line by line, whatever stands in it.

A line that cannot be read may have held a use, so it is counted and never skipped in silence.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from airflow_secure_ml.adapters.vault.audit_entry import namespace, request_id, time_ms, use_of
from airflow_secure_ml.core.audit.outside_use import OutsideUse
from airflow_secure_ml.errors import ConfigurationError

# Vault takes requests of 32 MiB, but a line so long is no use of ours; a batch of 100 has 60 kB.
MAX_LINE_BYTES = 4_194_304
_STEP_BYTES = 1_048_576
_GZIP = b"\x1f\x8b"

Entry: TypeAlias = tuple[int, Mapping[str, Any]]
"""A line's time, ms since 1970 UTC, and what it says."""


@dataclass(slots=True)
class LogTally:
    """What was met beside uses.

    Attributes:
        entries: Lines that are entries.
        unreadable: Lines that are none.
        first_unreadable: Where the first of them is.
        is_cut: Whether the last file ends within a line, as one that is written just now does.
        elsewhere: Entries of other namespaces.
        unpaired: Answers of uses whose request is not in the log.
        first_ms: The earliest entry, ms since 1970 UTC; None: there is none.
        last_ms: The latest.
    """

    entries: int = 0
    unreadable: int = 0
    first_unreadable: str = ""
    is_cut: bool = False
    elsewhere: int = 0
    unpaired: int = 0
    first_ms: int | None = None
    last_ms: int | None = None

    def note(self, at_ms: int) -> None:
        """Take note of an entry's time."""
        self.entries += 1
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)


@dataclass(slots=True, kw_only=True)
class AuditDeviceLog:
    """One Vault's log, in one file or several.

    Attributes:
        paths: Its files, the oldest first; also compressed by gzip.
        namespace: Only what was asked in this one; empty: the root's.
        watch: Told how many entries were read.
        tally: What was met; whole when `uses` has ended.
    """

    paths: Sequence[Path]
    namespace: str = ""
    watch: Callable[[int], None] = lambda done: None
    tally: LogTally = field(default_factory=LogTally)

    def uses(self) -> Iterator[OutsideUse]:
        """Every use, in the log's order; those without an answer last.

        Raises:
            ConfigurationError: A file that cannot be opened, or is none.
        """
        waiting: dict[str, OutsideUse] = {}
        for number, path in enumerate(self.paths, 1):
            self.tally.is_cut = False
            for at_ms, entry in self._entries(path, is_last=number == len(self.paths)):
                found = self._use(at_ms, entry, waiting)
                if found is not None:
                    yield found
        yield from waiting.values()

    def _use(
        self, at_ms: int, entry: Mapping[str, Any], waiting: dict[str, OutsideUse]
    ) -> OutsideUse | None:
        if namespace(entry) != self.namespace.strip("/"):
            self.tally.elsewhere += 1
            return None
        found, name = use_of(entry, at_ms), request_id(entry)
        if entry.get("type") == "request":
            if found is not None and name:
                waiting[name] = found
            return None
        if waiting.pop(name, None) is None and found is not None:
            self.tally.unpaired += 1
        return found

    def _entries(self, path: Path, *, is_last: bool) -> Iterator[Entry]:
        number = 0
        with ExitStack() as stack:
            stream = _opened(path, stack)
            try:
                for number, line in enumerate(_lines(stream), 1):
                    found = _parsed(line)
                    if found is not None:
                        self.tally.note(found[0])
                        self.watch(self.tally.entries)
                        yield found
                    elif line is not None and not line.endswith(b"\n") and is_last:
                        self.tally.is_cut = True
                    elif line is None or line.strip():
                        self._miss(path, number)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                self._miss(path, number + 1)

    def _miss(self, path: Path, number: int) -> None:
        self.tally.unreadable += 1
        self.tally.first_unreadable = self.tally.first_unreadable or f"{path}, line {number}"


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    try:
        # Not blocking: a named pipe would keep whoever opens it waiting for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a log of Vault's; {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"{path}: expected a file, found something else")
    raw = stack.enter_context(os.fdopen(descriptor, "rb"))
    is_compressed = raw.read(len(_GZIP)) == _GZIP
    raw.seek(0)
    if not is_compressed:
        return raw
    return cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=raw)))


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Lines with their ends; None for one that is too long, of which nothing is kept."""
    while line := stream.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_STEP_BYTES)
        yield None


def _parsed(line: bytes | None) -> Entry | None:
    """An entry and its time; None: it is none."""
    if line is None:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping) or found.get("type") not in ("request", "response"):
        return None
    at_ms = time_ms(found)
    return None if at_ms is None else (at_ms, found)
