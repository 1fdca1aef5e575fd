"""The sealing XCom back end beside Airflow's own: one value written and read.

Everything but the way to the API server and its database, which is the same for both. Ours records
the write and the read durably, each before it happens.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import median_ratio, quantile, say
from benchmarks.secrets_backend import _use_own_trail

VALUES = {"small": 200, "large": 100_000}
PER_ROUND = 20


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds for one value by size and back end, in rounds."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import task_runner

    from airflow_secure_ml.xcom import SealedXComBackend

    _use_own_trail(folder)
    rows = _Rows()
    task_runner.SUPERVISOR_COMMS = rows  # type: ignore[assignment]  # only these two messages
    rounds = 5 if quick else 50
    backends: dict[str, Any] = {"default": BaseXCom, "sealed": SealedXComBackend}
    seconds: dict[str, dict[str, list[float]]] = {
        size: {who: [] for who in backends} for size in VALUES
    }
    for number in range(rounds):
        if number % 10 == 0:
            say(f"XCom: round {number} of {rounds}")
        for size, length in VALUES.items():
            for who, backend in backends.items():
                seconds[size][who].append(_one_value(backend, {"text": "x" * length}))
    return {"rounds": rounds, "seconds": seconds, "bytes": rows.sizes}


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for size, length in VALUES.items():
        sealed, default = found["seconds"][size]["sealed"], found["seconds"][size]["default"]
        lines.append(
            (
                f"XCom: a value of {length:,} bytes sealed, opened, and both recorded",
                f"{1000 * quantile(sealed, 0.5):.2f} ms",
                f"default: {1000 * quantile(default, 0.5):.3f} ms; "
                f"{median_ratio(sealed, default):.0f} × as long as that",
                "reported",
            )
        )
    return lines


def _one_value(backend: Any, value: Any) -> float:
    place = {"key": "k", "dag_id": "bench", "task_id": "t", "run_id": "r"}
    began = time.perf_counter()
    for _ in range(PER_ROUND):
        backend.set(value=value, map_index=-1, **place)
        assert backend.get_one(map_index=-1, **place) == value
    return (time.perf_counter() - began) / PER_ROUND


class _Rows:
    """What the API server does, without it."""

    def __init__(self) -> None:
        self._value: Any = None
        self.sizes: dict[str, int] = {}

    def send(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import XComResult

        if type(msg).__name__ == "SetXCom":
            self._value = msg.value
            return None
        return XComResult(key=msg.key, value=self._value)
