"""Whether an event is one that a rule means: fields, values and their modifiers.

Regular expressions of a rule are not taken: one that backtracks would hold every alert up.

Source: Sigma 2.1, Detection and Modifiers.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_secure_ml.core.alerts.taxonomy import DERIVED, values_of
from airflow_secure_ml.core.audit.query import Leaf

NUMERIC = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}
TEXTUAL = frozenset({"contains", "startswith", "endswith"})
FLAGS = frozenset({"all", "cased", "exists", "neq"})


class Derive(Protocol):
    """Works out a derived field of a leaf."""

    def __call__(self, leaf: Leaf, name: str) -> Any:
        """Its value; None: the log does not have what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A leaf as rules see it."""

    leaf: Leaf
    derive: Derive

    def values(self, name: str) -> tuple[Any, ...]:
        """What it holds in a field; empty: nothing."""
        if name not in DERIVED:
            return values_of(self.leaf.event, name)
        found = self.derive(self.leaf, name)
        return () if found is None else (found,)


class Expression(Protocol):
    """A part of a rule's condition."""

    def holds(self, seen: Seen) -> bool:
        """Whether it is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldTest:
    """One line of a selection.

    Attributes:
        field: Dotted name.
        checks: One for each value of the line; a value of the event has to pass one.
        needs_all: Each of them has to be passed instead.
        is_negated: It must not be so; an event without the field passes.
    """

    field: str
    checks: tuple[Callable[[Any], bool], ...]
    needs_all: bool = False
    is_negated: bool = False

    def holds(self, seen: Seen) -> bool:
        found = seen.values(self.field)
        each = (any(check(value) for value in found) for check in self.checks)
        return (all(each) if self.needs_all else any(each)) != self.is_negated


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether a field is there, whatever it holds."""

    field: str
    is_there: bool

    def holds(self, seen: Seen) -> bool:
        return bool(seen.values(self.field)) == self.is_there


@dataclass(frozen=True, slots=True, kw_only=True)
class All:
    """Each of them."""

    parts: tuple[Expression, ...]

    def holds(self, seen: Seen) -> bool:
        return all(part.holds(seen) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """One of them."""

    parts: tuple[Expression, ...]

    def holds(self, seen: Seen) -> bool:
        return any(part.holds(seen) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """The contrary."""

    part: Expression

    def holds(self, seen: Seen) -> bool:
        return not self.part.holds(seen)


def check_of(value: str | int | bool, modifiers: Sequence[str]) -> Callable[[Any], bool]:
    """What a value of the event is held against.

    Args:
        value: The rule's value.
        modifiers: Of `NUMERIC`, `TEXTUAL` and `FLAGS`, as checked by who read them.
    """
    for name, compare in NUMERIC.items():
        if name in modifiers:
            return lambda found: _is_number(found) and compare(found, value)
    if not isinstance(value, str):
        return lambda found: type(found) is type(value) and found == value
    pattern = _pattern(value, modifiers)
    flags = 0 if "cased" in modifiers else re.IGNORECASE
    if len(pattern) > 1:
        pattern[-1] = f"(?:{pattern[-1]})\\Z"
    parts = [re.compile(part, flags | re.DOTALL) for part in pattern]
    return lambda found: isinstance(found, str) and _fits(found, parts)


def _is_number(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _pattern(value: str, modifiers: Sequence[str]) -> list[str]:
    """A value as the pieces between its `*`; `?` is any one sign, a backslash takes both away."""
    pieces, at = [""], 0
    while at < len(value):
        char, after = value[at], value[at + 1 : at + 2]
        if char == "\\" and after in ("*", "?", "\\"):
            pieces[-1] += re.escape(after)
            at += 1
        elif char == "*":
            pieces.append("")
        else:
            pieces[-1] += "." if char == "?" else re.escape(char)
        at += 1
    if "contains" in modifiers or "endswith" in modifiers:
        pieces.insert(0, "")
    if "contains" in modifiers or "startswith" in modifiers:
        pieces.append("")
    return pieces


def _fits(text: str, pieces: Sequence[re.Pattern[str]]) -> bool:
    # Piece by piece from the left: no way back, so no text takes longer than its length times two.
    if len(pieces) == 1:
        return pieces[0].fullmatch(text) is not None
    first = pieces[0].match(text)
    if first is None:
        return False
    at = first.end()
    for piece in pieces[1:]:
        found = piece.search(text, at)
        if found is None:
            return False
        at = found.end()
    return True
