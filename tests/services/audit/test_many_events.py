"""A log of a hundred thousand believable events: whole, provable, edited, in bounded memory."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE, verify_log
from tests.plugin.many_runs import fill_many

ROOT = Path(__file__).parents[3]
EVENTS = 100_000
# What verifying may need more for ten times the leaves: a hash a level, a row an emitter.
MORE_BYTES = 12 << 20
VERIFY = """
import re, sys
from pathlib import Path
from airflow_secure_ml.adapters.log_signer import LogSigner
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.services.verifying import verify_log
folder = Path(sys.argv[1])
with SqliteAuditReader(folder / "audit" / LOG_FILE).whole() as log:
    report = verify_log(log, [LogSigner(folder / "signer").public])
# Not ru_maxrss: that begins with what the parent had when it forked.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(report.status, report.checked, 1024 * int(peak[1]))
"""


def fill(folder, events):
    return fill_many(folder / "audit", folder / "signer", events=events)


def verify(folder):
    with SqliteAuditReader(folder / "audit" / LOG_FILE).whole() as log:
        return verify_log(log, [LogSigner(folder / "signer").public])


def verify_alone(folder):
    """(status, leaves, bytes of memory at most) of a process that does nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [int(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    assert fill(folder, EVENTS) >= EVENTS
    yield folder
    shutil.rmtree(folder)


def test_the_log_is_whole_and_says_which_tries_were_cut(many):
    report = verify(many)

    assert (report.status, report.problem) == (WHOLE, "")
    assert report.checked == report.size == report.signed_size >= EVENTS
    assert set(report.ends) == {"whole", "cut"}
    assert 0 < report.ends["cut"] < report.ends["whole"] / 50


def test_verifying_needs_no_more_memory_for_ten_times_the_events(many, tmp_path):
    fill(tmp_path, EVENTS // 10)

    few = verify_alone(tmp_path)
    lots = verify_alone(many)

    assert few[0] == lots[0] == WHOLE
    assert lots[1] > 7 * few[1]
    assert lots[2] < few[2] + MORE_BYTES


def test_any_event_has_its_proof(many):
    store = SqliteAuditReader(many / "audit" / LOG_FILE)
    keys = [LogSigner(many / "signer").public]
    size = store.size()

    for index in (0, 255, 256, 65535, 65536, size - 1, *random.Random(3).sample(range(size), 40)):
        proof = prove(store, index)

        assert (proof["index"], proof["size"]) == (index, size)
        assert check_proof(proof, keys).size == size


def test_one_changed_letter_is_found(many, tmp_path):
    index = random.Random(4).randrange(EVENTS)
    shutil.copytree(many, tmp_path / "copy")
    path = tmp_path / "copy" / "audit" / LOG_FILE
    with sqlite3.connect(path) as log:
        data = log.execute("SELECT data FROM leaf WHERE idx = ?", (index,)).fetchone()[0]
        at = data.index('"mono":') + len('"mono":')
        changed = data[:at] + ("1" if data[at] != "1" else "2") + data[at + 1 :]
        log.execute("UPDATE leaf SET data = ? WHERE idx = ?", (changed, index))
    log.close()

    report = verify(tmp_path / "copy")

    assert (report.status, report.first_bad) == (TAMPERED, index)


@pytest.mark.long
def test_two_million_events_are_verified_in_as_little_memory(many, tmp_path):
    fill(tmp_path, 2_000_000)

    lots, most = verify_alone(many), verify_alone(tmp_path)

    assert (most[0], most[1] >= 2_000_000) == (WHOLE, True)
    assert most[2] < lots[2] + MORE_BYTES
