"""The key file: private, whole after any kill, clear about what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

FIRST = """{
 "keys": {
  "data": {
   "purpose": "wrap",
   "versions": [
    {
     "created": "2026-11-22T03:00:00Z",
     "number": 1,
     "secret": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
     "state": "active"
    }
   ]
  },
  "pipeline": {
   "purpose": "sign",
   "versions": [
    {
     "created": "2026-11-22T03:00:00Z",
     "number": 1,
     "public": "gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q=",
     "secret": "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
     "state": "active"
    }
   ]
  }
 },
 "secure_ml_keyring": 1
}
"""


def _states(keyring):
    return {f"{k.name}/{v.number}": v.state for k in keyring.list_keys() for v in k.versions}


def test_a_new_keyring_is_private_and_holds_the_first_keys(keyring, path):
    assert path.read_text() == FIRST
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]


def test_a_keyring_is_never_made_over_another(keyring, path):
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match="stays as it is"):
        keyring.init()

    assert path.read_bytes() == before


def test_a_missing_keyring_names_the_command_and_makes_nothing(tmp_path):
    keyring = LocalKeyring(tmp_path / "no" / "keyring.json")

    for act in (
        lambda: keyring.wrapper("data"),
        lambda: keyring.rotate("data"),
        lambda: keyring.create("x", "wrap"),
    ):
        with pytest.raises(ConfigurationError, match="airflow secure-ml keys init"):
            act()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o610])
def test_a_keyring_that_others_can_touch_is_refused(keyring, path, mode):
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=f"found {mode:04o}"):
        keyring.wrapper("data")
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keyring.rotate("data")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_another_users_keyring_is_refused(keyring, path, monkeypatch):
    os.chown(path, 12345, -1)

    with pytest.raises(ConfigurationError, match="user 12345"):
        keyring.wrapper("data")


def test_a_symlink_is_refused(keyring, path):
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")

    with pytest.raises(ConfigurationError, match="found a symlink"):
        keyring.wrapper("data")


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_what_is_no_file_is_refused_without_blocking(path, kind):
    path.parent.mkdir()
    if kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path = type(path)("/dev/zero")

    with pytest.raises(ConfigurationError):
        LocalKeyring(path).wrapper("data")


def test_a_relative_path_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="absolute"):
        LocalKeyring(tmp_path.relative_to("/") / "keyring.json")


def test_a_huge_file_is_refused_before_it_is_read(keyring, path):
    os.truncate(path, 1 << 40)

    with pytest.raises(ConfigurationError, match="1099511627776 bytes"):
        keyring.wrapper("data")


def test_the_old_files_bytes_are_overwritten(keyring, path):
    with open(path, "rb") as old:
        before = old.read()
        keyring.rotate("data")
        old.seek(0)
        after = old.read()

    assert b"AQEBAQEB" in before
    assert after == bytes(len(before))


def test_a_hard_link_that_somebody_keeps_as_a_backup_stays_whole(keyring, path):
    backup = path.with_name("backup.json")
    os.link(path, backup)
    before = backup.read_bytes()

    keyring.rotate("data")

    assert backup.read_bytes() == before


def test_a_destroyed_key_is_no_longer_in_the_file(keyring, path):
    keyring.destroy("data")

    assert b"AQEBAQEB" not in path.read_bytes()
    assert b"AgICAgIC" in path.read_bytes()


_KILL = """
import os, signal, sys
from pathlib import Path
from airflow_secure_ml.adapters.local_keyring import LocalKeyring
path, act, step, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
real = getattr(os, step)

def strike(*args, **kwargs):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if step == "write" and count < 0:
        raise AssertionError
    return real(*args, **kwargs)

setattr(os, step, strike)
keyring = LocalKeyring(path)
keyring.init() if act == "init" else getattr(keyring, act)("data")
"""


def _kill_at(path, act, step, count):
    answer = subprocess.run(
        [sys.executable, "-c", _KILL, str(path), act, step, str(count)], capture_output=True
    )
    assert answer.returncode == -9, f"{step} {count} was never reached: {answer.stderr.decode()}"


_OLD = {"data/1": "active", "pipeline/1": "active"}
_ROTATED = {"data/1": "retired", "data/2": "active", "pipeline/1": "active"}
_STEPS = [
    ("listdir", 1, _OLD),
    ("write", 1, _OLD),
    ("fsync", 1, _OLD),
    ("rename", 1, _OLD),
    ("fsync", 2, _ROTATED),
    ("pwrite", 1, _ROTATED),
    ("fsync", 3, _ROTATED),
]


@pytest.mark.parametrize(("step", "count", "there"), _STEPS, ids=[f"{s}-{c}" for s, c, _ in _STEPS])
def test_a_rotation_killed_in_the_middle_leaves_a_whole_keyring(keyring, path, step, count, there):
    body = keyring.wrapper("data").wrap(bytes(32), b"c" * 32)

    _kill_at(path, "rotate", step, count)

    assert _states(keyring) == there
    assert keyring.unwrappers(["data"])[-1].unwrap(body, b"c" * 32) == bytes(32)
    keyring.rotate("data")
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]


@pytest.mark.parametrize(
    ("step", "count"), [("write", 1), ("fsync", 1), ("link", 1), ("unlink", 1), ("fsync", 2)]
)
def test_an_init_killed_in_the_middle_leaves_a_whole_keyring_or_none(path, step, count):
    _kill_at(path, "init", step, count)

    keyring = LocalKeyring(path)
    if not path.exists():
        keyring.init()
    assert _states(keyring) == _OLD
    keyring.rotate("data")
    assert _states(keyring) == _ROTATED
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]


def test_a_full_disk_leaves_the_old_keyring(keyring, path):
    before = path.read_bytes()
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from airflow_secure_ml.adapters.local_keyring import LocalKeyring\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    LocalKeyring(Path(sys.argv[1])).rotate('data')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error.reason)\n"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True
    )

    assert answer.stdout == f"{ServiceUnavailableError.__name__} File too large\n"
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]


def test_rotations_at_the_same_time_are_all_kept_and_readers_never_fail(keyring):
    seen, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            seen.append(keyring.wrapper("data").slot_id)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=keyring.rotate, args=("data",)) for _ in range(8)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()

    assert keyring.wrapper("data").slot_id == "data/9"
    assert seen == sorted(seen)
