"""What the API server's middleware adds to a request, beside the same application without it.

An application that only answers: what is measured is the middleware and nothing of Airflow. The
recorder's thread works beside it, on a real spool, as it does in the server.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from benchmarks.measuring import say

# A read that is an event, and a request that is none.
ROUTES = {"recorded": "/api/v2/connections/{connection_id}", "other": "/ui/dags"}
START = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]}
BODY = {"type": "http.response.body", "body": b"{}"}
ROUNDS = 5


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Microseconds a request, with and without; medians of rounds that take turns."""
    from airflow_secure_ml.adapters.spool import Spool
    from airflow_secure_ml.plugin.act_recorder import ActRecorder
    from airflow_secure_ml.plugin.reads_middleware import ReadsMiddleware

    count, spool = 200 if quick else 5000, Spool(folder / "audit", "api-server")
    found = {}
    for kind, pattern in ROUTES.items():
        say(f"reads: {ROUNDS} times {count} requests, {kind}")
        recorder = ActRecorder(
            open_sink=lambda: spool, who=lambda token: None, ensure_sequencer=lambda: None
        )
        bare, through = _answering(pattern), ReadsMiddleware(_answering(pattern), recorder)
        taken = [
            (asyncio.run(_ask(bare, count)), asyncio.run(_ask(through, count)))
            for _ in range(ROUNDS)
        ]
        recorder.stop()
        found[kind] = [statistics.median(column) for column in zip(*taken, strict=True)]
    spool.close()
    return found


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as a line of the table."""
    # The runner notes more beside the figures, such as the machine's load.
    added = {kind: found[kind][1] - found[kind][0] for kind in ROUTES}
    return [
        (
            "API server's middleware, over a request",
            f"+{added['recorded']:.0f} µs recorded, +{added['other']:.0f} µs not",
            "each request is another; the recording thread's share included",
            "reported",
        )
    ]


def _answering(pattern: str) -> Any:
    route = SimpleNamespace(path=pattern, methods={"GET"})
    numbers = iter(range(10**9))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"], scope["endpoint"] = route, app
        scope["path_params"] = {"connection_id": str(next(numbers))}
        await send(START)
        await send(BODY)

    return app


async def _ask(app: Any, count: int) -> float:
    user = SimpleNamespace(get_name=lambda: "somebody")

    async def send(message: Any) -> None:
        pass

    began = perf_counter()
    for _ in range(count):
        scope = {
            "type": "http", "method": "GET", "path": "/", "root_path": "", "query_string": b"",
            "headers": [(b"host", b"x")] * 8, "client": ("127.0.0.1", 1), "state": {"user": user},
        }  # fmt: skip
        await app(scope, None, send)
    return (perf_counter() - began) / count * 1e6
