"""Read secrets from a store that should not be asked twice: cached, bounded, calm when it fails.

Who may use what is read is decided anew at each use, by `core.stored_secret`. Everything is kept in
memory, for one process; a forked child begins with nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from airflow_secure_ml.core.stored_secret import StoredSecret
from airflow_secure_ml.errors import (
    SecureMLError,
    ServiceUnavailableError,
    rebuild,
)

# An absent secret may be written, and a denied one allowed, at any time.
SHORT_S = 3.0
LONGEST_WAIT_S = 2.0


class SecretEngine(Protocol):
    """Something that holds secrets by path."""

    def read(self, mount: str, path: str) -> StoredSecret | None:
        """A secret; None: it is not there. SecureMLError: it is not known whether it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is asked and kept.

    Attributes:
        cache_ttl_s: Seconds that a secret is kept; 0: not at all.
        cache_size: How many are kept.
        per_s: Look-ups that reach the store in a second, and at once; 0: as many as come.
    """

    cache_ttl_s: float = 30.0
    cache_size: int = 256
    per_s: float = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An answer.

    Attributes:
        secret: The secret; None: it is not there.
        cached: Whether the store was not asked.
    """

    secret: StoredSecret | None
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    until_s: float
    secret: StoredSecret | None
    refusal: SecureMLError | None


class SecretReading:
    """A store's secrets, as a process reads them; safe from many threads.

    Args:
        engine: Makes the store's client on first use.
        limits: How much is asked and kept.
        clock: Seconds; any zero, never back.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        engine: Callable[[], SecretEngine],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._make, self._limits = engine, limits
        self._clock, self._sleep = clock, sleep
        self._engine: SecretEngine | None = None
        self.forget()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretReading holds secrets and cannot be pickled")

    def forget(self) -> None:
        """Begin anew: nothing is kept, and no lock held."""
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._tokens, self._filled_s = max(1.0, self._limits.per_s), self._clock()
        self._down: tuple[float, SecureMLError] | None = None

    def read(self, mount: str, path: str) -> Found:
        """Read a secret, from memory while that holds.

        Raises:
            ServiceError: The store refuses, does not answer, or is asked too often.
            SecureMLError: Anything else that leaves open whether it is there.
        """
        entry = self._still_kept((mount, path))
        if entry is not None:
            if entry.refusal is not None:
                raise _again(entry.refusal)
            return Found(secret=entry.secret, cached=True)
        self._take_turn()
        try:
            secret = self._ask(mount, path)
        except ServiceUnavailableError as error:
            self._down = (self._clock() + SHORT_S, _again(error))
            raise
        except SecureMLError as error:
            self._keep((mount, path), SHORT_S, None, _again(error))
            raise
        ttl_s = self._limits.cache_ttl_s
        self._keep((mount, path), min(ttl_s, SHORT_S) if secret is None else ttl_s, secret, None)
        return Found(secret=secret, cached=False)

    def _ask(self, mount: str, path: str) -> StoredSecret | None:
        down = self._down
        if down is not None and self._clock() < down[0]:
            # Each look-up would wait for the store's whole deadline.
            raise _again(down[1])
        with self._making:
            # Two would be two logins.
            if self._engine is None:
                self._engine = self._make()
        found = self._engine.read(mount, path)
        self._down = None
        return found

    def _still_kept(self, key: tuple[str, str]) -> _Entry | None:
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            if self._clock() >= entry.until_s:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return entry

    def _keep(
        self,
        key: tuple[str, str],
        ttl_s: float,
        secret: StoredSecret | None,
        refusal: SecureMLError | None,
    ) -> None:
        if ttl_s <= 0:
            return
        now = self._clock()
        entry = _Entry(until_s=now + ttl_s, secret=secret, refusal=refusal)
        with self._lock:
            # A secret that is not asked for again would stay in memory for good.
            for old in [name for name, one in self._kept.items() if now >= one.until_s]:
                del self._kept[old]
            self._kept[key] = entry
            self._kept.move_to_end(key)
            while len(self._kept) > self._limits.cache_size:
                self._kept.popitem(last=False)

    def _take_turn(self) -> None:
        """Wait for a turn, a little; a token bucket that may go below zero by who waits."""
        per_s = self._limits.per_s
        if per_s <= 0:
            return
        with self._lock:
            now = self._clock()
            self._tokens = min(max(1.0, per_s), self._tokens + (now - self._filled_s) * per_s)
            self._filled_s = now
            wait_s = max(0.0, (1.0 - self._tokens) / per_s)
            if wait_s > LONGEST_WAIT_S:
                raise ServiceUnavailableError(
                    f"this process looks up more than {per_s:g} secrets in a second; look them up "
                    "once and keep them, or raise lookups_per_s",
                    service="secrets back end",
                    action="look a secret up",
                    reason="too many look-ups",
                )
            self._tokens -= 1.0
        if wait_s:
            self._sleep(wait_s)


def _again(error: SecureMLError) -> SecureMLError:
    """A copy: each time that one error is raised, it holds another traceback."""
    state = {name: value for name, value in error.__dict__.items() if name != "__notes__"}
    return rebuild(type(error), error.args, state)
