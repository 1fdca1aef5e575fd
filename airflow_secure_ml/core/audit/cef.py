"""An event of the log as one line of ArcSight's Common Event Format, version 0.

A task's words cannot end the line or begin a field of their own: what the format gives a meaning is
escaped, control characters become spaces.

Source: ArcSight Common Event Format, Implementation Standard, version 26.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_secure_ml.core.audit.ocsf import HIGH, PRODUCT, to_ocsf
from airflow_secure_ml.core.audit.query import Leaf

# CEF counts severities from 0 to 10.
_SEVERITIES = {1: 1, 2: 3, 3: 6, HIGH: 8}
# A receiver may cut longer lines, and what a task says is longest.
MAX_VALUE_CHARS = 1023
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def to_cef(leaf: Leaf, *, origin: str, version: str) -> str:
    """Translate one leaf; a line without its end.

    Args:
        leaf: The leaf.
        origin: The log's name.
        version: This package's version.
    """
    event = to_ocsf(leaf, origin=origin)
    name = str(event["activity_name"])
    head = [PRODUCT, PRODUCT, version, name, str(event["message"])]
    severity = str(_SEVERITIES[event["severity_id"]])
    fields = " ".join(f"{key}={_value(text)}" for key, text in _fields(leaf, event, origin))
    return "|".join(["CEF:0", *(_header(text) for text in head), severity, fields])


def _fields(leaf: Leaf, event: dict[str, Any], origin: str) -> list[tuple[str, str]]:
    metadata = event["metadata"]
    bucket = event.get("databucket", {})
    found = [
        ("rt", str(event["time"])),
        ("externalId", metadata["uid"]),
        ("cn1Label", "leaf index"),
        ("cn1", str(leaf.index)),
        ("cs1Label", "log"),
        ("cs1", origin),
        ("cs2Label", "leaf SHA-256"),
        ("cs2", event["raw_data_hash"]["value"]),
        ("outcome", str(event.get("status", ""))),
        ("reason", str(event.get("status_code", ""))),
        ("sproc", str(event.get("actor", {}).get("app_name", ""))),
        ("suser", str(event.get("actor", {}).get("user", {}).get("uid", ""))),
        ("filePath", str(bucket.get("uid", ""))),
        ("fname", str(bucket.get("name", ""))),
    ]
    return [(key, text) for key, text in found if text]


def _header(text: str) -> str:
    return _clean(text).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    return _clean(text).replace("\\", "\\\\").replace("=", "\\=")


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text)[:MAX_VALUE_CHARS]
