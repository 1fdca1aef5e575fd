"""Tables of fixed figures; the README's are those of benchmarks/latest.json."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks.readme import PICTURE, SCALE_PICTURE, render_section, replace_section, section_of
from benchmarks.tables import (
    Table,
    aims_table,
    machine_lines,
    sealing_table,
    size_in_words,
    stages_table,
)

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def a_round(wall_s, cpu_s, peak_mib):
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": peak_mib * MIB}


SEALING = {
    "size_mib": 1024,
    "floor_bytes": 16 * MIB,
    "small_mib": 64,
    "small_peak_bytes": 31 * MIB,
    "rounds": {
        "cp": [a_round(1.0, 0.5, 16), a_round(2.0, 0.5, 16), a_round(1.0, 0.5, 16)],
        "seal2": [a_round(1.1, 0.6, 32), a_round(2.0, 0.6, 32), a_round(1.3, 0.6, 32)],
        "age": [a_round(2.0, 1.0, 17), a_round(4.0, 1.0, 17), a_round(3.0, 1.0, 17)],
        "fernet": [a_round(20, 12.0, 8000), a_round(22, 12.0, 8000), a_round(21, 12.0, 8000)],
    },
    "missing": {"tink": "not installed (No module named 'tink')"},
}
SECURED = {
    "d_ms": 1.0,
    "fresh": {
        "bare": {"p50_ms": 5.0, "p95_ms": 6.0},
        "stream": {"p50_ms": 45.0, "p95_ms": 66.0},
        "read": {"p50_ms": 105.0, "p95_ms": 126.0},
        "read_write": {"p50_ms": 125.0, "p95_ms": 146.0},
    },
    "warm": {
        "bare": {"p50_ms": 2.0, "p95_ms": 3.0},
        "stream": {"p50_ms": 53.0, "p95_ms": 63.0},
        "read": {"p50_ms": 62.0, "p95_ms": 83.0},
        "read_write": {"p50_ms": 82.0, "p95_ms": 103.0},
    },
    "stages_ms": {"trail: settle": 10.04, "guardian: wait until it watches": 44.96},
}


def an_audit(d_ms, per_s=3000, p99_ms=12.0):
    one = {"per_s": per_s, "p50_ms": 2.0, "p99_ms": p99_ms, "d_ms": d_ms}
    return {name: [one] * 3 for name in ("event_1", "event_8", "task_1", "task_8")}


def cell(table, what, column):
    return next(row for row in table.rows if row[0] == what)[column]


def test_a_table_is_aligned_and_its_numbers_stand_to_the_right():
    table = Table(columns=("what", "× cp"), rows=[("sealed", "1.05"), ("a", "12.00")], numbers=True)

    assert table.markdown() == (
        "| what   |  × cp |\n| ------ | ----: |\n| sealed |  1.05 |\n| a      | 12.00 |"
    )


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    # 1.1, 1.0, 1.3; the ratio of the medians would be 1.3.
    assert cell(sealing_table(SEALING), "**sealed, 2 threads**", 2) == "1.10"


def test_a_sealing_row_holds_time_cpu_and_memory():
    table = sealing_table(SEALING)

    assert table.columns[0] == "1 GiB, file to file"
    assert tuple(table.rows[1]) == (
        "**sealed, 2 threads**",
        "1.30 s",
        "1.10",
        "0.60 s",
        "0.60",
        "32 MiB",
    )


def test_memory_that_is_the_measuring_programs_own_is_not_the_contenders():
    assert cell(sealing_table(SEALING), "age", 5) == "< 17 MiB"


def test_what_is_missing_is_said_loudly():
    assert cell(sealing_table(SEALING), "Tink (streaming)", 1).startswith("MISSING: not installed")


def test_without_age_the_other_rows_stand():
    sealing = copy.deepcopy(SEALING)
    del sealing["rounds"]["age"]
    sealing["missing"]["age"] = "not installed (age)"

    table = sealing_table(sealing)

    assert cell(table, "age", 1) == "MISSING: not installed (age)"
    assert cell(table, "**sealed, 2 threads**", 4) == ""


def test_the_aims_of_sealing_are_judged():
    rows = aims_table({"sealing": SEALING}).rows

    assert [row[1] for row in rows] == [
        "1.10 × `cp`",
        "0.60 × age's",
        "1/20 of Fernet's",
        "+1.0 MiB",
    ]
    assert [row[3] for row in rows] == ["≤ 1.2: met", "≤ 0.8: met", "≤ 1/15: met", "≤ 8 MiB: met"]


def test_a_missed_aim_is_said():
    sealing = copy.deepcopy(SEALING)
    for each in sealing["rounds"]["seal2"]:
        each["wall_s"] *= 2
        each["peak_bytes"] += 8 * MIB

    rows = aims_table({"sealing": sealing}).rows

    assert [row[3] for row in rows][0::3] == ["≤ 1.2: **missed**", "≤ 8 MiB: **missed**"]


def test_secure_is_shown_over_the_bare_task():
    rows = aims_table({"secured_task": SECURED}).rows

    assert rows[0][1:] == (
        "p50 +51 ms, p95 +60 ms",
        "first in its process: +40, +60 ms",
        "p50 ≤ 50 ms: **missed**",
    )
    assert rows[2][3] == "reported"


@pytest.mark.parametrize(
    ("audit", "aim"),
    [
        (an_audit(0.5), "≥ 2,500/s where d ≤ 1 ms: met; p99 ≤ 3 d + 10 = 11.5 ms: **missed**"),
        (an_audit(1.0, per_s=2400), "≥ 2,500/s where d ≤ 1 ms: **missed**; "
         "p99 ≤ 3 d + 10 = 13.0 ms: met"),
        (an_audit(4.0, per_s=900), "≥ 2,500/s where d ≤ 1 ms: d is more; "
         "p99 ≤ 3 d + 10 = 22.0 ms: met"),
    ],
    ids=["late", "few", "slow disk"],
)  # fmt: skip
def test_the_trails_aims_depend_on_the_disk(audit, aim):
    assert cell(aims_table({"audit": audit}), "trail: durable events, 8 writers", 3) == aim


def test_an_import_is_shown_without_the_interpreter():
    seconds = {"python": [0.015], "import": [0.027], "secure-ml --version": [0.301]}

    rows = aims_table({"starting": {"seconds": seconds}}).rows

    assert [row[1] for row in rows] == ["12 ms", "301 ms"]
    assert [row[3] for row in rows] == ["≤ 50 ms: met", "≤ 300 ms: **missed**"]


def test_stages_stand_longest_first():
    assert stages_table(SECURED).rows == [
        ("guardian: wait until it watches", "45.0 ms"),
        ("trail: settle", "10.0 ms"),
    ]


MACHINE = {
    "cpu": "AMD EPYC",
    "flags": ["SHA-NI", "VAES"],
    "cores": 2,
    "memory_gib": 24,
    "kernel": "Linux 6.18",
    "python": "3.11.7",
    "cryptography": "50.0.2",
}


def test_the_machine_is_described():
    assert machine_lines(
        {"machine": MACHINE, "sealing": {"load": 0.4}, "audit": {"load": 1.9}}
    ) == (
        "AMD EPYC, 2 cores (SHA-NI, VAES), 24 GiB of memory, Linux 6.18, Python 3.11.7, "
        "cryptography 50.0.2. Load average as the parts began: 0.4 to 1.9."
    )


def test_a_machine_that_others_used_is_said_to_be_one():
    lines = machine_lines({"machine": MACHINE, "sealing": {"load": 1.2}, "audit": {"load": 3}})

    assert "1.2 to 3.0: others used this machine at the same time" in lines


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(64 * MIB, "64 MiB"), (1024 * MIB, "1 GiB"), (8090 * MIB, "7.9 GiB"), (0, "0 MiB")],
)
def test_sizes_are_words(size_bytes, words):
    assert size_in_words(size_bytes) == words


def test_a_section_is_replaced_and_nothing_else():
    readme = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n"

    replaced = replace_section(readme, "<!-- bench:begin -->\nnew\n<!-- bench:end -->")

    assert replaced == "before\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nafter\n"


@pytest.mark.parametrize("readme", ["", "<!-- bench:begin -->" * 2 + "<!-- bench:end -->"])
def test_a_readme_without_its_marks_is_left_alone(readme):
    with pytest.raises(ValueError, match="once each"):
        replace_section(readme, "new")


def test_the_readme_shows_the_figures_of_the_latest_run():
    figures = json.loads((ROOT / "benchmarks/latest.json").read_text())
    readme = (ROOT / "README.md").read_text()

    section = render_section(figures)

    assert section_of(readme) == section, "run `python benchmarks/run.py --readme`"
    assert figures["quick"] is False
    for picture in (PICTURE, SCALE_PICTURE):
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_the_latest_figures_name_no_host_and_no_path():
    text = (ROOT / "benchmarks/latest.json").read_text()

    assert not [word for word in ("/home", "/root", "/tmp", "/work") if word in text]
