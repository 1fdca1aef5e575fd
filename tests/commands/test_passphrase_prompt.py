"""A passphrase typed at a terminal: a real one, with a person's answers."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring, protection
from airflow_secure_ml.core.secret import Secret

TYPED = "correct horse battery staple"


def _at_a_terminal(home, words, answers):
    """Run a command on a terminal of its own, type each answer when it asks; status and screen."""
    child, terminal = pty.fork()
    if child == 0:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        environment["AIRFLOW_HOME"] = str(home)
        os.execve(
            sys.executable, [sys.executable, "-m", "airflow_secure_ml.cli", *words], environment
        )
    screen, left, deadline = b"", list(answers), time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        screen += data
        if left and left[0][0] in screen.rpartition(b"\n")[2]:
            os.write(terminal, left.pop(0)[1].encode("utf-8", "surrogateescape") + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), screen.decode()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_person_types_it_and_it_shows_nowhere(home):
    status, screen = _at_a_terminal(
        home,
        ["keys", "init", "--passphrase"],
        [(b"New passphrase", TYPED), (b"same again", TYPED)],
    )
    assert status == 0, screen
    assert TYPED not in screen

    status, screen = _at_a_terminal(home, ["keys", "list"], [(b"Passphrase", TYPED)])
    assert status == 0, screen
    assert "pipeline" in screen
    protection.forget()
    keyring = LocalKeyring(home / "secure_ml" / "keyring.json", passphrase=lambda: Secret(TYPED))
    assert keyring.has_passphrase
    assert keyring.wrapper("data").slot_id == "data/1"


def test_two_different_ones_make_nothing(home):
    status, screen = _at_a_terminal(
        home,
        ["keys", "init", "--passphrase"],
        [(b"New passphrase", TYPED), (b"same again", TYPED + "!")],
    )

    assert status == 2
    assert "two different" in screen
    assert not (home / "secure_ml" / "keyring.json").exists()


def test_a_wrong_one_is_refused(home):
    LocalKeyring(home / "secure_ml" / "keyring.json").init(passphrase=Secret(TYPED))

    status, screen = _at_a_terminal(home, ["keys", "list"], [(b"Passphrase", TYPED + "!")])

    assert status == 2
    assert "does not open this keyring" in screen
    assert TYPED not in screen


@pytest.mark.parametrize("typed", ["caf\udce9 au lait\udcff", "\x04"], ids=["no text", "end"])
def test_what_is_no_text_is_refused_and_shown_nowhere(home, typed):
    LocalKeyring(home / "secure_ml" / "keyring.json").init(passphrase=Secret(TYPED))

    status, screen = _at_a_terminal(home, ["keys", "list"], [(b"Passphrase", typed)])

    assert status == 2
    assert "expected a line of text" in screen
    assert "Traceback" not in screen
    assert "lait" not in screen
