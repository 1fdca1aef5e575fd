"""Figures of a collector as lines of the table."""

from __future__ import annotations

from benchmarks import trail_collector


def test_d_stands_beside_each_figure():
    one = {"per_s": 1200, "sequenced_per_s": 1100, "p50_ms": 0.71, "p99_ms": 2.04, "d_ms": 0.152}

    found = trail_collector.rows({"event_1": [one], "event_8": [one | {"per_s": 4000}] * 3})

    assert found == [
        (
            "trail through a collector: durable events, 1 writer",
            "1,200/s, p50 0.7 ms, p99 2.0 ms; 1,100/s in the log",
            "d = 0.15 ms",
            "reported",
        ),
        (
            "trail through a collector: durable events, 8 writers",
            "4,000/s, p50 0.7 ms, p99 2.0 ms; 1,100/s in the log",
            "d = 0.15 ms",
            "reported",
        ),
    ]
