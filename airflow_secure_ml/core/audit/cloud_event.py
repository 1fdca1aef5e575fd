"""An event of the log as a CloudEvent, version 1.0, in structured JSON.

Its id is the event's own name, so a receiver that sees one twice can tell.

Source: CloudEvents 1.0.2, Required and optional attributes; JSON event format.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from airflow_secure_ml.core.audit.ocsf import to_ocsf
from airflow_secure_ml.core.audit.query import Leaf

TYPE = "airflow-secure-ml.audit.v1"


def to_cloud_event(leaf: Leaf, *, origin: str) -> dict[str, Any]:
    """Translate one leaf; `data` is its OCSF form.

    Args:
        leaf: The leaf.
        origin: The log's name.
    """
    data = to_ocsf(leaf, origin=origin)
    found = {
        "specversion": "1.0",
        "id": data["metadata"]["uid"],
        "source": "urn:airflow-secure-ml:log:" + quote(origin, safe=""),
        "type": f"{TYPE}.{data['activity_name']}",
        "subject": str(leaf.index),
        "datacontenttype": "application/json",
        "data": data,
    }
    time = _rfc3339(data["time"])
    return found if time is None else {**found, "time": time}


def _rfc3339(time_ms: int) -> str | None:
    """The time, unless a task wrote one that no calendar has."""
    try:
        found = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
