"""A keyring under a passphrase: asked for once, wrong ones refused, and nothing plain on disk."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring, protection
from airflow_secure_ml.adapters.local_keyring.passphrase_file import read_passphrase
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.key_systems import NamedKeys

RIGHT, OTHER = Secret("correct horse battery staple"), Secret("a wholly different phrase")


@pytest.fixture(autouse=True)
def nothing_kept():
    protection.forget()
    yield
    protection.forget()


class Person:
    """Who is asked, and how often."""

    def __init__(self, answer=RIGHT):
        self.answer, self.asked = answer, 0

    def __call__(self):
        self.asked += 1
        return self.answer


def _made(path, person=None):
    keyring = LocalKeyring(path, passphrase=person or Person())
    keyring.init(passphrase=RIGHT)
    protection.forget()
    return keyring


def test_it_is_asked_for_once_a_process(tmp_path):
    person = Person()
    keyring = _made(tmp_path / "k.json", person)

    for _ in range(3):
        keyring.wrapper("data")
    LocalKeyring(keyring.path, passphrase=person).rotate("data")
    assert keyring.wrapper("data").slot_id == "data/2"
    assert person.asked == 1


def test_no_key_is_on_the_disk_in_plain(tmp_path):
    keyring = _made(tmp_path / "k.json")
    secret = bytes(keyring.wrapper("data")._key)
    keyring.rotate("data")

    on_disk = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    for form in (secret, base64.b64encode(secret), secret.hex().encode()):
        assert form not in on_disk
    assert b"data" not in on_disk
    assert oct(keyring.path.stat().st_mode & 0o777) == "0o600"


def test_a_wrong_passphrase_is_refused_and_not_kept(tmp_path):
    person = Person(OTHER)
    keyring = _made(tmp_path / "k.json", person)

    with pytest.raises(ConfigurationError, match="does not open this keyring") as caught:
        keyring.wrapper("data")
    assert OTHER.reveal() not in str(caught.value)
    person.answer = RIGHT
    assert keyring.wrapper("data").slot_id == "data/1"


def test_without_one_the_option_is_named(tmp_path):
    _made(tmp_path / "k.json")

    with pytest.raises(ConfigurationError, match="keyring_passphrase_path"):
        LocalKeyring(tmp_path / "k.json").wrapper("data")


def test_a_plain_keyring_is_put_under_one_and_out_of_it_again(tmp_path):
    keyring = LocalKeyring(tmp_path / "k.json", passphrase=Person())
    keyring.init()
    assert not keyring.has_passphrase
    before = keyring.wrapper("data").wrap(bytes(32), b"c" * 32)

    keyring.change_passphrase(RIGHT)
    protection.forget()
    assert keyring.has_passphrase
    assert keyring.unwrappers(["data"])[0].unwrap(before, b"c" * 32) == bytes(32)
    keyring.change_passphrase(None)
    protection.forget()
    assert LocalKeyring(keyring.path).wrapper("data").slot_id == "data/1"


def _mallorys(path):
    """A keyring under nothing, all keys of which Mallory knows, put in another one's place."""
    theirs = LocalKeyring(path.with_name("theirs.json"))
    theirs.init()
    os.replace(theirs.path, path)


ACTS = {
    "seal": lambda keyring: keyring.wrapper("data"),
    "open": lambda keyring: keyring.unwrappers(),
    "sign": lambda keyring: keyring.signer("pipeline"),
    "verify": lambda keyring: keyring.verifiers({"pipeline"}),
    "rotate": lambda keyring: keyring.rotate("data"),
    "list": lambda keyring: keyring.list_keys(),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_plain_keyring_in_the_place_of_one_under_a_passphrase_is_refused(tmp_path, act):
    path = _made(tmp_path / "k.json").path
    _mallorys(path)
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match="somebody replaced it"):
        act(LocalKeyring(path, passphrase=Person(), demands_passphrase=True))

    assert path.read_bytes() == before


def test_where_a_passphrase_is_demanded_none_is_made_without(tmp_path):
    keyring = LocalKeyring(tmp_path / "k.json", passphrase=Person(), demands_passphrase=True)

    with pytest.raises(ConfigurationError, match="under none"):
        keyring.init()
    assert not keyring.path.exists()

    keyring.init(passphrase=RIGHT)
    assert keyring.wrapper("data").slot_id == "data/1"


def test_a_deployment_with_the_option_refuses_a_plain_keyring(tmp_path):
    path = tmp_path / "k.json"
    LocalKeyring(path).init()
    keys = NamedKeys(f"local://{path}", passphrase=Person(), demands_passphrase=True)

    with pytest.raises(ConfigurationError, match="keyring_passphrase_path is set"):
        keys.wrapper("data")

    LocalKeyring(path, passphrase=Person(), demands_passphrase=True).change_passphrase(RIGHT)
    assert keys.wrapper("data").slot_id == "data/1"


def test_another_users_passphrase_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "p"
    path.write_text(RIGHT.reveal())
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    status = os.stat_result((0o100600, 1, 1, 1, 4242, 0, 8, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda descriptor: status)

    with pytest.raises(ConfigurationError, match="user 4242"):
        read_passphrase(path)


def test_after_a_change_the_old_one_opens_no_more(tmp_path):
    person = Person()
    keyring = _made(tmp_path / "k.json", person)
    keyring.change_passphrase(OTHER)
    protection.forget()

    with pytest.raises(ConfigurationError, match="does not open"):
        keyring.wrapper("data")
    person.answer = OTHER
    assert keyring.wrapper("data").slot_id == "data/1"


def test_a_change_by_another_process_is_seen(tmp_path):
    person = Person()
    keyring = _made(tmp_path / "k.json", person)
    keyring.wrapper("data")
    salt_before = keyring.path.read_text().split('"salt"')[1][:30]
    keyring.change_passphrase(RIGHT)

    assert keyring.path.read_text().split('"salt"')[1][:30] != salt_before
    assert keyring.wrapper("data").slot_id == "data/1"


def test_a_forked_child_uses_what_its_parent_derived(tmp_path):
    person = Person()
    keyring = _made(tmp_path / "k.json", person)
    keyring.wrapper("data")
    child = os.fork()
    if child == 0:
        os._exit(0 if keyring.wrapper("data").slot_id == "data/1" and person.asked == 1 else 1)

    assert os.waitpid(child, 0)[1] == 0


def test_what_is_kept_is_wiped(tmp_path):
    keyring = _made(tmp_path / "k.json")
    keyring.wrapper("data")
    (kept,) = protection._kept.values()

    protection.forget()

    assert kept == bytearray(32)


@pytest.mark.parametrize("name", ["passphrase", "with-end"])
def test_a_private_file_gives_it(tmp_path, name):
    path = tmp_path / name
    path.write_text(RIGHT.reveal() + ("\n" if name == "with-end" else ""))
    path.chmod(0o600)

    assert read_passphrase(path) == RIGHT


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "passphrase"
    path.write_text(RIGHT.reveal())
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match="0600") as caught:
        read_passphrase(path)
    assert RIGHT.reveal() not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n", b"a\nb\n", b"\xff" * 20, b"x" * 1025])
def test_a_file_without_one_line_is_refused(tmp_path, data):
    path = tmp_path / "passphrase"
    path.write_bytes(data)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError, match="one line"):
        read_passphrase(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "passphrase"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o600)

    with pytest.raises(ConfigurationError):
        read_passphrase(path)


def test_the_command_line_sets_changes_and_removes_it(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    for name, text in (("first", RIGHT), ("second", OTHER)):
        (tmp_path / name).write_text(text.reveal() + "\n")
        (tmp_path / name).chmod(0o600)

    def run(*words, passphrase="first"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        environment["AIRFLOW_HOME"] = str(home)
        path = str(tmp_path / passphrase) if passphrase else ""
        environment["AIRFLOW__SECURE_ML__KEYRING_PASSPHRASE_PATH"] = path
        return subprocess.run(
            [sys.executable, "-m", "airflow_secure_ml.cli", *words],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    first = str(tmp_path / "first")
    assert run("keys", "init", "--passphrase", "--passphrase-file", first).returncode == 0
    assert "data" in run("keys", "list").stdout
    wrong = run("keys", "list", passphrase="second")
    assert wrong.returncode == 2
    assert "does not open" in wrong.stderr
    assert run("keys", "passphrase").returncode == 2, "nobody is there to type it"
    changed = run("keys", "passphrase", "--passphrase-file", str(tmp_path / "second"))
    assert changed.returncode == 0, changed.stderr
    assert "data" in run("keys", "list", passphrase="second").stdout
    assert run("keys", "passphrase", "--remove", passphrase="second").returncode == 0
    demanded = run("keys", "list", passphrase="second")
    assert demanded.returncode == 2
    assert "keyring_passphrase_path is set" in demanded.stderr
    assert "data" in run("keys", "list", passphrase="").stdout
    shown = changed.stdout + changed.stderr + wrong.stderr
    assert RIGHT.reveal() not in shown
    assert OTHER.reveal() not in shown


_KILL = """
import os, signal, sys
from pathlib import Path
from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.core.secret import Secret
path, step, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
old, new = (Secret(word) if word else None for word in sys.stdin.read().split("\\n"))
real = getattr(os, step)

def strike(*args, **kwargs):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(os, step, strike)
LocalKeyring(path, passphrase=lambda: old).change_passphrase(new)
"""
_CHANGES = {"set": (None, RIGHT), "change": (RIGHT, OTHER), "remove": (RIGHT, None)}
_STEPS = ["write", "rename", "pwrite"]


@pytest.mark.parametrize("step", _STEPS)
@pytest.mark.parametrize(("old", "new"), _CHANGES.values(), ids=_CHANGES)
def test_a_change_killed_in_the_middle_leaves_a_keyring_under_the_old_or_the_new_one(
    tmp_path, old, new, step
):
    folder = tmp_path / "keys"
    keyring = LocalKeyring(folder / "k.json", passphrase=Person())
    keyring.init(passphrase=old)
    body = keyring.wrapper("data").wrap(bytes(32), b"c" * 32)
    words = "\n".join(each.reveal() if each else "" for each in (old, new))

    killed = subprocess.run(
        [sys.executable, "-c", _KILL, str(keyring.path), step, "1"],
        input=words,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert killed.returncode == -9, killed.stderr
    protection.forget()
    stands = new if step == "pwrite" else old
    person = Person(stands)
    found = LocalKeyring(keyring.path, passphrase=person)
    assert found.has_passphrase == (stands is not None)
    assert found.unwrappers(["data"])[0].unwrap(body, b"c" * 32) == bytes(32)
    assert person.asked == (stands is not None)
    found.rotate("data")
    assert sorted(os.listdir(folder)) == ["k.json", "k.json.lock"]
