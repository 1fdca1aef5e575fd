"""This process's part of the audit trail: one emitter, made durable at points.

Facts wait in memory until `settle`, which writes them at once and returns when they would survive a
power loss. Where to is a line's business: a segment of its own, or a collector. Nothing slow is
imported: the guardian uses this too.

Source: AUDIT_TRAIL, When it is durable; Spool, bytes.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Protocol

from airflow_secure_ml import __version__
from airflow_secure_ml.adapters.spool.parts import boot_id
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit import frame
from airflow_secure_ml.core.audit.event import Fact, RunRef, assemble
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import PERSONS, SALT_BYTES, check_hide, redact
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

# In `continue`: what waits in memory for its line to come back.
MAX_WAITING_BYTES: Final = 4 << 20

EMITTER_BYTES: Final = 16


class Line(Protocol):
    """Where one emitter's frames go."""

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Write frames behind what is there.

        Args:
            frames: Everything since the last call that returned with `wait`.
            wait: Whether to return only when they would survive a power loss.

        Raises:
            OSError: They are not taken; the next call brings the same bytes again.
        """

    def close(self) -> None:
        """Let go: of nothing but this process's own, in a forked child too."""


class Lines(Protocol):
    """Gives each emitter its line."""

    def open(self, emitter: str) -> Line:
        """A line for a new emitter; nothing is opened before its first frames."""

    def unavailable(self, found: str) -> ServiceUnavailableError:
        """What to raise where a line does not take what it should."""


def now_ms() -> int:
    """The wall clock, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def mono_ms() -> int:
    """A clock that never goes back, ms."""
    # CLOCK_BOOTTIME also runs while the machine sleeps; not every kernel has it.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class _Recorded:
    """One recorded event and the one before it, back to the last that is durable.

    Immutable but for letting go of `before`: whatever exception strikes, an emitter's `last` names
    a whole chain.
    """

    __slots__ = ("before", "frames", "hash", "seq")

    def __init__(self, seq: int, digest: str, frames: bytes, before: _Recorded | None) -> None:
        self.seq, self.hash, self.frames, self.before = seq, digest, frames, before


class _Emitter:
    """What this process has said; only ever touched under the sink's lock."""

    __slots__ = (
        "durable",
        "id",
        "last",
        "line",
        "lost_count",
        "missed_count",
        "missed_since",
        "mono",
        "opened",
        "waiting_bytes",
    )

    def __init__(self, emitter_id: str, opened: int, line: Line) -> None:
        self.id, self.opened, self.line = emitter_id, opened, line
        self.mono = self.missed_since = self.waiting_bytes = self.lost_count = self.missed_count = 0
        self.last: _Recorded | None = None
        self.durable: _Recorded | None = None

    def unsettled(self) -> bytes:
        frames, node = [], self.last
        while node is not None and node is not self.durable:
            frames.append(node.frames)
            node = node.before
        return b"".join(reversed(frames))


class EmitterSink:
    """An AuditSink over a line; safe from many threads, and across a fork."""

    def __init__(
        self,
        program: str,
        lines: Lines,
        *,
        run: RunRef | None = None,
        airflow: str | None = None,
        hide: Collection[str] = (),
        on_unavailable: str = "refuse",
        now_ms: Callable[[], int] = now_ms,
        mono_ms: Callable[[], int] = mono_ms,
        random_bytes: Callable[[int], bytes] = os.urandom,
        system: Any = os,
    ) -> None:
        """Store the arguments; the first event opens the emitter, its first `settle` the line.

        Args:
            program: What this process is, such as `task`, `guardian`, `scheduler`.
            lines: Where its frames go.
            run: What events belong to that name no run themselves.
            airflow: Airflow's version, where it is loaded.
            hide: Fields to hide (option audit_hide).
            on_unavailable: `refuse` raises at a point not reached; `continue` counts it.
            now_ms: Wall clock, ms since 1970 UTC.
            mono_ms: A clock that never goes back, ms.
            random_bytes: Draws emitters and salts.
            system: Stands for module `os`.

        Raises:
            ConfigurationError: `hide` names a field that must stay readable, or another
                `on_unavailable`.
        """
        if on_unavailable not in {"refuse", "continue"}:
            raise ConfigurationError(
                f"[secure_ml] audit_unavailable: refuse or continue, not {on_unavailable!r}"
            )
        self._lines = lines
        self._program, self._run, self._airflow = program, run, airflow
        self._hide = check_hide(hide)
        self._goes_on = on_unavailable == "continue"
        self._now_ms, self._mono_ms, self._random_bytes = now_ms, mono_ms, random_bytes
        self._system = system
        self._salts: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._emitter: _Emitter | None = None
        self._parent: str | None = None
        _SINKS.add(self)

    @property
    def emitter(self) -> str | None:
        """This process's emitter, 32 hex digits; None before its first event."""
        return None if self._emitter is None else self._emitter.id

    def record(self, fact: Fact) -> str:
        """Take a fact; returns the event's name. Durable only after `settle`.

        Returns:
            `<emitter>:<seq>`; empty if the fact was counted as lost (`continue` only).

        Raises:
            FormatError: Not an event of the catalogue, or over 32768 bytes (why `bug`).
        """
        with self._lock:
            return self._record(fact)

    def settle(self) -> None:
        """Return when everything recorded so far would survive a power loss.

        Raises:
            ServiceUnavailableError: It cannot be made durable (why audit_unavailable). The events
                are kept, and the next call tries again.
        """
        with self._lock:
            self._settle()

    def try_record(self, fact: Fact) -> str | None:
        """Record and settle, unless another call is under way; for `on_kill`, which must not wait.

        Returns:
            The event's name; None if nothing was recorded and the guardian has to.

        Raises:
            ServiceUnavailableError: As `settle`.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            name = self._record(fact)
            self._settle()
            return name
        finally:
            self._lock.release()

    def close(self) -> None:
        """Record emitter.close and let go; written, not waited for. May be called twice.

        Recording afterwards begins a new emitter, whose open names this one.

        Raises:
            ServiceUnavailableError: Other events were waiting to be settled and could not even be
                written.
        """
        with self._lock:
            emitter = self._emitter
            if emitter is None or emitter.last is None:
                return
            others_wait = emitter.last is not emitter.durable
            count = emitter.last.seq + 2
            self._append(
                emitter,
                Fact(act="emitter.close", phase="seen", result="ok", more={"events": count}),
            )
            self._emitter, self._parent = None, emitter.id
            try:
                emitter.line.write(emitter.unsettled(), wait=False)
            except OSError as error:
                # Without others, a missing emitter.close says it all: the emitter reads as cut.
                if others_wait and not self._goes_on:
                    raise self._unavailable(error) from error
            finally:
                emitter.line.close()

    def _record(self, fact: Fact) -> str:
        emitter = self._emitter
        if emitter is None:
            emitter = self._open_emitter()
        if emitter.waiting_bytes > MAX_WAITING_BYTES and self._goes_on:
            emitter.lost_count += 1
            return ""
        return self._append(emitter, fact)

    def _open_emitter(self) -> _Emitter:
        system = self._system
        emitter_id = self._random_bytes(EMITTER_BYTES).hex()
        emitter = _Emitter(emitter_id, self._mono_ms(), self._lines.open(emitter_id))
        facts = {
            "airflow": self._airflow,
            "boot": boot_id(),
            "host": system.uname().nodename,
            "parent": self._parent,
            "pid": system.getpid(),
            "program": self._program,
            "uid": system.getuid(),
            "version": __version__,
        }
        self._append(emitter, Fact(act="emitter.open", phase="seen", result="ok", more=facts))
        self._emitter = emitter
        return emitter

    def _append(self, emitter: _Emitter, fact: Fact) -> str:
        before = emitter.last
        seq = 0 if before is None else before.seq + 1
        emitter.mono = max(emitter.mono, self._mono_ms() - emitter.opened) if seq else 0
        record = assemble(
            fact,
            emitter=emitter.id,
            seq=seq,
            prev=None if before is None else before.hash,
            time=self._now_ms(),
            mono=emitter.mono,
            run=self._run,
        )
        shown, asides = redact(record, names=self._hide, salt=self._salt)
        data = canonical.encode(shown)
        # What lies aside comes first, so no reader ever has a hidden value without what it hides.
        frames = b"".join(frame.encode_frame(frame.ASIDE, aside.encode()) for aside in asides)
        frames += frame.encode_frame(frame.EVENT, data)
        emitter.waiting_bytes += len(frames)
        # The one assignment that makes it so: an exception before it leaves nothing behind.
        emitter.last = _Recorded(seq, leaf_hash(data).hex(), frames, before)
        return f"{emitter.id}:{seq}"

    def _settle(self) -> None:
        emitter = self._emitter
        if emitter is None or emitter.last is emitter.durable:
            return
        try:
            self._write_out(emitter)
            if emitter.missed_count:
                self._append(emitter, _loss(emitter))
                self._write_out(emitter)
                emitter.missed_count = emitter.lost_count = 0
        except OSError as error:
            if not self._goes_on:
                raise self._unavailable(error) from error
            emitter.missed_since = emitter.missed_since if emitter.missed_count else self._now_ms()
            emitter.missed_count += 1

    def _write_out(self, emitter: _Emitter) -> None:
        last = emitter.last
        emitter.line.write(emitter.unsettled(), wait=True)
        emitter.durable = last
        emitter.waiting_bytes = 0
        if last is not None:
            last.before = None

    def _salt(self, path: str, value: str) -> bytes:
        if path not in PERSONS:
            return self._random_bytes(SALT_BYTES)
        return self._salts.setdefault(value, self._random_bytes(SALT_BYTES))

    def _unavailable(self, error: OSError) -> ServiceUnavailableError:
        return self._lines.unavailable(error.strerror or type(error).__name__)

    def _after_fork(self) -> None:
        """Be a new emitter in a forked child: what waits is the parent's to write."""
        self._lock = threading.Lock()
        emitter, self._emitter = self._emitter, None
        if emitter is not None:
            self._parent = emitter.id
            emitter.line.close()


def _loss(emitter: _Emitter) -> Fact:
    facts = {
        "events": emitter.lost_count,
        "points": emitter.missed_count,
        "since": emitter.missed_since,
    }
    return Fact(
        act="emitter.loss", phase="seen", result="failed", why="audit_unavailable", more=facts
    )


# os.register_at_fork cannot be undone, so it is told once and asks for whoever is still there.
_SINKS: weakref.WeakSet[EmitterSink] = weakref.WeakSet()


def _after_fork(sinks: Iterable[EmitterSink] = _SINKS) -> None:
    for sink in sinks:
        sink._after_fork()


os.register_at_fork(after_in_child=_after_fork)
