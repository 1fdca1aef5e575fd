"""A writer killed at each step leaves nothing under the final name, or the old bytes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PRELUDE = """
import ctypes, os, signal, sys
from airflow_secure_ml.adapters.local_objects import LocalObjects, aside
target, step, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
place = aside if step in ("_renameat2", "remove") else os
real = getattr(place, step)

def strike(*args, **kwargs):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

store = LocalObjects()
uri = store.canonical(target)
setattr(place, step, strike)
"""
_FILE = (
    _PRELUDE
    + """
with store.create(uri) as writer:
    writer.write_at(0, b"new" * 1000)
    writer.commit(replace=True)
"""
)
_DIRECTORY = (
    _PRELUDE
    + """
with store.create_directory(uri) as builder:
    for name in ("a", "b/c"):
        with builder.create(name) as writer:
            writer.write_at(0, b"new")
            writer.commit(replace=False)
    builder.commit(replace=True)
"""
)


def _kill_at(script, target, step, count):
    answer = subprocess.run(
        [sys.executable, "-c", script, str(target), step, str(count)], capture_output=True
    )
    assert answer.returncode == -9, f"{step} {count} was never reached: {answer.stderr.decode()}"


_FILE_STEPS = [
    ("pwrite", 1, b"old"),
    ("fsync", 1, b"old"),
    ("link", 1, b"old"),
    ("link", 2, b"old"),
    ("rename", 1, b"old"),
    ("fsync", 2, b"new" * 1000),
]


@pytest.mark.parametrize(
    ("step", "count", "there"), _FILE_STEPS, ids=[f"{s}-{c}" for s, c, _ in _FILE_STEPS]
)
def test_a_killed_replacement_leaves_one_whole_version(step, count, there, store, put, tmp_path):
    uri = store.canonical(str(tmp_path / "x"))
    put(uri, b"old")

    _kill_at(_FILE, tmp_path / "x", step, count)

    assert (tmp_path / "x").read_bytes() == there
    put(uri, b"next", replace=True)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(("step", "count"), [("pwrite", 1), ("fsync", 1), ("link", 1)])
def test_a_killed_first_writer_leaves_nothing(step, count, tmp_path):
    _kill_at(_FILE, tmp_path / "x", step, count)

    assert os.listdir(tmp_path) == []


_DIRECTORY_STEPS = [
    ("mkdir", 1, "old"),
    ("pwrite", 2, "old"),
    ("link", 2, "old"),
    ("fsync", 1, "old"),
    ("_renameat2", 1, "old"),
    ("_renameat2", 2, "old"),
    ("remove", 1, "new"),
]


@pytest.mark.parametrize(
    ("step", "count", "there"), _DIRECTORY_STEPS, ids=[f"{s}-{c}" for s, c, _ in _DIRECTORY_STEPS]
)
def test_a_killed_directory_is_old_or_new_and_whole(step, count, there, store, put, tmp_path):
    with store.create_directory(store.canonical(str(tmp_path / "d"))) as builder:
        with builder.create("old") as writer:
            writer.commit(replace=False)
        builder.commit(replace=False)

    _kill_at(_DIRECTORY, tmp_path / "d", step, count)

    names = list(store.walk(store.canonical(str(tmp_path / "d"))))
    assert names == {"old": ["old"], "new": ["a", "b/c"]}[there]
    put(store.canonical(str(tmp_path / "other")), b"")
    assert sorted(os.listdir(tmp_path)) == ["d", "other"]
