"""Which suites, slot types, signature types and digests may be written, and which still read.

Names and numbers only: nothing is imported, so that reading settings stays cheap. The policy comes
with the keys (`governing`): nothing is sealed, opened, signed or verified without one, so there is
no way around it. Numbers belong to docs/sealed-file-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from airflow_secure_ml.errors import ConfigurationError, PolicyError

OPTION = "[secure_ml] crypto_policy"
SUITE_FILE = 0x01
SUITE_COBBLESTONE = 0x02
SUITES: Mapping[int, str] = {SUITE_FILE: "aes256-gcm-1mb", SUITE_COBBLESTONE: "cobblestone-256"}
_HPKE = 2
_KEMS = {0x0020: "hpke-x25519", 0x647A: "hpke-mlkem768-x25519"}
_SLOTS = {1: "local", 3: "vault", 4: "aws-kms", 5: "data-set-key", 6: "pkcs11"}
SLOTS = (_SLOTS[1], *_KEMS.values(), *(_SLOTS[each] for each in (3, 4, 5, 6)))
SIGNATURES = ("ed25519", "ml-dsa-65")
DIGESTS = ("sha256", "blake3")
# What verifies as one type has its length: a signature cannot pass for another's.
_SIGNATURE_BYTES = {64: SIGNATURES[0], 3309: SIGNATURES[1]}
_KNOWN = {
    "suites": tuple(SUITES.values()),
    "slots": SLOTS,
    "signatures": SIGNATURES,
    "digests": DIGESTS,
}
# Recipients open what they are sent elsewhere, and two signatures are written where one counts.
_WRITTEN_IS_READ = ("suites", "digests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What may be done in one direction, by name.

    Attributes:
        suites: Of sealed files; in writing, the first is the one that is written.
        slots: What a file key may be wrapped by, or unwrapped.
        signatures: Types of signatures.
        digests: Of files, in statements; in writing, the first is the one that is taken.
    """

    suites: tuple[str, ...] = _KNOWN["suites"]
    slots: tuple[str, ...] = _KNOWN["slots"]
    signatures: tuple[str, ...] = _KNOWN["signatures"]
    digests: tuple[str, ...] = _KNOWN["digests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoPolicy:
    """What may be written, and what may still be read.

    Attributes:
        write: For seal, wrap and sign.
        read: For open and verify.
        governs: Whether anything is refused; not where no deployment stands behind the keys.
    """

    write: Allowed = field(default_factory=lambda: Allowed(suites=(SUITES[SUITE_FILE],)))
    read: Allowed = field(default_factory=Allowed)
    governs: bool = True

    @property
    def suite_to_write(self) -> int:
        """Number of the suite that new files are of.

        Raises:
            PolicyError: None is allowed, where two policies meet (rule_denied).
        """
        for name in self.write.suites:
            return next(number for number, each in SUITES.items() if each == name)
        raise _denied("suites", "any suite", "write", ())

    @property
    def digest_to_write(self) -> str:
        """The digest that is taken of new files; PolicyError as in `suite_to_write`."""
        for name in self.write.digests:
            return name
        raise _denied("digests", "any digest", "write", ())

    def check_suite(self, number: int, act: str) -> None:
        """Return if files of this suite may be written or read.

        Args:
            number: From the file's core; the suite of a data-set key's header passes, since what
                it opens is checked.
            act: `write` or `read`.

        Raises:
            PolicyError: They may not (rule_denied).
        """
        if number in SUITES:
            self._check("suites", SUITES[number], act)

    def check_slot(self, slot_type: int, body: bytes, act: str) -> None:
        """Return if a slot of this type may be written or read; PolicyError (rule_denied)."""
        self._check("slots", slot_name(slot_type, body), act)

    def check_held(self, signatures: Sequence[bytes]) -> None:
        """Return if one of a key's signatures, all of which hold, is of a type that is read.

        Raises:
            PolicyError: None is (rule_denied).
        """
        names = [signature_name(each) for each in signatures]
        if not set(names) & set(self.read.signatures):
            self.check_signature(names[0], "read")

    def check_signature(self, name: str, act: str) -> None:
        """Return if signatures of this type may be made or count; PolicyError (rule_denied)."""
        self._check("signatures", name, act)

    def check_digest(self, name: str, act: str) -> None:
        """Return if this digest may stand in a statement, or be read there; PolicyError."""
        self._check("digests", name, act)

    def _check(self, kind: str, name: str, act: str) -> None:
        allowed: tuple[str, ...] = getattr(self.write if act == "write" else self.read, kind)
        if self.governs and name not in allowed:
            raise _denied(kind, name, act, allowed)

    def meet(self, other: CryptoPolicy) -> CryptoPolicy:
        """What both allow, in this one's order."""
        return CryptoPolicy(write=_both(self.write, other.write), read=_both(self.read, other.read))


DEFAULT = CryptoPolicy()
UNGOVERNED = CryptoPolicy(governs=False)


@runtime_checkable
class Governed(Protocol):
    """A key, or what leads to keys, that a policy came with."""

    @property
    def crypto_policy(self) -> CryptoPolicy:
        """The policy that its deployment put it under."""


def governing(keys: Iterable[object]) -> CryptoPolicy:
    """The policy that using these keys is under; `UNGOVERNED` where no deployment gave them."""
    found: CryptoPolicy | None = None
    for key in keys:
        if isinstance(key, Governed) and key.crypto_policy.governs:
            found = key.crypto_policy if found is None else found.meet(key.crypto_policy)
    return UNGOVERNED if found is None else found


def slot_name(slot_type: int, body: bytes) -> str:
    """What a policy calls a slot; the kind of an HPKE slot is the first thing in its body."""
    if slot_type == _HPKE:
        kem = int.from_bytes(body[:2], "big")
        return _KEMS.get(kem, f"hpke of kem {kem:04x}")
    return _SLOTS.get(slot_type, f"type {slot_type}")


def signature_name(signature: bytes) -> str:
    """What a policy calls a signature of this length."""
    return _SIGNATURE_BYTES.get(len(signature), f"a signature of {len(signature)} bytes")


def parse_crypto_policy(text: str) -> CryptoPolicy:
    """Read the option: `{"write": {"suites": [...], ...}, "read": {...}}`, any part left out.

    Raises:
        ConfigurationError: Not such an object, an unknown or doubled name, an empty list, or what
            may be written and not be read again.
    """
    if not text:
        return DEFAULT
    parts = _object(_decoded(text), "it", ("write", "read"))
    policy = CryptoPolicy(
        write=_allowed(parts.get("write", {}), "write", DEFAULT.write),
        read=_allowed(parts.get("read", {}), "read", DEFAULT.read),
    )
    for kind in _WRITTEN_IS_READ:
        lost = [each for each in getattr(policy.write, kind) if each not in _of(policy.read, kind)]
        if lost:
            raise _wrong(f"write.{kind} has {', '.join(lost)}, which read.{kind} lacks; add it")
    return policy


def _decoded(text: str) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise _wrong("a name stands twice in one object")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _wrong("it is not JSON") from error


def _object(value: object, what: str, names: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) - set(names):
        raise _wrong(f"{what} is not an object with {', '.join(names)} and nothing else")
    return value


def _allowed(value: object, act: str, default: Allowed) -> Allowed:
    given = _object(value, act, _KNOWN)
    lists = {kind: _names(given[kind], f"{act}.{kind}", _KNOWN[kind]) for kind in given}
    return Allowed(**{each.name: _of(default, each.name) for each in fields(Allowed)} | lists)


def _names(value: object, what: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(each not in known for each in value):
        raise _wrong(f"{what} is not a list of one or more of {', '.join(known)}")
    if len(set(value)) != len(value):
        raise _wrong(f"{what} has a name twice")
    return tuple(value)


def _both(one: Allowed, other: Allowed) -> Allowed:
    return Allowed(
        **{
            each.name: tuple(name for name in _of(one, each.name) if name in _of(other, each.name))
            for each in fields(Allowed)
        }
    )


def _of(allowed: Allowed, kind: str) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(allowed, kind)
    return found


def _denied(kind: str, name: str, act: str, allowed: Collection[str]) -> PolicyError:
    done = "written" if act == "write" else "read"
    return PolicyError(
        f"{name}: {OPTION} ({act}.{kind}) lets only {', '.join(allowed) or 'nothing'} be {done}; "
        "use one of those, or let the platform team add it",
        why="rule_denied",
    )


def _wrong(what: str) -> ConfigurationError:
    example = '{"write": {"suites": ["aes256-gcm-1mb"]}, "read": {"signatures": ["ed25519"]}}'
    return ConfigurationError(f"{OPTION}: {what}; expected such as {example}")
