"""Seal a stream of a great many GiB into a sink that keeps nothing: does memory stay flat?

Measured only where it is asked for: `--only sink --gib 100`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import run, say

MIB = 1 << 20
SMALL_MIB = 64
GIB = 8
PROGRAM = Path(__file__).with_name("contenders.py")


def measure(folder: Path, *, quick: bool, gib: int = GIB) -> dict[str, Any]:
    """Peak memory for a small stream and for one of so many GiB, and what the latter took."""
    size_mib = 256 if quick else 1024 * gib
    say(f"sink: {size_mib} MiB")
    small, large = _sealed(SMALL_MIB), _sealed(size_mib)
    return {
        "size_mib": size_mib,
        "small_mib": SMALL_MIB,
        "small_peak_bytes": small["peak_bytes"],
        **large,
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    from benchmarks.tables import size_in_words

    more = (found["peak_bytes"] - found["small_peak_bytes"]) / MIB
    size_bytes = found["size_mib"] * MIB
    speed = size_in_words(size_bytes / found["wall_s"])
    return [
        (
            f"{size_in_words(size_bytes)} sealed from a stream into a sink that keeps nothing",
            f"{round(more, 1) + 0.0:+.1f} MiB of memory, {speed}/s",
            f"{found['small_mib']} MiB sealed: {size_in_words(found['small_peak_bytes'])}",
            f"≤ 8 MiB: {'met' if more <= 8 else '**missed**'}",
        )
    ]


def _sealed(size_mib: int) -> dict[str, float]:
    done = run([sys.executable, PROGRAM, "sink", str(size_mib), ""])
    return {**json.loads(done.output), "peak_bytes": done.peak_bytes}
