"""Whatever the keeper started is gone when it ends, however it was left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dags_examples.demo import keeper

# Its child leaves the session, ignores SIGTERM, and is orphaned at once.
FAMILY = """
import os, signal, time
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("orphan", "w").write(str(os.getpid()))
    time.sleep(600)
time.sleep(600)
"""


def start(tmp_path, program=FAMILY, **more):
    process = subprocess.Popen(
        [sys.executable, "-I", keeper.__file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, **more,
    )  # fmt: skip
    order = {"programs": {"one": [sys.executable, "-c", program]}, "logs": str(tmp_path)}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    return process


def until(found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def orphan_of(tmp_path):
    path = tmp_path / "orphan"
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_orphan_that_ignores_signals_is_ended_too(tmp_path):
    process = start(tmp_path)
    orphan = orphan_of(tmp_path)

    process.stdin.close()

    assert process.wait(timeout=60) == 0
    assert not lives(orphan)


def test_a_killed_starter_leaves_nothing(tmp_path):
    starter = subprocess.Popen(
        [sys.executable, "-c",
         "import subprocess, sys, time\n"
         "p = subprocess.Popen(sys.argv[1:3], stdin=subprocess.PIPE)\n"
         "p.stdin.write(sys.argv[3].encode() + b'\\n'); p.stdin.flush()\n"
         "time.sleep(600)",
         sys.executable, keeper.__file__,
         json.dumps({"programs": {"one": [sys.executable, "-c", FAMILY]}, "logs": "."})],
        cwd=tmp_path,
    )  # fmt: skip
    orphan = orphan_of(tmp_path)

    starter.kill()
    starter.wait()

    until(lambda: not lives(orphan))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_of_the_terminal_is_not_for_the_keeper(tmp_path, number):
    process = start(tmp_path)
    orphan = orphan_of(tmp_path)

    os.kill(process.pid, number)

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    assert lives(orphan)
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_a_program_that_ends_by_itself_is_named(tmp_path):
    process = start(tmp_path, "raise SystemExit('no port')")

    assert process.stdout.read() == b"one\n"
    assert process.wait(timeout=60) == 1
    assert (tmp_path / "one.log").read_text() == "no port\n"
    process.stdin.close()
