"""Give every sealed object below an address the newest version of one key.

Core, payload and signatures stay as they are. Each object is replaced at once or not at all, so
what was interrupted is begun again and goes on with what is left.

Source: SEALED_FILE_FORMAT, Rewrap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_secure_ml.core.ports import ObjectStore, RotatingKeys
from airflow_secure_ml.errors import (
    MAX_NAMES,
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceError,
    ServiceRefusedError,
)
from airflow_secure_ml.services.blind_rewrapping import (
    BlindRewriter,
    Change,
    OldObject,
    ReaderRewriter,
    Rewriter,
)
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.sealed_walk import addresses_below, pin_sealed

# As many bodies as Vault and OpenBao surely take at once; so many objects are held open.
BATCH_OBJECTS = 100
ACT = "object.rewrap"


class Trail(Protocol):
    """Where it is said what is done: `services.journal.Journal`."""

    def intend(self, act: str, **parts: Any) -> str:
        """Record what is about to be done; returns the event's name."""

    def did(self, act: str, *, of: str | None = None, **parts: Any) -> str:
        """Record that it was."""

    def refused(
        self, act: str, error: SecureMLError, *, of: str | None = None, **parts: Any
    ) -> str:
        """Record that it was not."""

    def settle(self) -> None:
        """Return when all of it is durable."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of it, so far.

    Attributes:
        key: The key's name.
        newest: Its newest version; None: not known (yet), and no right to ask.
        rewrapped: Objects that were rewritten.
        already: Objects that had the newest version.
        others: Sealed objects that this key does not open.
        failed: Objects that stayed as they were, and should not have.
        failures: The first ten reasons why.
    """

    key: str
    newest: int | None = None
    rewrapped: int = 0
    already: int = 0
    others: int = 0
    failed: int = 0
    failures: list[SecureMLError] = field(default_factory=list)

    @property
    def looked_at(self) -> int:
        """Sealed objects that are settled."""
        return self.rewrapped + self.already + self.others + self.failed

    def fail(self, error: SecureMLError) -> None:
        """Count an object that stayed as it was."""
        self.failed += 1
        if len(self.failures) < MAX_NAMES:
            self.failures.append(error)

    def raise_failures(self, uri: str) -> None:
        """Return if every object has the newest version now; else raise the first reason."""
        if not self.failures:
            return
        first = self.failures[0]
        first.args = (
            f"{uri}: {self.failed} of {self.looked_at} sealed objects were not rewrapped with key "
            f"{self.key} and stayed as they were, the others were: {first}",
        )
        raise first


def rewrap_below(
    store: ObjectStore,
    uri: str,
    *,
    keys: RotatingKeys,
    name: str,
    trail: Trail,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Rewrap what lies below a canonical address with the newest version of a key.

    Blind where the key lies elsewhere: a right to rewrap is enough. An object that was replaced
    meanwhile is left whole and looked at once more.

    Args:
        store: Where it lies.
        uri: A directory, or one object.
        keys: The key system.
        name: The key; slots of other keys stay as they are.
        trail: Takes an intent and an outcome for each object that is rewritten.
        progress: Called with the number of sealed objects done so far.

    Returns:
        What came of it; objects that failed for a reason of their own are in it.

    Raises:
        ConfigurationError: Nothing is there.
        PolicyError: There is no such key.
        ServiceError: Key system, store or trail failed; what was rewritten stays so.
    """
    newest = _newest(keys, name)
    is_blind = keys.is_blind(name)
    rewriter = BlindRewriter(keys, name, newest) if is_blind else ReaderRewriter(keys, name)
    tally = Tally(key=name, newest=newest)
    work = _Work(store, keys, rewriter, trail, tally, progress or (lambda done: None))
    # Who replaced an object meanwhile sealed it with the newest version, most likely.
    replaced = work.each(addresses_below(store, uri))
    for error in work.each(list(replaced)).values():
        tally.fail(error)
    trail.settle()
    return tally


def _newest(keys: RotatingKeys, name: str) -> int | None:
    try:
        return keys.versions(name)[-1].number
    except ServiceRefusedError:
        # A role that may only rewrap learns it from the first answer.
        if keys.is_blind(name):
            return None
        raise


@dataclass(frozen=True, slots=True)
class _Work:
    store: ObjectStore
    keys: RotatingKeys
    rewriter: Rewriter
    trail: Trail
    tally: Tally
    progress: Callable[[int], None]

    def each(self, addresses: Iterable[str]) -> dict[str, SecureMLError]:
        """Rewrap in batches; returns what others replaced meanwhile, each with its refusal."""
        replaced: dict[str, SecureMLError] = {}
        with contextlib.ExitStack() as held:
            batch: dict[str, OldObject] = {}
            for address in addresses:
                old = self._look(address)
                if old is None:
                    self.progress(self.tally.looked_at)
                    continue
                held.enter_context(old.pinned)
                # Two names may lead to one object.
                batch[old.pinned.uri] = old
                if len(batch) == BATCH_OBJECTS:
                    replaced |= self._rewrap(list(batch.values()))
                    batch.clear()
                    held.close()
            replaced |= self._rewrap(list(batch.values()))
        return replaced

    def _look(self, address: str) -> OldObject | None:
        """The object if it has an older version of the key; the caller lets go of it."""
        try:
            seen = pin_sealed(self.store, address)
        except (ConfigurationError, FormatError, IntegrityError) as error:
            self.trail.refused(ACT, error, object={"uri": address})
            self.tally.fail(error)
            return None
        if seen is None:
            return None
        pinned, header = seen
        numbers = {slot: self.keys.version_in(self.tally.key, slot) for slot in header.slots}
        ours = {slot: number for slot, number in numbers.items() if number is not None}
        newest = self.tally.newest
        if ours and (newest is None or min(ours.values()) < newest):
            return OldObject(pinned=pinned, header=header, slots=ours)
        pinned.__exit__(None, None, None)
        if ours:
            self.tally.already += 1
        else:
            self.tally.others += 1
        return None

    def _rewrap(self, batch: Sequence[OldObject]) -> dict[str, SecureMLError]:
        intents = {old.pinned.uri: self._intend(old) for old in batch}
        self.trail.settle()
        replaced: dict[str, SecureMLError] = {}
        try:
            for old, change in zip(batch, self.rewriter.changes(batch), strict=True):
                error = self._settled(old, change, intents[old.pinned.uri])
                del intents[old.pinned.uri]
                if error is not None:
                    replaced[old.pinned.uri] = error
                self.progress(self.tally.looked_at)
        except ServiceError as error:
            for uri, intent in intents.items():
                self.trail.refused(ACT, error, of=intent, object={"uri": uri})
            self.trail.settle()
            raise
        return replaced

    def _intend(self, old: OldObject) -> str:
        before = self.keys.ref(self.tally.key, old.oldest)
        return self.trail.intend(
            ACT,
            object={"uri": old.pinned.uri},
            key=key_facts(before),
            more={"from_keys": [str(before)]},
        )

    def _settled(
        self, old: OldObject, change: Change | SecureMLError | None, intent: str
    ) -> SecureMLError | None:
        """Write and publish one object, recorded; returns the refusal if others replaced it."""
        uri, name = old.pinned.uri, self.tally.key
        before = self.keys.ref(name, old.oldest)
        facts: dict[str, Any] = {"of": intent, "key": key_facts(before)}
        if change is None:
            self._learn(old.oldest)
            self.tally.already += 1
            because = "its version is the newest"
            self.trail.did(ACT, object={"uri": uri}, more={"because": because}, **facts)
            return None
        if isinstance(change, SecureMLError):
            self.trail.refused(ACT, change, object={"uri": uri}, **facts)
            self.tally.fail(change)
            return None
        try:
            with self.store.create(uri) as writer:
                number = change(writer)
                version = writer.commit(replace=True, if_version=old.pinned.version)
        except (ConfigurationError, FormatError, IntegrityError, PolicyError) as error:
            self.trail.refused(ACT, error, object={"uri": uri}, **facts)
            if isinstance(error, IntegrityError) and not isinstance(error, CiphertextError):
                return error
            self.tally.fail(error)
            return None
        self._learn(number)
        self.tally.rewrapped += 1
        after = self.keys.ref(name, number)
        facts |= {"key": key_facts(after)}
        more = {"from_keys": [str(before)], "to_keys": [str(after)]}
        self.trail.did(ACT, object={"uri": uri, "version": version}, more=more, **facts)
        return None

    def _learn(self, number: int) -> None:
        self.tally.newest = max(number, self.tally.newest or 0)
