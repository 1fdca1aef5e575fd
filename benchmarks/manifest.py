"""A manifest of 10,000 files of 100 KiB against `sha256sum` over the same files.

The page cache is warm for all of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_turns, say, timed

FILE_BYTES = 100 * 1024


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds by way and round."""
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.services.manifests import build_manifest

    files, rounds = (1_000, 3) if quick else (10_000, 3)
    data, store = folder / "data", LocalObjects()
    say(f"manifest: writing {files} files")
    for number in range(files):
        path = data / f"{number % 100:02}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))
    uri = store.canonical(str(data))

    def manifest(algorithm: str, threads: int) -> Callable[[], float]:
        return lambda: timed(
            lambda: build_manifest(store, uri, algorithm=algorithm, threads=threads)
        )

    works = {
        "sha256sum": lambda: timed(lambda: _sha256sum(data)),
        "sha256_1": manifest("sha256", 1),
        "sha256_2": manifest("sha256", 2),
        "blake3_2": manifest("blake3", 2),
    }
    _sha256sum(data)
    return {"files": files, "seconds": in_turns(works, rounds, "manifest")}


def _sha256sum(folder: Path) -> None:
    names = subprocess.run(
        ["find", folder, "-type", "f", "-print0"], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(
        ["xargs", "-0", "sha256sum"], input=names.stdout, stdout=subprocess.DEVNULL, check=True
    )
