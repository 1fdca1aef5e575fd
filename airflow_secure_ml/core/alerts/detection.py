"""Read a rule's detection: search identifiers, fields, modifiers, values.

What is not known here is refused by its name: a part that is silently left out would change what
the rule means.

Source: Sigma 2.1, Detection; Appendix Modifiers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.alerts.condition import parse_condition
from airflow_secure_ml.core.alerts.matching import (
    FLAGS,
    NUMERIC,
    TEXTUAL,
    All,
    AnyOf,
    Expression,
    FieldTest,
    Presence,
    check_of,
)
from airflow_secure_ml.core.alerts.taxonomy import field_kinds
from airflow_secure_ml.core.audit.catalogue import ACTIVITIES, PHASES, RESULTS, WHYS
from airflow_secure_ml.errors import ConfigurationError

MAX_VALUES = 200
_WORDS = {"act": ACTIVITIES.keys(), "phase": PHASES, "result": RESULTS, "why": WHYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What one rule means by an event.

    Attributes:
        condition: Whether an event fits.
        acts: Activities that it can only be; empty: any.
    """

    condition: Expression
    acts: frozenset[str]


def parse_detection(found: Any) -> Detection:
    """Read the part `detection` of a rule.

    Raises:
        ConfigurationError: It holds what this release does not evaluate, or what no event has.
    """
    if not isinstance(found, Mapping) or "condition" not in found:
        raise ConfigurationError("detection: expected selections and a condition")
    named = {str(name): value for name, value in found.items() if name != "condition"}
    if "timeframe" in named:
        raise ConfigurationError("detection: timeframe is gone from Sigma; use a correlation")
    if not named:
        raise ConfigurationError("detection: expected a selection, found none")
    acts = {name: _acts(value) for name, value in named.items()}
    selections = {name: _selection(name, value, acts[name]) for name, value in named.items()}
    text = found["condition"]
    texts = text if isinstance(text, list) else [text]
    if not texts or not all(isinstance(each, str) for each in texts):
        raise ConfigurationError("condition: expected text, or a list of texts")
    parts = tuple(parse_condition(each, selections) for each in texts)
    condition = parts[0] if len(parts) == 1 else AnyOf(parts=parts)
    return Detection(condition=condition, acts=_only(condition, selections, acts))


def _only(
    condition: Expression,
    selections: Mapping[str, Expression],
    acts: Mapping[str, frozenset[str]],
) -> frozenset[str]:
    """The activities that a condition can only fit, so that others need not be asked."""
    for name, selection in selections.items():
        if selection is condition:
            return acts[name]
    if isinstance(condition, All):
        found = [_only(part, selections, acts) for part in condition.parts]
        return next((each for each in found if each), frozenset())
    if isinstance(condition, AnyOf):
        found = [_only(part, selections, acts) for part in condition.parts]
        return frozenset().union(*found) if all(found) else frozenset()
    return frozenset()


def _acts(found: Any) -> frozenset[str]:
    """The activities that a selection names in plain words; empty: any."""
    parts = found if isinstance(found, list) else [found]
    named: set[str] = set()
    for part in parts:
        act = part.get("act") if isinstance(part, Mapping) else None
        words = act if isinstance(act, list) else [act]
        known = [word for word in words if isinstance(word, str) and word in ACTIVITIES]
        if not words or len(known) < len(words):
            return frozenset()
        named.update(known)
    return frozenset(named)


def _selection(name: str, found: Any, acts: frozenset[str]) -> Expression:
    if isinstance(found, Mapping):
        return _map(name, found, acts)
    if not isinstance(found, list) or not found:
        raise ConfigurationError(f"{name}: expected fields with values")
    if not all(isinstance(part, Mapping) for part in found):
        raise ConfigurationError(
            f"{name}: keywords without a field are not searched for; name the field"
        )
    return AnyOf(parts=tuple(_map(name, part, acts) for part in found))


def _map(name: str, found: Mapping[Any, Any], acts: frozenset[str]) -> Expression:
    if not found:
        raise ConfigurationError(f"{name}: expected fields with values, found none")
    return All(parts=tuple(_line(str(key), value, acts) for key, value in found.items()))


def _line(key: str, found: Any, acts: frozenset[str]) -> Expression:
    field, *modifiers = key.split("|")
    _check_modifiers(key, modifiers)
    kinds = field_kinds(field, acts)
    if not kinds:
        of = f" of {', '.join(sorted(acts))}" if acts else ""
        raise ConfigurationError(
            f"{key}: no event{of} has a field {field!r}; docs/audit-events.md lists them"
        )
    if "exists" in modifiers:
        if not isinstance(found, bool):
            raise ConfigurationError(f"{key}: expected true or false")
        return Presence(field=field, is_there=found)
    if found is None:
        return Presence(field=field, is_there=False)
    values = found if isinstance(found, list) else [found]
    _check_values(key, field, modifiers, values, kinds)
    return FieldTest(
        field=field,
        checks=tuple(check_of(value, modifiers) for value in values),
        needs_all="all" in modifiers,
        is_negated="neq" in modifiers,
    )


def _check_modifiers(key: str, modifiers: Sequence[str]) -> None:
    unknown = [m for m in modifiers if m not in NUMERIC.keys() | TEXTUAL | FLAGS]
    if unknown:
        raise ConfigurationError(
            f"{key}: modifier {unknown[0]!r} is not evaluated here; known are "
            f"{', '.join(sorted(NUMERIC.keys() | TEXTUAL | FLAGS))}"
        )
    if len([m for m in modifiers if m in NUMERIC.keys() | TEXTUAL]) > 1:
        raise ConfigurationError(f"{key}: expected one way to compare, found more")


def _check_values(
    key: str, field: str, modifiers: Sequence[str], values: Sequence[Any], kinds: Collection[str]
) -> None:
    if not 0 < len(values) <= MAX_VALUES:
        raise ConfigurationError(f"{key}: {len(values)} values, expected 1 to {MAX_VALUES}")
    if "all" in modifiers and len(values) < 2:
        raise ConfigurationError(f"{key}: all needs more than one value")
    numeric = any(m in NUMERIC for m in modifiers)
    for value in values:
        if not isinstance(value, str | int):
            raise ConfigurationError(f"{key}: {value!r:.60} is neither text, number nor flag")
        kind = "flag" if isinstance(value, bool) else "int" if isinstance(value, int) else "text"
        if (numeric and kind != "int") or (kind not in kinds and kinds != {"list"}):
            raise ConfigurationError(
                f"{key}: found {value!r:.60}; expected {' or '.join(sorted(kinds))}"
            )
        _check_word(key, field, modifiers, value)


def _check_word(key: str, field: str, modifiers: Sequence[str], value: str | int) -> None:
    """Refuse a word that no event can hold; it would make a rule that never fires."""
    words = _WORDS.get(field)
    if words is None or any(m in TEXTUAL for m in modifiers) or set("*?\\") & set(str(value)):
        return
    if str(value).lower() not in words:
        raise ConfigurationError(f"{key}: no event has the {field} {value!r:.60}")
