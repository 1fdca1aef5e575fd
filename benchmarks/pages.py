"""The pages as the log grows, at the server and in a browser, beside Airflow's own audit-log page.

One API server; its log is exchanged for a larger one, and Airflow's own gets as many rows. Each
page is asked for again and again by one reader; "usable" is from the address to the rows in sight.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

from airflow_secure_ml.adapters.log_signer import PUBLIC_FILE
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from benchmarks.measuring import quantile, say

STEPS = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
SERVER_MS, USABLE_S = 200, 1.0
OK, NOT_THERE = 200, 404
OWN = "Airflow's own"
# Airflow's page needs no more than its first rows either.
_OWN_API, _OWN_PAGE = "/api/v2/eventLogs?limit=50&order_by=-when", "/events"
_OWN_ROWS = "table tbody tr"
_ROWS_BEGIN = "2026-09-01 00:00:00"


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Milliseconds of each page at each size of the log."""
    from tests.e2e.page_airflow import chromium, running
    from tests.plugin.many_runs import Filler

    steps, rounds = (QUICK, 5) if quick else (STEPS, 40)
    found: dict[str, Any] = {"sizes": [], "pages": {}}
    with running(folder / "served", days=1) as airflow, chromium() as browser:
        filler = Filler(folder / "grown", folder / "signer")
        # By the key of the log that is shown its checkpoints are believed.
        shutil.copy(folder / "signer" / PUBLIC_FILE, airflow.signer_dir / PUBLIC_FILE)
        for step in steps:
            say(f"pages: a log grows to {step:,} events")
            for _ in filler.grow(step):
                pass
            size = filler.log.edge().size
            _exchange(folder / "grown" / LOG_FILE, airflow.audit_dir)
            _fill_own(folder / "served" / "airflow" / "airflow.db", size)
            found["sizes"].append(size)
            reader = _Reader(airflow.url, airflow.cookie("admin"), browser)
            for name, path in _pages(airflow.audit_dir).items():
                say(f"pages: {name} at {size:,}")
                status = reader.status(path)
                if status == NOT_THERE:
                    continue
                figures: dict[str, float] = {"size": size, "status": status}
                if status == OK:
                    figures |= reader.figures(path, name == OWN, rounds)
                found["pages"].setdefault(name, []).append(figures)
        filler.close()
    return found


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for name, taken in found["pages"].items():
        last = taken[-1]
        answered = last["status"] == OK
        met = answered and last["p95_ms"] <= SERVER_MS and last["usable_s"] <= USABLE_S
        aim = f"≤ {SERVER_MS} ms, ≤ {USABLE_S:.0f} s: {'met' if met else '**missed**'}"
        smaller = "; ".join(f"{each['size']:,}: {_words(each)}" for each in taken[:-1])
        lines.append(
            (
                f"page {name}, {last['size']:,} events",
                _words(last),
                smaller,
                "reported" if name == OWN else aim,
            )
        )
    return lines


def _words(taken: Mapping[str, float]) -> str:
    if taken["status"] != OK:
        return f"no page: HTTP status {taken['status']}"
    return f"p95 {taken['p95_ms']:.0f} ms, usable in {taken['usable_s']:.2f} s"


class _Reader:
    """One signed-in reader: requests without a browser, and a browser."""

    def __init__(self, url: str, cookie: dict[str, str], browser: Any) -> None:
        self._url, self._cookie, self._browser = url, cookie, browser

    def status(self, path: str) -> int:
        """What the server says of a page."""
        try:
            self._ask(path)
        except urllib.error.HTTPError as error:
            return error.code
        return OK

    def figures(self, path: str, is_own: bool, rounds: int) -> dict[str, float]:
        """How long the server takes, and a browser until the page can be used."""
        taken = [self._ask(path) for _ in range(rounds)]
        shown, ready = (_OWN_PAGE, _OWN_ROWS) if is_own else (path, "html[data-ready]")
        usable = [self._open(shown, ready) for _ in range(max(3, rounds // 5))]
        return {
            "p50_ms": 1000 * statistics.median(taken),
            "p95_ms": 1000 * quantile(taken, 0.95),
            "usable_s": statistics.median(usable),
        }

    def _ask(self, path: str) -> float:
        token = self._cookie["value"]
        headers = {"Cookie": f"_token={token}", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self._url + path, headers=headers)
        began = perf_counter()
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
        return perf_counter() - began

    def _open(self, path: str, ready: str) -> float:
        context = self._browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([self._cookie])
        page = context.new_page()
        began = perf_counter()
        page.goto(self._url + path)
        page.wait_for_selector(ready, state="attached", timeout=120_000)
        taken = perf_counter() - began
        context.close()
        return taken


def _pages(audit_dir: Path) -> dict[str, str]:
    """Each page's address, in the log as it is now."""
    store = SqliteAuditReader(audit_dir / LOG_FILE)
    (leaf,) = store.page(EventQuery(acts=("object.seal",), results=("ok",)), limit=1)
    event = leaf.event
    run, obj, key = event["run"], event["object"], event["key"]

    def ours(page: str, **values: str) -> str:
        return f"/secure-ml/{page}" + (f"?{urlencode(values)}" if values else "")

    return {
        "Events": ours("events"),
        "Events, one DAG": ours("events", q=f"dag:{run['dag']}"),
        "Events, refused": ours("events", q="status:refused"),
        "Events, a word": ours("events", q="aisha"),
        "one event": ours("event", name=f"{event['emitter']}:{event['seq']}"),
        "Run": ours("run", dag_id=run["dag"], run_id=run["run"]),
        "Integrity": ours("integrity"),
        "Objects": ours("objects"),
        "one object": ours("object", uri=obj["uri"]),
        "Keys": ours("keys"),
        "one key": ours("key", name=key["name"], version=key["version"]),
        "Principals": ours("principals"),
        "Lineage": ours("lineage", uri=obj["uri"]),
        "Alerts": ours("alerts"),
        "Reviews": ours("reviews"),
        OWN: _OWN_API,
    }


def _exchange(grown: Path, audit_dir: Path) -> None:
    """Put a copy of a log where the server reads it: readers open the file anew each time."""
    aside = audit_dir / "grown.db"
    source = sqlite3.connect(f"{grown.resolve().as_uri()}?mode=ro", uri=True)
    with closing(source), closing(sqlite3.connect(aside)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = WAL")
    for suffix in ("-wal", "-shm"):
        (audit_dir / f"{LOG_FILE}{suffix}").unlink(missing_ok=True)
    aside.rename(audit_dir / LOG_FILE)


def _fill_own(database: Path, size: int) -> None:
    """As many rows in Airflow's own audit log."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT (SELECT count(*) FROM log) + 1 UNION ALL "
            "SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO log(dttm, dag_id, task_id, map_index, event, run_id, owner, "
            "owner_display_name, extra, try_number) "
            "SELECT datetime(?, i || ' seconds'), 'oncology_training', 'train', -1, 'success', "
            "'scheduled__' || i, 'airflow', 'airflow', ?, 1 FROM n",
            (size, _ROWS_BEGIN, json.dumps({"host_name": "worker-1", "full_command": "x" * 200})),
        )
        connection.commit()
