"""Make tables of what was measured: figures, what stands beside them, and whether an aim is met.

Pure: from the figures of one run, as benchmarks/latest.json holds them, to text.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import median_ratio

# Each of these modules says itself what its figures mean: `rows(figures)`.
PARTS_WITH_ROWS = (
    "trail",
    "trail_postgres",
    "trail_collector",
    "listener",
    "reads",
    "manifest",
    "leases",
    "transit",
    "secrets_backend",
    "xcom",
    "s3",
    "parquet",
    "recipients",
    "pages",
    "sink",
)
MIB = 1 << 20
Figures = Mapping[str, Any]
LABELS = {
    "cp": "`cp`",
    "seal1": "sealed, 1 thread",
    "seal2": "**sealed, 2 threads**",
    "seal2_sha256": "sealed, 2 threads, and SHA-256",
    "secured": "**as `secure()` does it**: and signed, on disk",
    "open2": "opened, 2 threads",
    "age": "age",
    "tink": "Tink (streaming)",
    "aws": "AWS Encryption SDK",
    "fernet": "Fernet",
}
CASES = {
    "stream": "`secure()`, one streamed read: the least it takes",
    "read": "`secure()`, one read",
    "read_write": "`secure()`, one read and one write",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Headings; every column but the first is set to the right where `numbers` is set.
        rows: As many texts each.
        numbers: Whether all columns but the first hold numbers.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = False

    def markdown(self) -> str:
        """The table, its columns aligned: to be read as it is, too."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.columns))]
        right = [self.numbers and number > 0 for number in range(len(widths))]

        def line_of(texts: Sequence[str]) -> str:
            cells = (
                text.rjust(width) if is_right else text.ljust(width)
                for text, width, is_right in zip(texts, widths, right, strict=True)
            )
            return f"| {' | '.join(cells)} |"

        rule = [
            "-" * (width - 1) + (":" if is_right else "-")
            for width, is_right in zip(widths, right, strict=True)
        ]
        return "\n".join([line_of(self.columns), line_of(rule), *map(line_of, self.rows)])


def sealing_table(sealing: Figures) -> Table:
    """Each contender's wall, CPU and peak, and their ratios to `cp` and age."""
    rounds, rows = sealing["rounds"], []
    for name, label in LABELS.items():
        if name in sealing["missing"]:
            rows.append((label, f"MISSING: {sealing['missing'][name]}", *[""] * 4))
        elif name in rounds:
            rows.append(_sealing_row(label, rounds, name, sealing["floor_bytes"]))
    size = size_in_words(sealing["size_mib"] * MIB)
    columns = (f"{size}, file to file", "time", "× cp", "CPU", "× age's", "peak memory")
    return Table(columns=columns, rows=rows, numbers=True)


def _sealing_row(label: str, rounds: Figures, name: str, floor_bytes: int) -> tuple[str, ...]:
    peak = statistics.median(_column(rounds, name, "peak_bytes"))
    # A program smaller than the one that started it cannot be told from it.
    is_small = peak <= 1.1 * floor_bytes
    return (
        label,
        f"{statistics.median(_column(rounds, name, 'wall_s')):.2f} s",
        f"{_ratio(rounds, name, 'cp', 'wall_s'):.2f}",
        f"{statistics.median(_column(rounds, name, 'cpu_s')):.2f} s",
        f"{_ratio(rounds, name, 'age', 'cpu_s'):.2f}" if "age" in rounds else "",
        f"{'< ' if is_small else ''}{size_in_words(peak)}",
    )


def _column(rounds: Figures, name: str, figure: str) -> list[float]:
    return [each[figure] for each in rounds[name]]


def _ratio(rounds: Figures, name: str, reference: str, figure: str) -> float:
    return median_ratio(_column(rounds, name, figure), _column(rounds, reference, figure))


def aims_table(figures: Figures) -> Table:
    """Every other figure, and every aim with its verdict."""
    rows: list[tuple[str, str, str, str]] = []
    makers: dict[str, Callable[[Figures], list[tuple[str, str, str, str]]]] = {
        "sealing": _sealing_aims,
        "secured_task": _secured_rows,
        "audit": _audit_rows,
        "starting": _starting_rows,
    }
    for part, make in makers.items():
        if part in figures:
            rows += make(figures[part])
    for part in PARTS_WITH_ROWS:
        if part in figures:
            rows += importlib.import_module(f"benchmarks.{part}").rows(figures[part])
    return Table(columns=("what", "measured", "beside it", "aim"), rows=rows)


def _verdict(aim: str, is_met: bool) -> str:
    return f"{aim}: {'met' if is_met else '**missed**'}"


def _sealing_aims(sealing: Figures) -> list[tuple[str, str, str, str]]:
    rounds = sealing["rounds"]
    rows = []
    wall = _ratio(rounds, "seal2", "cp", "wall_s")
    rows.append(
        ("sealing, 2 threads: time", f"{wall:.2f} × `cp`", "", _verdict("≤ 1.2", wall <= 1.2))
    )
    if "age" in rounds:
        cpu = _ratio(rounds, "seal2", "age", "cpu_s")
        text = f"{cpu:.2f} × age's"
        rows.append(("sealing, 2 threads: CPU", text, "", _verdict("≤ 0.8", cpu <= 0.8)))
    if "fernet" in rounds:
        cpu = _ratio(rounds, "fernet", "seal2", "cpu_s")
        text = f"1/{cpu:.0f} of Fernet's"
        rows.append(("sealing, 2 threads: CPU", text, "", _verdict("≤ 1/15", cpu >= 15)))
    peak = statistics.median(_column(rounds, "seal2", "peak_bytes"))
    more = (peak - sealing["small_peak_bytes"]) / MIB
    rows.append(
        (
            "sealing, 2 threads: memory",
            f"{round(more, 1) + 0.0:+.1f} MiB",
            f"{sealing['small_mib']} MiB sealed: {size_in_words(sealing['small_peak_bytes'])}",
            _verdict("≤ 8 MiB", more <= 8),
        )
    )
    return rows


def _secured_rows(found: Figures) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, label in CASES.items():
        p50, p95 = _over_bare(found["warm"], name)
        fresh = _over_bare(found["fresh"], name)
        aim = _verdict("p50 ≤ 50 ms", p50 <= 50) if name == "stream" else "reported"
        rows.append(
            (
                f"{label}, over the bare task",
                f"p50 {p50:+.0f} ms, p95 {p95:+.0f} ms",
                f"first in its process: {fresh[0]:+.0f}, {fresh[1]:+.0f} ms",
                aim,
            )
        )
    return rows


def _over_bare(found: Figures, name: str) -> tuple[float, float]:
    return (
        found[name]["p50_ms"] - found["bare"]["p50_ms"],
        found[name]["p95_ms"] - found["bare"]["p95_ms"],
    )


def _audit_rows(audit: Figures) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, label in (("event", "trail: durable events"), ("task", "trail: whole secured tasks")):
        for writers in (1, 8):
            found = audit[f"{name}_{writers}"]
            per_s, p50, p99, d_ms = (
                statistics.median(each[figure] for each in found)
                for figure in ("per_s", "p50_ms", "p99_ms", "d_ms")
            )
            many = "writer" if writers == 1 else "writers"
            rows.append(
                (
                    f"{label}, {writers} {many}",
                    f"{per_s:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                    f"d = {d_ms:.2f} ms",
                    _audit_aim(name, writers, per_s, p99, d_ms),
                )
            )
    return rows


def _audit_aim(name: str, writers: int, per_s: float, p99: float, d_ms: float) -> str:
    if name != "event":
        return "reported"
    limit = 3 * d_ms + 10
    aims = [_verdict(f"p99 ≤ 3 d + 10 = {limit:.1f} ms", p99 <= limit)]
    if writers > 1:
        rate = "≥ 2,500/s where d ≤ 1 ms"
        aims.insert(0, _verdict(rate, per_s >= 2500) if d_ms <= 1 else f"{rate}: d is more")
    return "; ".join(aims)


def _starting_rows(starting: Figures) -> list[tuple[str, str, str, str]]:
    seconds = starting["seconds"]
    bare, imported, command = (
        1000 * statistics.median(seconds[name])
        for name in ("python", "import", "secure-ml --version")
    )
    mine, beside = imported - bare, f"Python alone: {bare:.0f} ms"
    return [
        (
            "`import airflow_secure_ml`, without Airflow",
            f"{mine:.0f} ms",
            beside,
            _verdict("≤ 50 ms", mine <= 50),
        ),
        (
            "`secure-ml --version`",
            f"{command:.0f} ms",
            beside,
            _verdict("≤ 300 ms", command <= 300),
        ),
    ]


def stages_table(found: Figures) -> Table:
    """Where the time of a secured task goes, longest first."""
    stages = sorted(found["stages_ms"].items(), key=lambda one: -one[1])
    rows = [(name, f"{taken:.1f} ms") for name, taken in stages]
    return Table(columns=("stage of a task with one read and one write", "p50"), rows=rows)


def machine_lines(figures: Figures) -> str:
    """What it was measured on, and what else went on there."""
    machine = figures["machine"]
    cores, flags = machine["cores"], ", ".join(machine["flags"]) or "none of SHA-NI, VAES"
    loads = [part["load"] for part in figures.values() if isinstance(part, dict) and "load" in part]
    text = (
        f"{machine['cpu']}, {cores} core{'' if cores == 1 else 's'} ({flags}), "
        f"{machine['memory_gib']} GiB of memory, {machine['kernel']}, Python {machine['python']}, "
        f"cryptography {machine['cryptography']}. Load average as the parts began: "
        f"{min(loads):.1f} to {max(loads):.1f}"
    )
    if min(loads) > 1:
        return f"{text}: others used this machine at the same time, so read the ratios only."
    return f"{text}."


def size_in_words(size_bytes: float) -> str:
    """`64 MiB`, `1 GiB`, `7.9 GiB`."""
    if size_bytes >= 1024 * MIB:
        gib = size_bytes / (1024 * MIB)
        return f"{gib:.0f} GiB" if gib == int(gib) else f"{gib:.1f} GiB"
    return f"{size_bytes / MIB:.0f} MiB"
