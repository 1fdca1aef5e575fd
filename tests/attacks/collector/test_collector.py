"""A task of another user cannot take back, alter or invent what a collector took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, STAMP, read_frames
from airflow_secure_ml.core.audit.stamp import Stamp, decode_stamp
from tests.attacks.collector.place import (
    DEADLINE_S,
    DRIVER,
    NEEDS_ROOT,
    ON_DEMAND,
    PRELUDE,
    TASK,
    Place,
)

pytestmark = NEEDS_ROOT

ROUNDS = 5


@pytest.fixture
def place():
    with Place() as made:
        made.start()
        yield made


def test_what_is_sent_is_stamped_with_who_the_kernel_says_sent_it(place):
    pid = place.task(
        "s = EmitterSink('task', CollectorLines(door)); s.record(fact); s.settle(); s.close()\n"
        "print(os.getpid())"
    )
    place.stop()

    frames = place.frames()
    assert [frame.kind for frame in frames] == [STAMP, EVENT, EVENT, EVENT]
    assert decode_stamp(frames[0].payload) == Stamp(via="socket", pid=int(pid), uid=TASK)


def test_a_task_cannot_reach_what_it_said(place):
    found = place.task(
        "s = EmitterSink('task', CollectorLines(door)); s.record(fact); s.settle()\n"
        "path = door.parent.parent / 'audit' / 'collected' / (s.emitter + '-0000.seg')\n"
        "for act in (lambda: path.open('rb'), path.unlink, door.unlink):\n"
        "    try:\n        act()\n"
        "    except PermissionError:\n        print('no')\n"
    )

    assert found.split() == ["no", "no", "no"]


@pytest.mark.parametrize(
    ("name", "send"),
    [
        ("fork", "event(A, 0, None, 'other')"),
        ("skip", "event(A, 2, first)"),
        ("chain", "event(A, 1, event(A, 0, None, 'other'))"),
        ("name", "event('b0' * 16, 1, first)"),
    ],
    ids=["fork", "skip", "chain", "name"],
)
def test_an_emitter_cannot_take_back_what_it_said(place, name, send):
    answers = place.task(
        "first = event(A, 0, None)\n"
        "line = call(header(A) + encode_frame(1, first) + POINT); print(line.recv(3)[0])\n"
        f"line.sendall(encode_frame(1, {send}) + POINT); print(line.recv(3)[0])"
    )

    assert answers.split() == ["1", "2"]


def test_a_task_cannot_send_a_stamp(place):
    answer = place.task(
        "line = call(header(A) + encode_frame(3, b'{}') + POINT); print(line.recv(3)[0])"
    )

    assert answer == "2"


def test_another_process_cannot_speak_for_an_emitter(place):
    say = "line = call(header(A) + encode_frame(1, event(A, 0, None)) + POINT)\n"
    first = place.task(say + "print(line.recv(3)[0])")
    second = place.task(say + "print(line.recv(3)[0])")

    assert (first, second) == ("1", "2")


def test_who_speaks_for_another_is_named_in_the_trail(place):
    say = "line = call(header(A) + encode_frame(1, event(A, 0, None)) + POINT); line.recv(3)\n"
    place.task(say)
    pid = place.task(say + "print(os.getpid())")
    place.stop()

    (segment,) = (place.audit / "spool").iterdir()
    frames = read_frames(segment.read_bytes(), HEADER_BYTES).frames
    events = [json.loads(frame.payload) for frame in frames if frame.kind == EVENT]
    (told,) = [event["more"] for event in events if event["act"] == "alert.raise"]
    assert (told["about"], told["subject"], told["because"]) == (
        "collector.refused",
        f"uid {TASK}, process {pid}",
        "an emitter that another process opened",
    )


def test_a_descriptor_that_was_handed_on_says_nothing_more(place):
    answers = place.task(
        "first = event(A, 0, None)\n"
        "line = call(header(A) + encode_frame(1, first) + POINT); print(line.recv(3)[0], flush=1)\n"
        "if os.fork():\n    os.wait()\n"
        "else:\n"
        "    line.sendall(encode_frame(1, event(A, 1, first)) + POINT)\n"
        "    print(line.recv(3)[0], flush=True)\n    os._exit(0)"
    )
    place.stop()

    assert answers.split() == ["1", "2"]
    assert place.count(EVENT) == 1


def test_what_was_acknowledged_comes_again_and_is_taken_once(place):
    again = "call(header(A) + encode_frame(1, event(A, 0, None)) + POINT).recv(3)[0]"
    answers = place.task(f"print({again}); print({again})")
    place.stop()

    assert answers.split() == ["1", "1"]
    assert place.count(EVENT) == 1


def test_a_killed_collector_loses_nothing_it_acknowledged(place):
    with place.sender(ON_DEMAND) as task:
        task.stdout.readline()
        for _ in range(ROUNDS):
            task.stdin.write("more\n" * 20)
            task.stdin.flush()
            assert task.stdout.readline() == ".\n"
            place.stop(signal.SIGKILL)
            place.start()
            assert [task.stdout.readline() for _ in range(19)] == [".\n"] * 19
        task.stdin.close()
        assert task.wait(DEADLINE_S) == 0
    place.stop()

    found = [json.loads(frame.payload)["seq"] for frame in place.frames() if frame.kind == EVENT]
    assert sorted(set(found)) == list(range(20 * ROUNDS + 3))


def test_many_silent_connections_of_one_user_keep_nobody_else_out(place):
    crowd = "held = []\nfor _ in range(300):\n    held.append(call(b''))\n"
    hold = "print('held', flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, DRIVER, str(TASK), "code", PRELUDE + crowd + hold, str(place.door)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as other:
        assert other.stdout.readline() == b"held\n"

        place.task(
            "s = EmitterSink('task', CollectorLines(door)); s.record(fact); s.settle()", uid=60003
        )

        other.stdin.close()


def test_a_socket_in_a_directory_of_the_tasks_own_user_is_not_believed(place):
    os.chown(place.run, TASK, TASK)

    found = place.task(
        "s = EmitterSink('task', CollectorLines(door)); s.record(fact)\n"
        "try:\n    s.settle()\n"
        "except Exception as error:\n    print(error)"
    )

    assert "belongs to this very user" in found
