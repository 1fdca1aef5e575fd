"""Seal a file of 1 GiB beside the tools a user would pick instead: wall, CPU, peak memory.

Nobody waits for the disk, but for `secured`, which does what `secure()` does. What is not
installed is left out and said so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.measuring import Measured, NotInstalledError, own_peak_bytes, run, say

MIB = 1 << 20
SMALL_MIB = 64
PROGRAM = Path(__file__).with_name("contenders.py")
NAMES = ("cp", "seal1", "seal2", "seal2_sha256", "secured", "open2", "age", "tink", "aws", "fernet")
# Fernet holds the file eight times.
FERNET_TIMES = 9


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Figures by contender, round by round; see `benchmarks.tables` for what is made of them."""
    size_mib, rounds = (128, 3) if quick else (1024, 3)
    big, small = folder / "plain", folder / "small"
    _fill(big, size_mib)
    _fill(small, SMALL_MIB)
    recipient = _age_recipient(folder)
    missing = {} if _has_room(size_mib) else {"fernet": "not enough free memory"}
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(1, rounds + 1):
        for name in NAMES:
            if name in missing:
                continue
            say(f"sealing {size_mib} MiB: round {number} of {rounds}: {name}")
            try:
                found.setdefault(name, []).append(_round(name, big, folder, recipient))
            except NotInstalledError as error:
                del found[name]
                missing[name] = f"not installed ({error})"
    return {
        "size_mib": size_mib,
        "floor_bytes": own_peak_bytes(),
        "small_mib": SMALL_MIB,
        "small_peak_bytes": _round("seal2", small, folder, recipient)["peak_bytes"],
        "rounds": found,
        "missing": missing,
    }


def _round(name: str, source: Path, folder: Path, recipient: str) -> dict[str, float]:
    target = folder / "target"
    if name == "open2" and not (sealed := Path(f"{source}.sealed")).exists():
        run([sys.executable, PROGRAM, "seal2", source, sealed])
    if name == "cp":
        # Neither a reflink nor the kernel's own copy: bytes are moved, as everywhere else here.
        done = run(["cp", "--reflink=never", "--sparse=never", source, target])
    elif name == "age":
        done = run(["age", "-r", recipient, "-o", target, source])
    else:
        done = run([sys.executable, PROGRAM, name, source, target])
    target.unlink()
    shutil.rmtree(f"{target}.sig", ignore_errors=True)
    return _figures(done, name in CONTENDERS)


def _figures(done: Measured, is_python: bool) -> dict[str, float]:
    outside = {"wall_s": done.wall_s, "cpu_s": done.cpu_s}
    work = json.loads(done.output) if is_python else outside
    return {
        "wall_s": round(work["wall_s"], 4),
        "cpu_s": round(work["cpu_s"], 4),
        "process_cpu_s": round(done.cpu_s, 4),
        "peak_bytes": done.peak_bytes,
    }


def _fill(path: Path, size_mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))


def _has_room(size_mib: int) -> bool:
    found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return found is not None and int(found[1]) // 1024 > FERNET_TIMES * size_mib


def _age_recipient(folder: Path) -> str:
    """A recipient of age's own making; empty where age is not installed."""
    if shutil.which("age-keygen") is None:
        return ""
    run(["age-keygen", "-o", folder / "age.key"])
    return run(["age-keygen", "-y", folder / "age.key"]).output.strip()
