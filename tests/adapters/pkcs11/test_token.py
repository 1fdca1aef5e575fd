"""A token in a process: threads, forks, PINs that are wrong, tokens that are not there."""

from __future__ import annotations

import inspect
import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import pkcs11
import pkcs11.exceptions
import pytest

from airflow_secure_ml.adapters.pkcs11 import token as token_module
from airflow_secure_ml.adapters.pkcs11.failures import LAST_TRY, PIN_LOCKED, PIN_REFUSED, failure_of
from airflow_secure_ml.adapters.pkcs11.pin_file import read_pin
from airflow_secure_ml.adapters.pkcs11.token import Token
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

FILE_KEY, CORE_ID = bytes(range(32)), b"c" * 32
ROOT = Path(__file__).parents[3]


@pytest.fixture
def wrapper(softhsm):
    keys = softhsm.place().keys()
    keys.create("data", "wrap")
    return keys.wrapper("data")


def in_child(act):
    """What a forked child made of it: its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if act() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_many_threads_wrap_and_unwrap_at_once(wrapper):
    failed = []

    def work():
        for _ in range(20):
            core_id = secrets.token_bytes(32)
            if wrapper.unwrap(wrapper.wrap(FILE_KEY, core_id), core_id) != FILE_KEY:
                failed.append(core_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []


def test_a_forked_child_and_its_child_go_on_and_so_does_the_parent(wrapper):
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    def opens():
        return wrapper.unwrap(body, CORE_ID) == FILE_KEY

    assert in_child(lambda: opens() and in_child(opens) == 0 and opens()) == 0
    assert opens()


def test_a_fork_waits_for_what_another_thread_asks_the_token(wrapper):
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            wrapper.wrap(FILE_KEY, CORE_ID)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = [in_child(lambda: wrapper.unwrap(body, CORE_ID) == FILE_KEY) for _ in range(10)]
    finally:
        stop.set()
        thread.join()

    assert found == [0] * 10


# python-pkcs11 ends a search in the session that is gone, when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_ended_is_opened_again(softhsm, wrapper):
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    session = token_module._sessions[str(softhsm.module), "team"]
    session.close()

    assert wrapper.unwrap(body, CORE_ID) == FILE_KEY


def pin_file(tmp_path, text, mode=0o600):
    path = tmp_path / "pin"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_wrong_pin_is_tried_once_until_its_file_changes(softhsm, tmp_path, monkeypatch):
    path = pin_file(tmp_path, "0000-wrong\n")
    token = softhsm.token("spare", path)
    with pytest.raises(ServiceRefusedError, match="pkcs11_pin_path changes") as first:
        token.use("look", lambda session: None)
    tried = []
    monkeypatch.setattr(Token, "_check_tries", lambda *given: tried.append(1))

    for _ in range(5):
        with pytest.raises(ServiceRefusedError) as caught:
            softhsm.token("spare", path).use("look", lambda session: None)
        assert caught.value.reason == PIN_REFUSED

    assert tried == []
    assert "0000-wrong" not in str(first.value) + repr(first.value.__cause__)
    pin_file(tmp_path, softhsm.pin)
    assert token.use("look", lambda session: "in") == "in"


@pytest.mark.parametrize(
    ("flag", "reason"), [("USER_PIN_FINAL_TRY", LAST_TRY), ("USER_PIN_LOCKED", PIN_LOCKED)]
)
def test_the_last_try_is_left_to_a_person(softhsm, flag, reason):
    class Warned:
        flags = getattr(pkcs11.TokenFlag, flag)

    # SoftHSM locks nothing, so what a token says of itself is given here.
    with pytest.raises(ServiceRefusedError) as caught:
        softhsm.token()._check_tries(Warned, "log in")

    assert caught.value.reason == reason


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o700])
def test_a_pin_that_others_may_read_is_not_read(tmp_path, mode):
    with pytest.raises(ConfigurationError, match="expected mode 0600") as caught:
        read_pin(pin_file(tmp_path, "canary-4711", mode))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "canary\nmore", "x" * 257, "canary\0"])
def test_what_is_no_pin_is_refused_and_not_shown(tmp_path, text):
    with pytest.raises(ConfigurationError, match="expected one line") as caught:
        read_pin(pin_file(tmp_path, text))
    assert "canary" not in str(caught.value)


def test_a_pipe_and_a_missing_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path / "nothing"):
        with pytest.raises(ConfigurationError, match="pkcs11_pin_path"):
            read_pin(path)
    with pytest.raises(ConfigurationError, match="found none"):
        read_pin(None)


def test_a_line_end_is_no_part_of_the_pin(tmp_path):
    found = read_pin(pin_file(tmp_path, "12 34\r\n"))

    assert found.secret.reveal() == "12 34"
    assert "12 34" not in repr(found)


def test_a_token_that_is_not_there_is_no_refusal(softhsm):
    with pytest.raises(ServiceUnavailableError, match="no token of that label"):
        softhsm.token("gone").use("look", lambda session: None)


def test_without_a_library_there_is_a_reason(softhsm, tmp_path):
    nothing = tmp_path / "nothing.so"
    for module in (None, nothing):
        token = Token("team", module=module, pin_path=softhsm.pin_path)
        with pytest.raises(ConfigurationError, match="pkcs11_module"):
            token.use("look", lambda session: None)


def test_a_process_of_its_own_finds_the_key(softhsm, wrapper):
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    program = f"""
from pathlib import Path
from airflow_secure_ml.adapters.pkcs11.keys import TokenKeys
from airflow_secure_ml.adapters.pkcs11.token import Token
module, pin = Path({str(softhsm.module)!r}), Path({str(softhsm.pin_path)!r})
token = Token("team", module=module, pin_path=pin)
(key,) = TokenKeys(token).unwrappers([{wrapper.slot_id.split("/")[1]!r}])
print(key.unwrap(bytes.fromhex({body.hex()!r}), {CORE_ID!r}).hex())
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | softhsm.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout.strip(), done.stderr) == (FILE_KEY.hex(), "")


def vendor_errors():
    return [
        cls
        for _, cls in inspect.getmembers(pkcs11.exceptions, inspect.isclass)
        if issubclass(cls, pkcs11.PKCS11Error)
    ]


@pytest.mark.parametrize("cls", vendor_errors(), ids=lambda cls: cls.__name__)
def test_every_exception_of_the_library_has_a_home(softhsm, cls):
    def fail(session):
        raise cls("canary-4711")

    with pytest.raises(SecureMLError) as caught:
        softhsm.token().use("look", fail)

    assert isinstance(caught.value, (ServiceError, ConfigurationError))
    assert "canary" not in str(caught.value)


def test_most_exceptions_are_told_apart():
    reasons = {failure_of(cls()).reason for cls in vendor_errors()}

    assert len(vendor_errors()) > 60
    assert len(reasons) > 40
