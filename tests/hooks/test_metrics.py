"""Metrics as a StatsD server gets them from Airflow's own client; what fails stays unnoticed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.hooks import metrics
from airflow_secure_ml.hooks.metrics import CountedSink

PROGRAM = """
import sys
from pathlib import Path
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.hooks import metrics
from airflow_secure_ml.recording import close_sink, sink_of_this_process

stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
sink = sink_of_this_process(program="task")
for result in ("ok", "refused", "ok"):
    why = "rule_denied" if result == "refused" else None
    sink.record(Fact(act="object.open", phase="outcome", result=result, why=why))
metrics.gauge(metrics.SIZE, 42)
close_sink()
"""


def test_airflow_s_own_client_sends_what_was_recorded(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10.0)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={
                "PATH": os.environ["PATH"],
                "AIRFLOW_HOME": str(tmp_path),
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
                "AIRFLOW__SECURE_ML__AUDIT_DIR": str(tmp_path / "audit"),
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # All of it was sent before the process ended, and loopback keeps the order.
        found = []
        while not found or "trail.size" not in found[-1]:
            found.append(server.recv(4096).decode())

    assert [line for line in found if "secure_ml." in line] == [
        "airflow.secure_ml.events:1|c",
        "airflow.secure_ml.events:1|c",
        "airflow.secure_ml.refused:1|c",
        "airflow.secure_ml.events:1|c",
        "airflow.secure_ml.trail.size:42|g",
    ]


class Sink:
    """Takes a fact, or loses it."""

    def __init__(self, name):
        self.name = name

    def record(self, fact):
        return self.name


@pytest.mark.parametrize(
    ("name", "result", "counted"),
    [
        ("e:1", "ok", ["secure_ml.events"]),
        ("e:1", "refused", ["secure_ml.events", "secure_ml.refused"]),
        ("", "ok", ["secure_ml.lost"]),
        ("", "refused", ["secure_ml.lost"]),
    ],
)
def test_what_was_lost_is_counted_as_lost_alone(monkeypatch, name, result, counted):
    found = []
    # What leaves the process is the other test's; here, which counters are meant.
    monkeypatch.setattr(metrics, "count", found.append)

    assert (
        CountedSink(Sink(name)).record(Fact(act="task.start", phase="seen", result=result)) == name
    )

    assert found == counted


def test_a_metric_that_cannot_be_sent_ends_nothing(monkeypatch):
    class Broken:
        def incr(self, name):
            raise OSError("no route")

    monkeypatch.setattr(metrics, "_stats", Broken)

    assert (
        CountedSink(Sink("e:1")).record(Fact(act="task.start", phase="seen", result="ok")) == "e:1"
    )


def test_names_are_those_that_airflow_takes():
    names = [metrics.EVENTS, metrics.REFUSED, metrics.LOST]
    names += [metrics.SIZE, metrics.LAG_S, metrics.WAITING]

    assert all(re.fullmatch(r"secure_ml\.[a-z_.]+", name) for name in names)
