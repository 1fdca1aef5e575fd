"""Measure this package beside what a user would use instead, and print one table of it.

    python benchmarks/run.py [--quick] [--only PART] [--json FILE] [--picture [FILE]] [--readme]

Each part runs in a process of its own, below one temporary folder that is removed afterwards.
Only ratios within one run mean something.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# This file's own folder would be first otherwise, and its modules known by two names.
sys.path[0] = str(ROOT)

from benchmarks.tables import PARTS_WITH_ROWS  # noqa: E402 - found from here only

PARTS = ("sealing", "secured_task", "audit", "starting", *PARTS_WITH_ROWS)
# They take minutes, and show what a shorter run shows too: only where they are asked for.
ASKED_FOR = ("sink",)
LATEST = ROOT / "benchmarks" / "latest.json"
FIGURES = "figures.json"


def main() -> int:
    """Measure or read figures, then show them; returns the exit status."""
    options = _parse()
    if options.inside:
        _measure_here(*options.inside, options)
        return 0
    figures = json.loads(options.figures.read_text()) if options.figures else {}
    if not figures or options.only:
        _measure(figures, options)
    _show(figures)
    if options.picture:
        _draw(figures, options.picture)
    if options.readme:
        _keep(figures)
    return 0


def _parse() -> argparse.Namespace:
    from benchmarks.readme import PICTURE

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--picture", type=Path, nargs="?", const=ROOT / PICTURE, help="draw the ratios there"
    )
    parser.add_argument(
        "--readme", action="store_true", help="keep the figures: README, its picture, latest.json"
    )
    parser.add_argument(
        "--from",
        dest="figures",
        type=Path,
        help="show these; with --only, after measuring a part anew",
    )
    parser.add_argument("--dir", type=Path, help="where files are written; must be a local disk")
    parser.add_argument(
        "--gib", type=int, help="also seal so many GiB into a sink that keeps nothing, such as 100"
    )
    parser.add_argument("--inside", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.readme and (options.quick or (options.only and not options.figures)):
        parser.error("--readme keeps whole runs only; leave out --quick and --only")
    return options


def _measure(figures: dict[str, Any], options: argparse.Namespace) -> None:
    """Put the figures of each part into `figures`, and into the file as soon as they are there."""
    from benchmarks.machine import describe_machine, load_average

    figures |= {"machine": describe_machine(), "quick": options.quick}
    for part in options.only or [one for one in PARTS if one not in ASKED_FOR or options.gib]:
        print(f"{part} …", file=sys.stderr, flush=True)
        load = load_average()
        with tempfile.TemporaryDirectory(prefix="secure-ml-bench-", dir=options.dir) as folder:
            figures[part] = _measure_apart(part, Path(folder), options) | {"load": load}
        if options.json:
            _write_json(options.json, figures)


def _measure_apart(part: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one part in a process that has imported nothing that another needs."""
    command = [sys.executable, __file__, "--inside", part, str(folder)]
    command += ["--quick"] * options.quick
    command += ["--gib", str(options.gib)] if options.gib else []
    environment = {
        **os.environ,
        # An Airflow of its own, and silent: its log lines are not what is measured.
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    subprocess.run(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    figures: dict[str, Any] = json.loads((folder / FIGURES).read_text())
    return figures


def _measure_here(part: str, folder: str, options: argparse.Namespace) -> None:
    place = Path(folder)
    more = {"gib": options.gib} if part == "sink" and options.gib else {}
    figures = importlib.import_module(f"benchmarks.{part}").measure(
        place, quick=options.quick, **more
    )
    (place / FIGURES).write_text(json.dumps(figures))


def _show(figures: dict[str, Any]) -> None:
    from benchmarks.tables import aims_table, machine_lines, sealing_table, stages_table

    shown = []
    if "sealing" in figures:
        shown.append(sealing_table(figures["sealing"]).markdown())
    shown.append(aims_table(figures).markdown())
    if "secured_task" in figures:
        shown.append(stages_table(figures["secured_task"]).markdown())
    shown.append(machine_lines(figures))
    if figures["quick"]:
        shown.append("--quick: small sizes, few rounds; these are no figures to quote.")
    print("\n\n".join(shown))
    for name, reason in figures.get("sealing", {}).get("missing", {}).items():
        print(f"MISSING: {name} was not measured: {reason}", file=sys.stderr)


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


def _draw(figures: dict[str, Any], path: Path) -> None:
    from benchmarks.picture import draw, draw_scale

    scale = path.with_name(f"{path.stem}-scale{path.suffix}")
    if "sealing" in figures:
        draw(figures, path)
    draw_scale(figures, scale)
    print(f"drawn: {path}, {scale}", file=sys.stderr)


def _keep(figures: dict[str, Any]) -> None:
    from benchmarks.readme import PICTURE, render_section, replace_section

    readme = ROOT / "README.md"
    _write_json(LATEST, figures)
    readme.write_text(replace_section(readme.read_text(), render_section(figures)))
    _draw(figures, ROOT / PICTURE)


if __name__ == "__main__":
    sys.exit(main())
