"""A sender cannot fill the collector's disk or memory, and a full disk takes nothing back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_secure_ml.core.audit.frame import EVENT
from tests.attacks.collector.place import (
    COLLECTOR,
    DEADLINE_S,
    DRIVER,
    NEEDS_ROOT,
    ON_DEMAND,
    TASK,
    Place,
)

pytestmark = NEEDS_ROOT

OTHER = 60003
QUOTA = 4 << 20
SMALL = ("--user-lines", "2", "--user-bytes", str(QUOTA))
ONE = "s = EmitterSink('task', CollectorLines(door)); s.record(fact); s.settle(); s.close()\n"
# Events of nearly the greatest length, and no point between them, until it is not heard for 1 s.
FLOOD = """
line = call(header(A))
line.settimeout(1)
prev, sent = None, 0
try:
    for seq in range(40_000):
        prev = event(A, seq, prev, 'x' * 30_000)
        frame = encode_frame(1, prev)
        line.sendall(frame)
        sent += len(frame)
except TimeoutError:
    print(sent, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place():
    with Place() as made:
        yield made


def memory_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def lying_bytes(place):
    return sum(path.stat().st_size for path in (place.audit / "collected").iterdir())


def test_who_may_not_send_is_refused_and_who_may_is_heard(place):
    place.start("--allow-uid", str(OTHER))

    answer = place.task(
        "line = socket.socket(socket.AF_UNIX); line.connect(str(door)); print(line.recv(3)[0])"
    )
    place.task(ONE, uid=OTHER)

    assert answer == "2"
    place.stop()
    assert place.count(EVENT) == 3
    told = b"".join(path.read_bytes() for path in (place.audit / "spool").iterdir())
    assert f"uid {TASK} may not send here".encode() in told


def test_who_floods_it_waits_and_nobody_else_does(place):
    place.start(*SMALL)

    with place.sender(FLOOD) as flood:
        sent = int(flood.stdout.readline())
        place.task(ONE, uid=OTHER)

        assert sent < 2 * QUOTA
        assert lying_bytes(place) < 2 * QUOTA
        assert memory_bytes(place.process.pid) < 256 << 20
        flood.stdin.close()


def test_who_waited_is_heard_again_once_the_sequencer_took_some(place):
    place.make_log()
    place.start(*SMALL)
    with place.sender(FLOOD) as flood:
        assert int(flood.stdout.readline()) >= QUOTA - (64 << 10)
        flood.stdin.close()

    place.sequence_once()

    place.task(ONE)


def test_a_quota_that_one_users_open_segments_could_use_up_is_refused(place):
    words = [sys.executable, DRIVER, str(COLLECTOR), "program", "airflow_secure_ml.collector"]
    words += ["--audit-dir", str(place.audit), "--socket", str(place.door)]
    words += ["--user-lines", "256", "--user-bytes", str(256 << 20)]

    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 2
    assert "--user-bytes" in done.stderr


def test_a_frame_longer_than_any_is_refused_before_it_is_read(place):
    place.start()

    answer = place.task(
        "line = call(header(A) + b'\\x01\\xff\\xff\\xff' + bytes(4))\nprint(line.recv(3)[0])"
    )

    assert answer == "2"


def test_a_full_disk_refuses_and_what_was_not_taken_comes_again(place):
    words = ["mount", "-t", "tmpfs", "-o", f"size=9m,mode=0700,uid={COLLECTOR}", "none"]
    if subprocess.run([*words, str(place.audit)], capture_output=True, check=False).returncode:
        pytest.skip("NEEDS the right to mount a small file system")
    try:
        place.start()
        code = ON_DEMAND.replace("patience_s=60", "patience_s=0").replace(
            "    s.record(fact); s.settle(); print('.', flush=True)",
            "    s.record(fact)\n"
            "    try:\n        s.settle(); print('.', flush=True)\n"
            "    except Exception as error:\n        print(error.why, flush=True)",
        )
        with place.sender(code) as task:
            emitter = task.stdout.readline()
            room = os.statvfs(place.audit)
            filler = place.audit / "filler"
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
            said = [ask(task) for _ in range(30)]
            filler.unlink()
            said.append(ask(task))
            task.stdin.close()
            assert task.wait(DEADLINE_S) == 0
        place.stop()

        assert emitter
        assert "audit_unavailable" in said
        assert said[-1] == "."
        found = {frame.payload for frame in place.frames() if frame.kind == EVENT}
        assert len(found) == 31 + 3
    finally:
        place.stop()
        subprocess.run(["umount", "--lazy", str(place.audit)], check=True)


def ask(task):
    task.stdin.write("more\n")
    task.stdin.flush()
    return task.stdout.readline().strip()


def test_a_descriptor_outlives_its_opener_and_says_nothing_more(place):
    place.start()
    answers = place.task(
        "first = event(A, 0, None)\n"
        "line = call(header(A) + encode_frame(1, first) + POINT); print(line.recv(3)[0], flush=1)\n"
        "opener = os.getpid()\n"
        "if os.fork():\n    os._exit(0)\n"
        "import time\n"
        "while os.getppid() == opener:\n    time.sleep(0.01)\n"
        "data = encode_frame(1, event(A, 1, first)) + POINT\n"
        "try:\n    line.sendall(data); print(line.recv(3)[:1].hex() or 'gone', flush=True)\n"
        "except OSError:\n    print('gone', flush=True)\n"
        "print(call(header(A) + data).recv(3)[0], flush=True)\n"
        "os._exit(0)"
    )
    place.stop()

    assert answers.split() in (["1", "02", "2"], ["1", "gone", "2"])
    assert place.count(EVENT) == 1
