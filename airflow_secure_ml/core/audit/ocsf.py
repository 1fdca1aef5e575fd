"""An event of the log as a SIEM reads it: OCSF 1.8.0 JSON, a pure function of the leaf.

Nothing is lost in the translation: `raw_data` holds the leaf's bytes, `raw_data_hash` their
SHA-256, `metadata.sequence` the index by which its proof is found. Hidden values stay hidden.

Source: OCSF schema 1.8.0, classes api_activity, application_lifecycle, datastore_activity,
detection_finding, base_event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.catalogue import ACTIVITIES
from airflow_secure_ml.core.audit.event import is_hidden, parse_event
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.errors import FormatError

VERSION = "1.8.0"
PRODUCT = "airflow-secure-ml"
# What `action_id` comes with.
PROFILES = ["security_control"]
OTHER = 99
SHA256 = 3
S3_BUCKET = 1
INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4, 5
_LEVELS = {
    "informational": INFORMATIONAL,
    "low": LOW,
    "medium": MEDIUM,
    "high": HIGH,
    "critical": CRITICAL,
}
_SEVERITIES = {"refused": MEDIUM, "failed": MEDIUM, "unknown": LOW}
_STATUSES = {"ok": 1, "refused": 2, "failed": 2, "unknown": 0}
_OBSERVED, _ALLOWED, _DENIED = 3, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """A class of the schema."""

    uid: int
    category: int


_BASE = _Class(uid=0, category=0)
_FINDING = _Class(uid=2004, category=2)
_LIFECYCLE = _Class(uid=6002, category=6)
_API = _Class(uid=6003, category=6)
_DATASTORE = _Class(uid=6005, category=6)

_UPDATED = 2

# Activity of an event → (class, its activity_id); what is not named is an API's other activity.
_KINDS: Mapping[str, tuple[_Class, int]] = {
    "emitter.open": (_LIFECYCLE, 3),
    "emitter.close": (_LIFECYCLE, 4),
    "task.start": (_LIFECYCLE, 3),
    "task.end": (_LIFECYCLE, 4),
    "run.start": (_LIFECYCLE, 3),
    "run.end": (_LIFECYCLE, 4),
    "object.open": (_DATASTORE, 10),
    "object.seal": (_DATASTORE, 9),
    "object.publish": (_DATASTORE, 5),
    "object.rewrap": (_DATASTORE, 2),
    "object.verify": (_DATASTORE, 1),
    "object.validate": (_DATASTORE, 1),
    "object.quarantine": (_DATASTORE, 5),
    "object.sign": (_DATASTORE, OTHER),
    "dataset.shred": (_DATASTORE, 7),
    "lease.grant": (_API, 1),
    "lease.renew": (_API, 3),
    "lease.revoke": (_API, 4),
    "secret.read": (_API, 2),
    "xcom.read": (_API, 2),
    "xcom.write": (_API, 1),
    "key.create": (_API, 1),
    "key.rotate": (_API, 3),
    "key.disable": (_API, 3),
    "key.protect": (_API, 3),
    "key.destroy": (_API, 4),
    "trail.view": (_API, 2),
    "trail.export": (_API, 2),
    "trail.verify": (_API, 2),
    "trail.prune": (_API, 4),
    "trail.hold": (_API, 3),
    "trail.erase": (_API, 4),
    "alert.raise": (_FINDING, 1),
    "alert.acknowledge": (_FINDING, 2),
    "alert.close": (_FINDING, 3),
    "coverage.check": (_FINDING, OTHER),
}


def to_ocsf(leaf: Leaf, *, origin: str) -> dict[str, Any]:
    """Translate one leaf; the same leaf gives the same object, whatever came before it.

    Args:
        leaf: A leaf. An activity that is not known becomes an API's other activity; bytes that are
            no event, as an edited log may hold, a base event of high severity.
        origin: The log's name.

    Returns:
        JSON values that the schema's class accepts.
    """
    try:
        event = parse_event(leaf.data)
    except FormatError as error:
        return _unreadable(leaf, origin, error)
    kind, activity = _KINDS.get(event["act"], (_API, OTHER))
    if event["act"] == "alert.raise" and event.get("more", {}).get("part"):
        # More evidence of what is open.
        activity = _UPDATED
    found = {
        "class_uid": kind.uid,
        "category_uid": kind.category,
        "activity_id": activity,
        "type_uid": kind.uid * 100 + activity,
        "activity_name": event["act"],
        "time": event["time"],
        "severity_id": _severity(event),
        "message": _message(event),
        "metadata": _metadata(leaf, event, origin),
        **_raw(leaf),
        **_status(event, kind),
    }
    if kind is _LIFECYCLE:
        found["app"] = {"name": _where(event) or PRODUCT, "vendor_name": "Airflow"}
    elif kind is _FINDING:
        found["finding_info"] = _finding(event)
    else:
        found["actor"] = _actor(event)
        found["src_endpoint"] = {"uid": event["emitter"]}
    if kind is _DATASTORE:
        found["databucket"] = _databucket(event)
    elif kind is _API:
        found["api"] = {"operation": event["act"]}
        found["resources"] = _resources(event) or [{"name": event["act"]}]
    return found


def _unreadable(leaf: Leaf, origin: str, error: FormatError) -> dict[str, Any]:
    product = {"name": PRODUCT, "vendor_name": PRODUCT}
    return {
        "class_uid": _BASE.uid,
        "category_uid": _BASE.category,
        "activity_id": OTHER,
        "type_uid": OTHER,
        "activity_name": "unreadable",
        "time": 0,
        "severity_id": HIGH,
        "message": f"leaf {leaf.index} of the log is no event: {error}",
        "metadata": {
            "version": VERSION,
            "product": product,
            "log_name": origin,
            "uid": f"leaf {leaf.index}",
            "sequence": leaf.index,
        },
        **_raw(leaf),
    }


def _raw(leaf: Leaf) -> dict[str, Any]:
    digest = hashlib.sha256(leaf.data).hexdigest()
    return {
        "raw_data": leaf.data.decode("utf-8", "replace"),
        "raw_data_hash": {"algorithm_id": SHA256, "algorithm": "SHA-256", "value": digest},
    }


def _severity(event: Mapping[str, Any]) -> int:
    level = event.get("more", {}).get("level")
    if event["act"] == "alert.raise" and isinstance(level, str) and level in _LEVELS:
        return _LEVELS[level]
    if event["act"] in {"alert.raise", "trail.refused", "emitter.loss"}:
        return HIGH
    return _SEVERITIES.get(event.get("result", "ok"), INFORMATIONAL)


def _status(event: Mapping[str, Any], kind: _Class) -> dict[str, Any]:
    found: dict[str, Any] = {}
    result = event.get("result")
    if result is not None and kind is not _FINDING:
        found = {"status_id": _STATUSES[result], "status": result}
    if "why" in event:
        found["status_code"] = event["why"]
    decision = event.get("rule", {}).get("decision")
    denied = result == "refused" or decision == "deny"
    found["action_id"] = _DENIED if denied else _ALLOWED if decision == "allow" else _OBSERVED
    return found


def _metadata(leaf: Leaf, event: Mapping[str, Any], origin: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": VERSION,
        "profiles": PROFILES,
        "product": {"name": PRODUCT, "vendor_name": PRODUCT},
        "log_name": origin,
        "log_version": str(event["v"]),
        "uid": f"{event['emitter']}:{event['seq']}",
        "sequence": leaf.index,
        "event_code": event["act"],
    }
    ti = event.get("run", {}).get("ti")
    return found if ti is None else {**found, "correlation_uid": ti}


def _message(event: Mapping[str, Any]) -> str:
    known = ACTIVITIES.get(event["act"])
    said = event["act"] if known is None else known.about
    outcome = event.get("result", "intended")
    why = f" ({event['why']})" if "why" in event else ""
    return f"{said}: {outcome}{why}"


def _actor(event: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"app_uid": event["emitter"]}
    where = _where(event)
    if where:
        found["app_name"] = where
    if "by" in event:
        found["user"] = {"uid": text_of(event["by"])}
    return found


def _where(event: Mapping[str, Any]) -> str:
    run = event.get("run", {})
    return ".".join(text_of(run[name]) for name in ("dag", "task") if name in run)


def _databucket(event: Mapping[str, Any]) -> dict[str, Any]:
    about = event.get("object", {})
    uri = text_of(about.get("uri", ""))
    is_s3 = uri.startswith("s3://")
    found: dict[str, Any] = {"type_id": S3_BUCKET if is_s3 else OTHER}
    found["type"] = "S3" if is_s3 else "Files"
    found["name"] = text_of(about.get("name", "")) or uri or event["act"]
    if uri:
        found["uid"] = uri
    if isinstance(about.get("bytes"), int):
        found["size"] = about["bytes"]
    if "version" in about:
        found["version"] = text_of(about["version"])
    return found


def _resources(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    if "key" in event:
        key = {name: text_of(value) for name, value in event["key"].items()}
        resource = {"type": "key", "name": key.get("name", "")}
        resource |= {"namespace": key["system"]} if "system" in key else {}
        found.append(resource | ({"version": key["version"]} if "version" in key else {}))
    if "lease" in event:
        lease = event["lease"]
        resource = {"type": "lease", "name": text_of(lease.get("path", ""))}
        found.append(resource | ({"uid": text_of(lease["id"])} if "id" in lease else {}))
    if "object" in event:
        about = event["object"]
        resource = {"type": "object", "name": text_of(about.get("name", ""))}
        found.append(resource | ({"uid": text_of(about["uri"])} if "uri" in about else {}))
    return found


def _finding(event: Mapping[str, Any]) -> dict[str, Any]:
    more = event.get("more", {})
    about = more.get("about") or event["act"]
    name = f"{event['emitter']}:{event['seq']}"
    # The same for all that is said of one alert.
    uid = more.get("alert") or event.get("of") or name
    found = {"uid": text_of(uid), "title": text_of(about)}
    if "because" in more:
        found["desc"] = text_of(more["because"])
    return found


def text_of(value: Any) -> str:
    """A text of an event; of a hidden value, what it is known by."""
    return f"hidden:{value['h']}" if is_hidden(value) else str(value)
