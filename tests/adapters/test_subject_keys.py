"""The file of subjects' keys: private, found by name, gone when destroyed."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.subject_keys import SubjectKeys
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "subjects" / "subjects.db"


@pytest.fixture
def keys(path):
    return SubjectKeys(path)


def test_a_name_has_one_subject_for_ever_and_nothing_follows_from_it(keys, path):
    first = keys.subjects(["maria.keller", "jonas.brandt"])
    again = SubjectKeys(path).subjects(["jonas.brandt", "aisha.rahman"])

    assert first["jonas.brandt"] == again["jonas.brandt"]
    every = [*first.values(), again["aisha.rahman"]]
    assert len({subject.id for subject in every}) == len({s.key for s in every}) == 3
    assert keys.named("maria.keller") == first["maria.keller"]
    assert keys.subject(first["maria.keller"].id) == first["maria.keller"]
    assert keys.named("li.wei") is keys.subject("00" * 16) is None


def test_without_a_file_nobody_is_known_and_none_is_made(keys, path):
    assert keys.named("maria.keller") is None
    with pytest.raises(ConfigurationError, match="audit_subjects_dir"):
        keys.subject("00" * 16)
    assert not keys.destroy("00" * 16)
    assert keys.subjects([]) == {}
    assert not path.parent.exists()


def test_a_file_whose_maker_was_killed_at_once_knows_nobody_and_is_gone_on_with(keys, path):
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)

    assert keys.named("maria.keller") is keys.subject("00" * 16) is None
    assert not keys.destroy("00" * 16)
    assert path.read_bytes() == b""
    made = keys.subjects(["maria.keller"])["maria.keller"]
    assert keys.named("maria.keller") == made


def test_the_file_is_for_its_owner_alone(keys, path):
    keys.subjects(["maria.keller"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="mode 0640"):
        keys.named("maria.keller")


def test_a_link_in_its_place_is_refused(keys, path, tmp_path):
    keys.subjects(["maria.keller"])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="plain file"):
        keys.subject("00" * 16)


def test_a_destroyed_key_is_in_no_file_any_more(keys, path):
    made = keys.subjects([f"person {number}" for number in range(50)])
    gone = made["person 7"]
    assert gone.key in path.read_bytes()

    assert keys.destroy(gone.id)

    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert gone.key not in left
    assert gone.id.encode() not in left
    assert keys.named("person 7") is keys.subject(gone.id) is None
    assert not keys.destroy(gone.id)
    assert keys.named("person 8") == made["person 8"]


def test_whoever_acts_again_after_that_is_somebody_new(keys):
    before = keys.subjects(["maria.keller"])["maria.keller"]
    keys.destroy(before.id)

    after = keys.subjects(["maria.keller"])["maria.keller"]

    assert after.id != before.id
    assert after.key != before.key


def test_names_stand_nowhere_in_the_file(keys, path):
    keys.subjects(["maria.keller"])

    assert b"maria" not in path.read_bytes()


def test_two_processes_agree_on_a_name_s_subject(path):
    program = (
        "import sys, pathlib\n"
        "from airflow_secure_ml.adapters.subject_keys import SubjectKeys\n"
        "names = [f'person {n}' for n in range(30)]\n"
        "found = SubjectKeys(pathlib.Path(sys.argv[1])).subjects(names)\n"
        "print(*[found[name].id for name in names])\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0] for process in started}

    assert len(answers) == 1
    assert len(answers.pop().split()) == 30


def test_a_file_that_is_locked_is_unavailable(keys, path, monkeypatch):
    keys.subjects(["maria.keller"])
    monkeypatch.setattr("airflow_secure_ml.adapters.subject_keys.BUSY_S", 0.05)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceUnavailableError, match="locked"):
            keys.subjects(["jonas.brandt"])
    other.close()


@pytest.mark.parametrize("data", [b"x" * 5000, b"SQLite format 3\0" + b"\0" * 84])
def test_a_damaged_file_is_said_to_be_damaged(keys, path, data):
    keys.subjects(["maria.keller"])
    path.write_bytes(data)

    with pytest.raises((AuditLogError, ServiceUnavailableError), match=r"subjects\.db"):
        keys.named("maria.keller")


def test_a_killed_writer_leaves_whole_rows(path):
    program = (
        "import os, sys, pathlib, signal, threading\n"
        "from airflow_secure_ml.adapters.subject_keys import SubjectKeys\n"
        "keys = SubjectKeys(pathlib.Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    print(keys.subjects([f'person {n}'])[f'person {n}'].id, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    told = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    told += process.communicate()[0].split()

    keys = SubjectKeys(path)
    # The line that the kill cut may be short; every whole one names a subject that is there.
    assert all(keys.subject(one) is not None for one in told if len(one) == 32)
    keys.subjects(["somebody else"])
    assert os.listdir(path.parent) == ["subjects.db"]
