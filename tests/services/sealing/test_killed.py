"""kill -9 at any segment leaves nothing under the final name, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.services.sealing import open_object, seal_object

verb, source, target = sys.argv[1:]
key = KekWrapper(bytes(32), slot_id="data/1", ref=KeyRef(system="t", name="data", version="1"))
store = LocalObjects()

def step(done):
    print(done, flush=True)
    sys.stdin.readline()

with store.create(store.canonical(target)) as writer:
    if verb == "seal":
        seal_object(source, writer, keys=[key], context={"a": "b"}, progress=step)
    else:
        with store.open(store.canonical(source)) as obj:
            open_object(obj, writer, keys=[key], expect=ANY_CONTEXT, progress=step)
    step("before commit")
    writer.commit(replace=True)
    step("after commit")
"""
# Four segments, then before the commit.
STEPS = ["1048520", "2097080", "3145640", "4000000", "before commit"]


def start(verb, source, target):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, verb, str(source), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_to(process, last):
    """Let the child go on until it says `last`, where it waits."""
    said = []
    while not said or said[-1] != last:
        line = process.stdout.readline()
        assert line, f"the child ended after {said}"
        said.append(line.strip())
        if said[-1] != last:
            process.stdin.write("\n")
            process.stdin.flush()
    return said


def finish(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain"
    path.write_bytes(b"canary!!" * 500_000)
    return path


@pytest.fixture
def sealed(tmp_path, plain):
    path = tmp_path / "sealed"
    process = start("seal", plain, path)
    assert run_to(process, "after commit") == [*STEPS, "after commit"]
    finish(process)
    return path


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("verb", ["seal", "open"])
def test_a_killed_process_leaves_nothing(tmp_path, plain, sealed, verb, step):
    folder = tmp_path / "out"
    folder.mkdir()
    process = start(verb, plain if verb == "seal" else sealed, folder / "target")

    run_to(process, step)
    finish(process)

    assert os.listdir(folder) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_process_leaves_what_was_there(tmp_path, plain, sealed, step):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "target").write_bytes(b"before")
    process = start("open", sealed, folder / "target")

    run_to(process, step)
    finish(process)

    assert (folder / "target").read_bytes() == b"before"
    assert os.listdir(folder) == ["target"]
