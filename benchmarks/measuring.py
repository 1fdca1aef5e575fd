"""Run programs and measure them; the arithmetic of figures and their ratios.

Machines drift while they are measured, so what is compared runs in turns, and a ratio is the
median of the ratios within each turn.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Figure = TypeVar("_Figure")


class NotInstalledError(Exception):
    """What was to be measured is not on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a program, from outside.

    Attributes:
        wall_s: Seconds until it ended.
        cpu_s: User and system seconds, its children's included.
        peak_bytes: Its largest resident memory; never less than `own_peak_bytes()`, which a
            child inherits for the moment between fork and exec.
        output: What it printed.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


def say(text: str) -> None:
    """Show progress: the figures themselves go to standard output."""
    print(f"  {text}", file=sys.stderr, flush=True)


def run(arguments: Sequence[str | Path], *, cwd: Path | None = None) -> Measured:
    """Run a program to its end.

    Raises:
        NotInstalledError: There is no such program, or it lacks a Python module.
        RuntimeError: It failed; holds what it said.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(arguments, stdout=output, stderr=errors, cwd=cwd)
        except FileNotFoundError as error:
            raise NotInstalledError(str(arguments[0])) from error
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read()
            if "ModuleNotFoundError" in said:
                raise NotInstalledError(said.strip().rpartition("\n")[2])
            raise RuntimeError(f"{arguments[0]} ended with {process.returncode}: {said[-2000:]}")
        return Measured(
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * 1024,
            output=output.read(),
        )


def own_peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_turns(
    works: Mapping[str, Callable[[], _Figure]], rounds: int, what: str
) -> dict[str, list[_Figure]]:
    """Run every work once in each round; the figures of each, in order of the rounds."""
    found: dict[str, list[_Figure]] = {name: [] for name in works}
    for number in range(1, rounds + 1):
        say(f"{what}: round {number} of {rounds}")
        for name, work in works.items():
            found[name].append(work())
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spent(work: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds of one call: of this process and of the children it waited for."""
    before, start = _cpu_s(), time.perf_counter()
    work()
    wall_s = time.perf_counter() - start
    return {"wall_s": round(wall_s, 4), "cpu_s": round(_cpu_s() - before, 4)}


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def column(rounds: Sequence[Mapping[str, float]], figure: str) -> list[float]:
    """One figure of every round."""
    return [each[figure] for each in rounds]


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed; `share` in (0, 1]."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Median of the ratios of values that were measured in the same round."""
    return statistics.median(
        value / reference for value, reference in zip(values, references, strict=True)
    )


def median_fdatasync_ms(folder: Path, count: int = 200) -> float:
    """Median ms of an append of 640 bytes and its fdatasync: d beside every durable figure."""
    descriptor = os.open(folder / "d", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    for _ in range(count):
        os.write(descriptor, b"x" * 640)
        taken.append(timed(lambda: os.fdatasync(descriptor)))
    os.close(descriptor)
    return 1000 * statistics.median(taken)
