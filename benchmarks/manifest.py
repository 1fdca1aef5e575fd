"""Time a manifest of 10,000 files of 100 KiB against `sha256sum` over the same files.

Run as `python benchmarks/manifest.py`; it writes 1 GB below the temporary directory and removes it.
Only the ratios mean something: machines differ by a factor of four in SHA-256 alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.manifests import build_manifest

FILES = 10_000
FILE_BYTES = 100 * 1024
ROUNDS = 3


def best_s(work: Callable[[], object]) -> float:
    """The shortest of `ROUNDS` wall times; the page cache is warm from the first on."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def sha256sum(folder: Path) -> None:
    names = subprocess.run(
        ["find", folder, "-type", "f", "-print0"], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(
        ["xargs", "-0", "sha256sum"], input=names.stdout, stdout=subprocess.DEVNULL, check=True
    )


def main() -> int:
    if shutil.which("sha256sum") is None:
        print("sha256sum is not installed")
        return 3
    store = LocalObjects()
    with tempfile.TemporaryDirectory(prefix="secure-ml-bench-") as place:
        folder = Path(place) / "data"
        for number in range(FILES):
            path = folder / f"{number % 100:02}" / f"{number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(FILE_BYTES))
        uri = store.canonical(str(folder))
        reference = best_s(lambda: sha256sum(folder))
        rows = [("sha256sum", reference)]
        for algorithm in ("sha256", "blake3"):
            for threads in (1, 2):
                taken = best_s(
                    lambda a=algorithm, t=threads: build_manifest(
                        store, uri, algorithm=a, threads=t
                    )
                )
                rows.append((f"manifest, {algorithm}, {threads} thread(s)", taken))
    print(f"{FILES} files of {FILE_BYTES // 1024} KiB, {len(os.sched_getaffinity(0))} processors")
    for name, taken in rows:
        print(f"{name:32} {taken:6.2f} s  {taken / reference:5.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
