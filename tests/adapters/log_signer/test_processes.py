"""The signer and the sequencer as two programs: together, apart, killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from airflow_secure_ml.adapters.log_signer import (
    LogSigner,
    SocketSigner,
    prepare_successors,
    read_log_keys,
)
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from tests.adapters.trail_folder import DEADLINE_S, TrailFolder

ROUNDS = 8
PROGRAM = [sys.executable, "-I", "-m"]


class Place(TrailFolder):
    """A log, and a signer's directory that its sequencer is not told of."""

    def __init__(self, path):
        super().__init__(path)
        self.run = path / "run"
        self.run.mkdir(mode=0o700)
        self.socket = self.run / "signer.sock"
        self.processes = []

    def start_signer(self):
        words = ["airflow_secure_ml.signer", "--signer-dir", self.signer, "--socket", self.socket]
        process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout.readline() == "READY\n"
        return process

    def sequencer(self, *more):
        words = ["airflow_secure_ml.sequencer", "--audit-dir", self.audit, "--signer-dir"]
        return [*PROGRAM, *words, "/nonexistent", "--signer-socket", self.socket, *more]

    def once(self):
        return subprocess.run(
            self.sequencer("--once"), check=False, capture_output=True, timeout=DEADLINE_S
        )

    def start_sequencer(self):
        process = subprocess.Popen(
            self.sequencer("--idle-s", "600"), stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def public(self):
        return parse_log_keys(read_log_keys(self.signer / "log_keys"))

    def verify(self):
        return self.report(self.public(), signed_last=(self.signer / "last").read_text("utf-8"))

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(DEADLINE_S)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def test_a_sequencer_without_the_key_has_its_log_signed(place):
    signer = place.start_signer()
    place.put()

    done = place.once()
    signer.terminate()

    assert done.returncode == 0, done.stderr
    assert signer.wait(DEADLINE_S) == 0
    assert not place.socket.exists()
    report = place.verify()
    assert (report.status, report.problem, report.signed_size) == (0, "", report.size)
    assert place.written <= set(place.names())


def test_a_second_signer_over_the_same_directory_does_not_start(place):
    place.start_signer()

    words = ["airflow_secure_ml.signer", "--signer-dir", place.signer]
    done = subprocess.run(
        [*PROGRAM, *words, "--socket", place.run / "other.sock"],
        check=False,
        capture_output=True,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 2
    assert b"another signer runs" in done.stderr


def test_without_its_signer_a_new_log_does_not_begin(place):
    place.put()

    done = place.once()

    assert done.returncode == 3
    assert b"signer: answer at" in done.stderr
    assert not (place.audit / LOG_FILE).exists()


def test_without_its_signer_a_log_goes_on_unsigned_and_is_signed_later(place):
    first = place.start_signer()
    place.put()
    assert place.once().returncode == 0
    first.send_signal(signal.SIGKILL)
    first.wait(DEADLINE_S)
    place.put()

    alone = place.once()
    unsigned = place.verify()
    place.start_signer()
    place.put()
    again = place.once()

    assert alone.returncode == 3
    assert b"sequencing goes on without it" in alone.stderr
    assert place.written <= set(place.names())
    assert unsigned.signed_size < unsigned.size
    assert again.returncode == 0, again.stderr
    report = place.verify()
    assert (report.status, report.signed_size) == (0, report.size)


def test_a_signer_killed_again_and_again_signs_one_history(place):
    client = SocketSigner(place.socket)
    place.start_signer()
    place.put()
    assert place.once().returncode == 0
    for number in range(ROUNDS):
        process = place.processes[-1]
        if number % 3 == 2:
            prepare_successors(place.signer)
        place.put(30)
        sequencer = subprocess.Popen(place.sequencer("--once"), stderr=subprocess.DEVNULL)
        place.processes.append(sequencer)
        time.sleep(place.random.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
        sequencer.wait(DEADLINE_S)
        place.start_signer()
        # What it signed last is what it signs again.
        size, root = client.last()
        assert client.sign(size, root, ()) == (place.signer / "last").read_text("utf-8")

    done = place.once()

    assert done.returncode == 0, done.stderr
    assert sorted(place.written) == sorted(place.written & set(place.names()))
    assert len(place.names()) == len(set(place.names()))
    report = place.verify()
    assert (report.status, report.problem) == (0, "")
    ranges = [(key.from_size, key.to_size) for key in place.public()]
    assert len(ranges) == 1 + ROUNDS // 3
    assert [begin for begin, _ in ranges[1:]] == [end + 1 for _, end in ranges[:-1]]


def test_a_key_that_changes_while_both_run(place):
    place.start_signer()
    place.start_sequencer()
    place.put()
    place.until(lambda: LogSigner(place.signer).last()[0] > 0)

    [new] = prepare_successors(place.signer)
    place.put()
    place.until(lambda: len(place.public()) == 2)
    place.put()
    place.until(lambda: LogSigner(place.signer).last()[0] >= place.public()[1].from_size)

    assert LogSigner(place.signer).public.key_id == new.key_id
    place.until(lambda: place.verify().status == 0)
