"""What an event may carry in the open, and what stands in it as a hidden value.

A hidden value is a salted hash in the event and the value itself in a record aside, which can be
erased: the event and every proof stay. Salts come from the caller.

Source: AUDIT_TRAIL, Event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core import canonical
from airflow_secure_ml.errors import ConfigurationError

MAX_SHOWN_BYTES = 1024
SALT_BYTES = 16
# People; one salt each, so that what one person did can be found.
PERSONS = frozenset({"by", "more.assignee"})
# A reviewer's own words may name somebody: they can be erased as a name can.
_ALWAYS_HIDDEN = PERSONS | {"more.note"}

# Without these an event could be neither chained, found nor joined.
NEVER_HIDDEN = frozenset(
    {"emitter", "prev", "act", "phase", "result", "why", "of", "run.dag", "run.ti"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """The value behind a hidden value; goes to table aside, never into a leaf.

    Attributes:
        h: 64 hex digits, what the event holds instead.
        salt: 16 bytes, as 32 hex digits.
        value: The value.
    """

    h: str
    salt: str
    value: str

    def encode(self) -> bytes:
        """The payload of an aside frame."""
        return canonical.encode({"h": self.h, "salt": self.salt, "value": self.value})

    def __repr__(self) -> str:
        return f"Aside(h={self.h!r})"


def hidden_hash(value: str, salt: bytes) -> str:
    """Hash a value that is to be hidden: SHA-256("asml/v1/hidden" ‖ 00 ‖ salt[16] ‖ UTF-8)."""
    return hashlib.sha256(b"asml/v1/hidden\0" + salt + value.encode("utf-8")).hexdigest()


def gives_hash(value: str, salt: bytes, h: str) -> bool:
    """Whether a value and its salt are those behind a hidden value.

    The salt's length counts: with another one, letters of the value could move into it.
    """
    return len(salt) == SALT_BYTES and hidden_hash(value, salt) == h


def check_hide(names: Collection[str]) -> frozenset[str]:
    """Check the fields that a deployment wants hidden (option audit_hide).

    Args:
        names: Fields as `object.uri`, `run.task`, `more.host`; a list's fields without a position
            (`more.reads.uri`).

    Raises:
        ConfigurationError: A field that must stay readable.
    """
    for name in names:
        if name in NEVER_HIDDEN:
            raise ConfigurationError(
                f"[secure_ml] audit_hide: {name} cannot be hidden, or events could not be chained "
                f"and joined; never hidden are {', '.join(sorted(NEVER_HIDDEN))}"
            )
    return frozenset(names)


def redact(
    record: Mapping[str, Any], *, names: Collection[str], salt: Callable[[str, str], bytes]
) -> tuple[dict[str, Any], list[Aside]]:
    """Hide what must not stand in the open: people, notes, long texts, the fields in `names`.

    An object in a list is hidden whole, as its canonical text: a hidden value inside it would be
    deeper than an event may be.

    Args:
        record: An event as `assemble` made it.
        names: What `check_hide` returned.
        salt: Gives 16 random bytes for a field and its value; for a person always the same.

    Returns:
        The record to encode, and what lies aside.

    Raises:
        FormatError: A text to hide holds U+0000 or a lone surrogate.
    """
    asides: list[Aside] = []

    def hide(path: str, value: str) -> dict[str, Any]:
        salt_bytes = salt(path, canonical.checked_text(value))
        h = hidden_hash(value, salt_bytes)
        asides.append(Aside(h=h, salt=salt_bytes.hex(), value=value))
        return {"h": h, "n": len(value.encode("utf-8"))}

    def due(path: str, value: Any) -> bool:
        if not isinstance(value, str) or path in NEVER_HIDDEN:
            return False
        return path in _ALWAYS_HIDDEN or path in names or _is_long(value)

    def walk(path: str, value: Any) -> Any:
        if isinstance(value, str):
            return hide(path, value) if due(path, value) else value
        # Said much sooner than whether something is a Mapping; `dict` is one as well.
        if isinstance(value, int):
            return value
        if isinstance(value, (dict, Mapping)):
            return {name: walk(f"{path}.{name}", inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [item(path, inner) for inner in value]
        return value

    def item(path: str, value: Any) -> Any:
        if isinstance(value, Mapping) and any(due(f"{path}.{n}", v) for n, v in value.items()):
            return hide(path, canonical.encode(value).decode("utf-8"))
        return walk(path, value)

    return {name: walk(name, value) for name, value in record.items()}, asides


def _is_long(value: str) -> bool:
    # A character has four bytes at most; most texts need not be encoded to know.
    if len(value) <= MAX_SHOWN_BYTES // 4:
        return False
    return len(value.encode("utf-8", "surrogatepass")) > MAX_SHOWN_BYTES
