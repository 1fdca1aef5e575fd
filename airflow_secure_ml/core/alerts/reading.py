"""Turn the documents of Sigma files into alert rules.

A correlation says which rules it counts; a rule that none counts is an alert by itself.

Source: Sigma 2.1, Rules and Correlation Rules.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_secure_ml.core.alerts.detection import Detection, parse_detection
from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.alerts.rule import AlertRule
from airflow_secure_ml.core.alerts.taxonomy import PRODUCT, field_kinds
from airflow_secure_ml.errors import ConfigurationError

HOUR_MS = 3_600_000
MAX_COUNT = 200
MAX_TIMESPAN_MS = 31 * 24 * HOUR_MS
MAX_TITLE, MAX_DESCRIPTION = 256, 4000
_UNITS = {"s": 1000, "m": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}
_TIMESPAN = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{2,63}", re.ASCII)
# Said about a rule, and not evaluated.
_ABOUT = frozenset(
    {
        *("title", "id", "name", "related", "taxonomy", "status", "description", "license"),
        *("author", "references", "date", "modified", "fields", "falsepositives", "level"),
        *("tags", "scope"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file.

    Attributes:
        source: The file, and which of its documents.
        body: What YAML made of it.
    """

    source: str
    body: Mapping[str, Any]


def parse_rules(documents: Iterable[Document]) -> tuple[AlertRule, ...]:
    """Read rules; names are unique among them.

    Raises:
        ConfigurationError: One is not evaluated as it stands; says which, and by what name.
    """
    found = tuple(documents)
    named = _named(found)
    detections: dict[str, tuple[Document, Detection]] = {}
    for name, document in named.items():
        if "correlation" not in document.body:
            detections[name] = (document, _told(document, parse_detection, "detection"))
    counted: set[str] = set()
    rules = []
    for name, document in named.items():
        if "correlation" in document.body:
            correlation = _correlation(document, detections, _ids(found))
            counted.update(() if correlation.goes_alone else correlation.rules)
            rules.append(_counting(name, document, correlation, detections))
    alone = [
        _alone(name, document, detection)
        for name, (document, detection) in detections.items()
        if name not in counted
    ]
    return tuple(sorted((*rules, *alone), key=lambda rule: rule.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Correlation:
    kind: Literal["event_count", "value_count"]
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    field: str
    at_least: int
    goes_alone: bool


def _wrong(document: Document, found: str) -> ConfigurationError:
    return ConfigurationError(f"alert rule {document.source}: {found}")


def _told(document: Document, parse: Any, part: str) -> Any:
    try:
        return parse(document.body.get(part))
    except ConfigurationError as error:
        raise _wrong(document, str(error)) from error


def _named(documents: Sequence[Document]) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for document in documents:
        name = _checked(document)
        if name in found:
            raise _wrong(document, f"{name} is also the name of {found[name].source}")
        found[name] = document
    return found


def _ids(documents: Sequence[Document]) -> dict[str, str]:
    """What a correlation may call a rule: its name or its id."""
    pairs = [(each.body, str(each.body.get("name", each.body.get("id")))) for each in documents]
    return {
        str(body[word]): name for body, name in pairs for word in ("id", "name") if word in body
    }


def _checked(document: Document) -> str:
    """Check what is said about a rule; returns its name."""
    body = document.body
    known = _ABOUT | {"logsource", "detection", "correlation"}
    unknown = sorted(str(name) for name in body if name not in known)
    if unknown:
        raise _wrong(document, f"{unknown[0]!r} is not evaluated here")
    if ("detection" in body) == ("correlation" in body):
        raise _wrong(document, "expected either a detection or a correlation")
    title = body.get("title")
    if not isinstance(title, str) or not 0 < len(title) <= MAX_TITLE:
        raise _wrong(document, f"title: expected a text of at most {MAX_TITLE} letters")
    if not isinstance(body.get("description", ""), str):
        raise _wrong(document, "description: expected a text")
    if body.get("level", "medium") not in LEVELS:
        raise _wrong(document, f"level: found {body['level']!r:.60}; known: {', '.join(LEVELS)}")
    if body.get("status") in ("deprecated", "unsupported"):
        raise _wrong(document, f"its status is {body['status']}")
    name = body.get("name", body.get("id"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(document, "name: expected 3 to 64 of a-z, 0-9, `_`, `.`, `-`, or an id")
    if "detection" in body:
        _check_source(document)
    return name


def _check_source(document: Document) -> None:
    source = document.body.get("logsource")
    if not isinstance(source, Mapping) or source.get("product") != PRODUCT:
        raise _wrong(
            document, f"logsource: found {source!r:.60}; only product {PRODUCT} is read here"
        )
    unknown = sorted(source.keys() - {"product", "service", "category", "definition"})
    if unknown:
        raise _wrong(document, f"logsource.{unknown[0]} is not known here")
    if source.get("service", "trail") != "trail" or "category" in source:
        raise _wrong(document, f"logsource: expected product {PRODUCT}, service trail")


def _correlation(
    document: Document,
    detections: Mapping[str, tuple[Document, Detection]],
    ids: Mapping[str, str],
) -> _Correlation:
    body = document.body["correlation"]
    if not isinstance(body, Mapping):
        raise _wrong(document, "correlation: expected its parts")
    known = {"type", "rules", "group-by", "timespan", "condition", "generate"}
    unknown = sorted(str(name) for name in body if name not in known)
    if unknown:
        raise _wrong(document, f"correlation.{unknown[0]} is not evaluated here")
    kind = body.get("type")
    if kind not in ("event_count", "value_count"):
        raise _wrong(
            document, f"correlation.type {kind!r:.60}: only event_count and value_count are"
        )
    rules = _texts(document, "rules", body.get("rules"))
    names = tuple(ids.get(each, each) for each in rules)
    for each in names:
        if each not in detections:
            raise _wrong(document, f"correlation.rules: {each!r:.60} is no detection rule here")
    group_by = _texts(document, "group-by", body.get("group-by", []))
    acts = frozenset().union(*(detections[each][1].acts for each in names))
    field, at_least = _amount(document, kind, body.get("condition"))
    for name in (*group_by, *filter(None, [field])):
        if not field_kinds(name, acts):
            raise _wrong(document, f"correlation: no event that it counts has a field {name!r:.60}")
    return _Correlation(
        kind=kind,
        rules=names,
        group_by=group_by,
        timespan_ms=_timespan(document, body.get("timespan")),
        field=field,
        at_least=at_least,
        goes_alone=body.get("generate", False) is True,
    )


def _texts(document: Document, part: str, found: Any) -> tuple[str, ...]:
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise _wrong(document, f"correlation.{part}: expected a list of names")
    if not listed and part == "rules":
        raise _wrong(document, "correlation.rules: expected a name, found none")
    return tuple(listed)


def _amount(document: Document, kind: str, found: Any) -> tuple[str, int]:
    """The field whose values are counted, and from how many on."""
    if not isinstance(found, Mapping):
        raise _wrong(document, "correlation.condition: expected such as `gte: 5`")
    unknown = sorted(str(name) for name in found if name not in ("gt", "gte", "field"))
    if unknown:
        raise _wrong(
            document,
            f"correlation.condition.{unknown[0]}: only gt and gte are evaluated, since events may "
            "come late and whatever is few now may be more then",
        )
    bounds = [(name, found[name]) for name in ("gt", "gte") if name in found]
    if len(bounds) != 1 or type(bounds[0][1]) is not int:
        raise _wrong(document, "correlation.condition: expected one whole number, gt or gte")
    at_least = bounds[0][1] + (bounds[0][0] == "gt")
    if not 1 <= at_least <= MAX_COUNT:
        raise _wrong(document, f"correlation.condition: expected 1 to {MAX_COUNT}")
    field = found.get("field", "")
    if (kind == "value_count") != bool(field) or not isinstance(field, str):
        raise _wrong(document, "correlation.condition.field: exactly value_count needs one field")
    return field, at_least


def _timespan(document: Document, found: Any) -> int:
    parts = _TIMESPAN.fullmatch(found) if isinstance(found, str) else None
    ms = int(parts[1]) * _UNITS[parts[2]] if parts else 0
    if not 0 < ms <= MAX_TIMESPAN_MS:
        raise _wrong(document, f"correlation.timespan: found {found!r:.60}; expected 30s to 31d")
    return ms


def _counting(
    name: str,
    document: Document,
    correlation: _Correlation,
    detections: Mapping[str, tuple[Document, Detection]],
) -> AlertRule:
    counted = [detections[each] for each in correlation.rules]
    acts = [detection.acts for _, detection in counted]
    about = {**counted[0][0].body, **document.body}
    return AlertRule(
        **_about(name, document, about, [document, *(each for each, _ in counted)]),
        conditions=tuple(detection.condition for _, detection in counted),
        acts=frozenset().union(*acts) if all(acts) else frozenset(),
        group_by=correlation.group_by,
        timespan_ms=correlation.timespan_ms,
        kind=correlation.kind,
        field=correlation.field,
        at_least=correlation.at_least,
    )


def _alone(name: str, document: Document, detection: Detection) -> AlertRule:
    return AlertRule(
        **_about(name, document, document.body, [document]),
        conditions=(detection.condition,),
        acts=detection.acts,
        group_by=(),
        timespan_ms=HOUR_MS,
        kind="event_count",
        field="",
        at_least=1,
    )


def _about(
    name: str, document: Document, body: Mapping[str, Any], parts: Sequence[Document]
) -> dict[str, Any]:
    text = json.dumps([part.body for part in parts], sort_keys=True, default=str)
    others = body.get("falsepositives", [])
    return {
        "name": name,
        "title": body["title"],
        "description": " ".join(str(body.get("description", "")).split())[:MAX_DESCRIPTION],
        "level": body.get("level", "medium"),
        "digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        "source": document.source,
        "falsepositives": tuple(map(str, others if isinstance(others, list) else [others])),
    }
