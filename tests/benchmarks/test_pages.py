"""Figures of the pages as lines of the table."""

from __future__ import annotations

from benchmarks import pages


def at(size, p95_ms, usable_s):
    return {"size": size, "status": 200, "p50_ms": 1.0, "p95_ms": p95_ms, "usable_s": usable_s}


def test_each_page_stands_beside_itself_in_a_smaller_log_and_beside_airflows_own():
    found = pages.rows(
        {
            "sizes": [10_000, 1_000_000],
            "pages": {
                "Events": [at(10_000, 40.2, 0.4), at(1_000_000, 120.6, 0.62)],
                "Run": [at(10_000, 50, 0.5), at(1_000_000, 90, 1.2)],
                "Keys": [{"size": 1_000_000, "status": 500}],
                pages.OWN: [at(10_000, 30, 1.5), at(1_000_000, 900, 3.1)],
            },
        }
    )

    assert found == [
        (
            "page Events, 1,000,000 events",
            "p95 121 ms, usable in 0.62 s",
            "10,000: p95 40 ms, usable in 0.40 s",
            "≤ 200 ms, ≤ 1 s: met",
        ),
        (
            "page Run, 1,000,000 events",
            "p95 90 ms, usable in 1.20 s",
            "10,000: p95 50 ms, usable in 0.50 s",
            "≤ 200 ms, ≤ 1 s: **missed**",
        ),
        (
            "page Keys, 1,000,000 events",
            "no page: HTTP status 500",
            "",
            "≤ 200 ms, ≤ 1 s: **missed**",
        ),
        (
            "page Airflow's own, 1,000,000 events",
            "p95 900 ms, usable in 3.10 s",
            "10,000: p95 30 ms, usable in 1.50 s",
            "reported",
        ),
    ]
