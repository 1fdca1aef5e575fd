"""A leased credential in the hands of a body: its fields, its files, and its end."""

from __future__ import annotations

import copy
import os
import pickle
import resource
import signal
import threading

import pytest

from airflow_secure_ml.core.lease import Granted
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.services.credential import Credential

PASSWORD = "pass\r\nword-1"


@pytest.fixture
def make(tmp_path):
    def make(**fields):
        def folder():
            path = tmp_path / "credential"
            path.mkdir(mode=0o700)
            return path

        granted = Granted(fields={name: Secret(text) for name, text in fields.items()})
        return Credential("warehouse", granted, None, folder)

    return make


def test_a_file_holds_a_field_as_it_is_and_for_its_owner_alone(make):
    credential = make(password=PASSWORD)

    path = credential.file("password")

    assert path.read_bytes() == PASSWORD.encode()
    assert path.stat().st_mode & 0o777 == 0o600
    assert credential.file("password") == path


def test_many_threads_get_one_whole_file(make):
    credential, found = make(password="x" * 60_000), []
    start = threading.Barrier(16)

    def read():
        start.wait()
        found.append(credential.file("password").read_text())

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == ["x" * 60_000] * 16


def test_a_file_that_could_not_be_written_whole_is_none(make):
    credential = make(password="x" * 60_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    try:
        with pytest.raises(OSError, match="too large"):
            credential.file("password")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert credential.file("password").read_text() == "x" * 60_000


def test_a_field_that_is_not_there_is_named_with_those_that_are(make):
    with pytest.raises(ConfigurationError, match="no field 'password', only key, url"):
        _ = make(key="key-1", url="https://x").password


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_credential_is_carried_nowhere(make, carry):
    with pytest.raises(TypeError, match="cannot be pickled"):
        carry(make(password=PASSWORD))


def test_an_ended_credential_makes_no_files_and_tells_no_field(make, tmp_path):
    credential = make(password=PASSWORD)

    credential.end()

    for ask in (
        lambda: credential["password"],
        lambda: credential.file("password"),
        credential.folder,
    ):
        with pytest.raises(PolicyError, match="has ended"):
            ask()
    assert PASSWORD not in repr(credential) + str(dict.fromkeys(credential))
    assert os.listdir(tmp_path) == []
