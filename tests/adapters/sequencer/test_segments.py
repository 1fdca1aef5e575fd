"""Following spool segments: locks, links, unlinked and late bytes, what is kept of refused ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.adapters.sequencer import segments as module

NAME = "ab" * 16 + "-0000.seg"
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def segments(spool, tmp_path):
    made = SpoolSegments([spool, tmp_path / "spare"], tmp_path / "refused")
    yield made
    made.close()


def test_a_lock_shows_for_as_long_as_its_process_lives(spool, segments):
    (spool / NAME).write_bytes(b"x" * 40)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(spool / NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"

    while_alive = segments.scan()[0]
    process.kill()
    process.communicate()

    assert while_alive.is_held
    assert segments.scan()[0].is_held is False


def test_looking_at_a_lock_does_not_take_it(spool, segments):
    (spool / NAME).write_bytes(b"x" * 40)
    segments.scan()

    program = "import fcntl,sys; fcntl.lockf(open(sys.argv[1],'ab'), fcntl.LOCK_EX|fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", program, spool / NAME], check=False)

    assert done.returncode == 0


def test_segments_of_several_directories_come_by_emitter_and_part(spool, segments, tmp_path):
    spare = tmp_path / "spare"
    spare.mkdir()
    for path in (spare / NAME.replace("0000", "0001"), spool / ("cd" * 16 + "-0003.seg")):
        path.write_bytes(b"x")
    (spool / NAME).write_bytes(b"xyz")
    (spool / "notes.txt").write_bytes(b"x")
    (spool / NAME.upper()).write_bytes(b"x")

    found = segments.scan()

    assert [(s.emitter[:2], s.part, s.size_bytes) for s in found] == [
        ("ab", 0, 3),
        ("ab", 1, 1),
        ("cd", 3, 1),
    ]
    assert found[0].owner_uid == os.getuid()


def test_what_is_removed_is_gone_and_another_file_of_its_name_is_not(spool, segments):
    (spool / NAME).write_bytes(b"first")
    first = segments.scan()[0]
    (spool / NAME).unlink()
    (spool / NAME).write_bytes(b"second")

    segments.remove([first.token])

    assert (spool / NAME).read_bytes() == b"second"
    found = segments.scan()
    assert [segments.read(s.token, 0, 99) for s in found] == [b"second"]


def test_bytes_written_after_the_unlink_bring_a_segment_back(spool, segments):
    with (spool / NAME).open("wb") as writer:
        writer.write(b"first")
        writer.flush()
        token = segments.scan()[0].token
        segments.remove([token])
        gone = segments.scan()
        writer.write(b" late")

    back = segments.scan()
    segments.remove([token])
    for _ in range(20):
        assert segments.scan() == []

    assert gone == []
    assert [(s.token, s.size_bytes) for s in back] == [(token, 10)]
    assert not (spool / NAME).exists()


def test_refused_bytes_are_kept_up_to_a_limit(segments, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REFUSED_BYTES", 100)

    kept = [segments.keep_refused(f"{n:064x}", b"y" * 40) for n in (1, 1, 2, 3)]

    assert kept == [True, True, True, False]
    files = sorted((tmp_path / "refused").iterdir())
    assert [path.stat().st_size for path in files] == [40, 40]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_segment_that_cannot_be_removed_is_not_read_again(spool, segments, caplog, monkeypatch):
    def read_only(path, missing_ok=False):
        raise OSError(30, "Read-only file system")

    (spool / NAME).write_bytes(b"first")
    token = segments.scan()[0].token
    # No file mode keeps root, whom tests may run as, from removing a file.
    monkeypatch.setattr(module.Path, "unlink", read_only)

    segments.remove([token])

    for _ in range(20):
        assert segments.scan() == []
    assert "Read-only file system" in caplog.text
    assert (spool / NAME).exists()


def test_refused_bytes_that_cannot_be_kept_stop_nothing(segments, tmp_path):
    (tmp_path / "refused").write_bytes(b"a file in the directory's place")

    assert segments.keep_refused("0" * 64, b"y") is False
