"""Ten thousand small files sealed with a key in Vault: a call for all of them, or one for each.

A real Vault over TLS on loopback, where a call costs the least that it can. A directory is a data
set: Vault wraps its key once, and that wraps a key for each file. Nobody waits for the disk.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_turns, median_ratio, timed

CONTEXT = {"dataset": "bench"}
SIZE_BYTES = 1000
ROUNDS = 3


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds by case, round by round, and how often Vault was asked to wrap in each."""
    from dags_examples.demo.vault_server import RunningVault
    from tests.servers import build
    from tests.servers.transit_place import TransitPlace

    binary = build.find(build.SERVERS["vault"])
    if binary is None:
        raise SystemExit("transit: Vault is missing; make servers")
    files = 500 if quick else 10_000
    (folder / "vault").mkdir()
    with (
        RunningVault(binary=binary, folder=folder / "vault") as vault,
        TransitPlace(vault) as place,
    ):
        place.make("data")
        keys = place.keys()
        works: dict[str, Callable[[], float]] = {
            "data_set": lambda: _sealed(files, keys, is_data_set=True),
            "each": lambda: _sealed(files, keys, is_data_set=False),
        }
        calls = {}
        for name, work in works.items():
            with place.asked() as asked:
                work()
            calls[name] = asked.count("update encrypt/data")
        rounds = in_turns(works, ROUNDS, f"sealing {files} small files with Vault")
    return {"files": files, "size_bytes": SIZE_BYTES, "rounds": rounds, "calls": calls}


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    files, rounds, calls = found["files"], found["rounds"], found["calls"]
    once, each = (statistics.median(rounds[name]) for name in ("data_set", "each"))
    times = median_ratio(rounds["each"], rounds["data_set"])
    return [
        (
            f"{files:,} files of {found['size_bytes']:,} bytes sealed with a key in Vault, as one "
            "data set",
            f"{once:.1f} s, {calls['data_set']} call",
            f"a call for each: {each:.1f} s ({times:.1f} ×), {calls['each']:,} calls",
            f"1 call: {'met' if calls['data_set'] == 1 else '**missed**'}",
        )
    ]


def _sealed(files: int, keys: Any, *, is_data_set: bool) -> float:
    """Seconds to seal so many files into a new directory."""
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.services.sealed_dataset import create_dataset_key
    from airflow_secure_ml.services.sealing import seal_object
    from airflow_secure_ml.testing.memory_objects import MemoryObjects

    plain = MemoryObjects()
    plain.put("file:///plain", bytes(SIZE_BYTES))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        store = LocalObjects()
        root = store.canonical(f"{name}/set")

        def seal() -> None:
            key = keys.wrapper("data")
            if is_data_set:
                key = create_dataset_key(store, root, keys=[key], context=CONTEXT)
            for number in range(files):
                # As they lie in a lake, a hundred to a folder.
                uri = f"{root}/{number // 100:03}/{number}"
                with plain.open("file:///plain") as source, store.create(uri) as writer:
                    seal_object(source, writer, keys=[key], context=CONTEXT, threads=1)
                    writer.commit(replace=False)

        return timed(seal)
