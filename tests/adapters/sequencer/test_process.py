"""The sequencer as a process: started where none runs, alone, ended, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner
from airflow_secure_ml.adapters.sequencer import (
    SequencerLock,
    ensure_sequencer,
    sequencer_pid,
    stop_sequencer,
)
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.errors import AuditLogError, ServiceUnavailableError
from tests.adapters.trail_folder import DEADLINE_S, TrailFolder

# About what three segments take.
LATER_S = 0.05


class Place(TrailFolder):
    """A log whose sequencer has its key at hand."""

    def command(self, *more):
        program = [sys.executable, "-I", "-m", "airflow_secure_ml.sequencer"]
        return [*program, "--audit-dir", self.audit, "--signer-dir", self.signer, *more]

    def once(self):
        return subprocess.run(
            self.command("--once"), check=False, capture_output=True, timeout=DEADLINE_S
        )

    def spooled(self):
        return os.listdir(self.audit / "spool")

    def verify(self):
        return self.report([LogSigner(self.signer).public])


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    stop_sequencer(made.audit, timeout_s=DEADLINE_S)


def test_it_takes_what_is_there_signs_it_and_ends(place):
    place.put(5)

    done = place.once()

    assert done.returncode == 0, done.stderr
    assert place.written <= set(place.names())
    report = place.verify()
    assert (report.status, report.signed_size) == (0, report.size)


def test_it_runs_in_a_session_of_its_own_and_only_once(place):
    assert sequencer_pid(place.audit) is None

    started = ensure_sequencer(place.audit, place.signer, idle_s=60)
    pid = sequencer_pid(place.audit)
    again = ensure_sequencer(place.audit, place.signer, idle_s=60)

    assert (started, again) == (True, False)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.getpgid(pid) == pid
    assert (place.audit / "sequencer.pid").read_text() == f"{pid}\n"
    assert b"HOME" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_it_sequences_signs_and_then_ends_by_itself(place):
    place.put(7)
    ensure_sequencer(place.audit, place.signer, idle_s=0.3)

    place.until(lambda: sequencer_pid(place.audit) is None)

    assert place.written <= set(place.names())
    assert place.verify().status == 0
    assert list((place.audit / "spool").iterdir()) == []
    assert not (place.audit / "sequencer.pid").exists()


def test_it_signs_while_it_runs(place):
    place.put(3)
    ensure_sequencer(place.audit, place.signer, idle_s=60)
    reader = SqliteAuditReader(place.audit / LOG_FILE)

    place.until(lambda: reader.checkpoint() is not None)

    assert sequencer_pid(place.audit) is not None


def test_told_to_stop_it_finishes_what_it_has(place):
    ensure_sequencer(place.audit, place.signer, idle_s=60)
    place.put(400)

    assert stop_sequencer(place.audit, timeout_s=DEADLINE_S)

    assert stop_sequencer(place.audit) is False
    assert place.written <= set(place.names())
    assert place.verify().status == 0


def test_two_do_not_work_on_one_log(place):
    ensure_sequencer(place.audit, place.signer, idle_s=60)

    second = place.once()

    assert second.returncode == 0
    assert b"another sequencer works on" in second.stderr


def test_a_lock_that_is_free_can_be_taken_and_given_back(place):
    lock = SequencerLock(place.audit)

    assert lock.acquire()
    lock.release()

    assert ensure_sequencer(place.audit, place.signer, idle_s=60)
    assert not lock.acquire()


def test_without_a_key_it_says_so_and_nothing_runs(place):
    (place.signer / "log.key").unlink()

    with pytest.raises(ServiceUnavailableError, match="keys init"):
        ensure_sequencer(place.audit, place.signer)
    assert sequencer_pid(place.audit) is None
    assert place.once().returncode == 2


def test_a_log_that_is_not_what_was_signed_ends_with_1(place):
    place.put(3)
    place.once()
    (place.audit / LOG_FILE).unlink()
    place.put(2)

    done = place.once()

    assert done.returncode == 1
    assert b"was cut or rolled back" in done.stderr


def test_a_lost_record_of_what_was_signed_stops_checkpoints_until_it_is_adopted(place):
    place.put(3)
    place.once()
    (place.signer / "last").unlink()
    place.put(4)

    refused = place.once()
    adopted = subprocess.run(
        place.command("--adopt"), check=False, capture_output=True, timeout=DEADLINE_S
    )
    again = subprocess.run(
        place.command("--adopt"), check=False, capture_output=True, timeout=DEADLINE_S
    )

    assert refused.returncode == 1
    assert b"what was signed last is not known" in refused.stderr
    assert (adopted.returncode, again.returncode) == (0, 2)
    assert place.once().returncode == 0
    assert place.written <= set(place.names())
    assert place.verify().status == 0


# Where a kill may meet it: a moment after it was started, has the log, has sequenced a segment.
MARKS = {
    "started": lambda place, process, waiting: True,
    "alone": lambda place, process, waiting: sequencer_pid(place.audit) == process.pid,
    "sequencing": lambda place, process, waiting: len(place.spooled()) < waiting,
}


def test_forty_two_kills_lose_nothing_and_repeat_nothing(place):
    for mark in place.random.sample([*MARKS] * 14, 42):
        for _ in range(3):
            place.put(30)
        waiting = len(place.spooled())
        process = subprocess.Popen(place.command("--idle-s", "600"), stderr=subprocess.DEVNULL)
        place.until(lambda: MARKS[mark](place, process, waiting))  # noqa: B023 - called here
        time.sleep(place.random.uniform(0, LATER_S))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    done = place.once()

    assert done.returncode == 0, done.stderr
    names = place.names()
    assert place.written <= set(names)
    assert len(names) == len(set(names))
    report = place.verify()
    assert (report.status, report.problem) == (0, "")
    assert report.ends == {"whole": 126}


WRITER = """
import sys, pathlib
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact
sink = Spool(pathlib.Path(sys.argv[1]), program="test")
for n in range(int(sys.argv[2])):
    name = sink.record(Fact(act="xcom.write", phase="intent", more={"name": f"value {n}"}))
    sink.settle()
    print(name, flush=True)
if sys.argv[3] == "close":
    sink.close()
else:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("end", "state"), [("close", "whole"), ("kill", "cut")])
def test_what_a_real_spool_acknowledged_is_in_the_log(place, end, state):
    ensure_sequencer(place.audit, place.signer, idle_s=60)

    writer = subprocess.run(
        [sys.executable, "-c", WRITER, str(place.audit), "300", end],
        check=False,
        capture_output=True,
        timeout=DEADLINE_S,
        text=True,
    )

    acknowledged = set(writer.stdout.split())
    assert len(acknowledged) == 300, writer.stderr
    place.until(lambda: place.verify().ends == {state: 1})
    assert acknowledged <= set(place.names())


def test_a_damaged_log_is_not_a_crash(place):
    place.put(3)
    place.once()
    (place.audit / LOG_FILE).write_bytes(b"x" * 5000)

    done = place.once()

    assert done.returncode == 1
    assert b"file is not a database" in done.stderr
    with pytest.raises(AuditLogError):
        SqliteAuditReader(place.audit / LOG_FILE).size()
