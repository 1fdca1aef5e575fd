"""Durable events through a collector of another user, its sequencer at work.

Writers are this user's processes; who takes, lays down and sequences what they say is another.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.audit import RUN, WRITERS, Say, at_once, durable_figures, usual_fact
from benchmarks.measuring import NotInstalledError, column, median_fdatasync_ms, say

STOP_S = 60


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Figures by how many write, round by round."""
    if os.geteuid() != 0:
        raise NotInstalledError("a second user: only root can start a collector as another")
    seconds, rounds = (1.0, 1) if quick else (3.0, 3)
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(1, rounds + 1):
        for writers in WRITERS:
            say(f"trail through a collector: round {number} of {rounds}: writers: {writers}")
            found.setdefault(f"event_{writers}", []).append(_measure_one(writers, seconds))
    return found


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for writers in WRITERS:
        rate, sequenced, p50, p99, d_ms = (
            statistics.median(column(found[f"event_{writers}"], figure))
            for figure in ("per_s", "sequenced_per_s", "p50_ms", "p99_ms", "d_ms")
        )
        many = "writer" if writers == 1 else "writers"
        lines.append(
            (
                f"trail through a collector: durable events, {writers} {many}",
                f"{rate:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms; {sequenced:,.0f}/s in the log",
                f"d = {d_ms:.2f} ms",
                "reported",
            )
        )
    return lines


def _measure_one(writers: int, seconds: float) -> dict[str, float]:
    from tests.attacks.collector.place import Place

    place = Place()
    d_ms = median_fdatasync_ms(place.base)
    place.make_log()
    place.start()
    sequencer = place.sequence()
    try:
        taken = at_once(_events, place.door, writers, seconds)
        sequenced = place.log().size()
    finally:
        sequencer.terminate()
        sequencer.wait(STOP_S)
        place.stop()
        shutil.rmtree(place.base)
    return {**durable_figures(taken, seconds, d_ms), "sequenced_per_s": round(sequenced / seconds)}


def _events(door: Path, until: float, done: Say) -> None:
    """Send single events, each durable before the next."""
    from airflow_secure_ml.adapters.collector.line import CollectorLines
    from airflow_secure_ml.adapters.spool import EmitterSink

    sink = EmitterSink("task", CollectorLines(door), run=RUN)
    taken = []
    while (start := perf_counter()) < until:
        sink.record(usual_fact())
        sink.settle()
        taken.append(perf_counter() - start)
    sink.close()
    done(taken)
