"""Events of the log as OpenTelemetry log records: the JSON that OTLP over HTTP carries.

Source: OpenTelemetry protocol 1.5, JSON Protobuf encoding; logs data model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_secure_ml.core.audit.ocsf import HIGH, LOW, MEDIUM, PRODUCT, to_ocsf
from airflow_secure_ml.core.audit.query import Leaf

NS_PER_MS = 1_000_000
# The numbers of INFO, WARN, WARN2 and ERROR.
_SEVERITIES = {LOW: (13, "WARN"), MEDIUM: (14, "WARN2"), HIGH: (17, "ERROR")}
_INFO = (9, "INFO")
# fixed64 nanoseconds end in the year 2554.
MAX_TIME_MS = ((1 << 64) - 1) // NS_PER_MS


def to_otlp(leaves: Sequence[Leaf], *, origin: str, version: str) -> dict[str, Any]:
    """Translate leaves into one export request's body.

    Args:
        leaves: The leaves, in the order they are to arrive in.
        origin: The log's name.
        version: This package's version.
    """
    resource = [_attribute("service.name", PRODUCT), _attribute("asml.log", origin)]
    scope = {"name": PRODUCT, "version": version}
    records = [_record(leaf, origin) for leaf in leaves]
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": resource},
                "scopeLogs": [{"scope": scope, "logRecords": records}],
            }
        ]
    }


def _record(leaf: Leaf, origin: str) -> dict[str, Any]:
    event = to_ocsf(leaf, origin=origin)
    number, text = _SEVERITIES.get(event["severity_id"], _INFO)
    metadata = event["metadata"]
    attributes = [
        _attribute("asml.event", metadata["uid"]),
        {"key": "asml.index", "value": {"intValue": str(leaf.index)}},
        _attribute("asml.leaf_sha256", event["raw_data_hash"]["value"]),
        *(_attribute(f"asml.{name}", str(event[name])) for name in ("status",) if name in event),
        *(_attribute("asml.why", str(event[name])) for name in ("status_code",) if name in event),
    ]
    # A 64-bit number is a string in this JSON; a time that it cannot hold is told as unknown.
    at_ms = event["time"] if 0 <= event["time"] <= MAX_TIME_MS else 0
    return {
        "timeUnixNano": str(at_ms * NS_PER_MS),
        "severityNumber": number,
        "severityText": text,
        "eventName": str(event["activity_name"]),
        "body": {"stringValue": json.dumps(event, ensure_ascii=False, sort_keys=True)},
        "attributes": attributes,
    }


def _attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}
