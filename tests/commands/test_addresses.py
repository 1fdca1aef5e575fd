"""Every command that takes an address takes any store's, and crosses from one to another."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml import deployment as deployments
from airflow_secure_ml import recording
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.cli import main
from airflow_secure_ml.settings import load_settings
from airflow_secure_ml.testing.memory_deployment import MemoryDeployment

FILES = {"a.csv": b"alice", "deep/b 1.csv": b"bob" * 1000}


class Mixed(MemoryDeployment):
    """Local files where they are, and buckets in memory."""

    def store(self, uri):
        is_local = "://" not in uri or uri.startswith("file://")
        return LocalObjects() if is_local else self.objects


class Shell:
    def __init__(self, capsys, path, made):
        self._capsys, self.path, self.made = capsys, path, made

    def done(self, *words):
        status = main([*map(str, words), "--json"])
        said = self._capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    def refused(self, status, *words):
        assert main([*map(str, words), "--json"]) == status
        return json.loads(self._capsys.readouterr().err)


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Mixed(load_settings())
    deployments.use_deployment(made)
    for name, data in FILES.items():
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).write_bytes(data)
    yield Shell(capsys, tmp_path, made)
    recording.close_sink()
    deployments.use_deployment(None)


def test_a_file_goes_to_a_bucket_and_back(shell):
    sealed = shell.done("seal", "plain/a.csv", "s3://conn@lake/a.sealed")

    assert sealed["context"] == {"object": "s3://lake/a.sealed"}
    assert b"alice" not in shell.made.objects.objects["s3://lake/a.sealed"]
    shell.done("open", "s3://lake/a.sealed", "back", "--context", "object=s3://lake/a.sealed")
    assert (shell.path / "back").read_bytes() == b"alice"


def test_a_bucket_is_not_overwritten_unasked(shell):
    shell.done("seal", "plain/a.csv", "s3://lake/a")

    assert shell.refused(1, "seal", "plain/a.csv", "s3://lake/a")["why"] == "address_taken"
    shell.done("seal", "plain/a.csv", "s3://lake/a", "--replace")


def test_what_is_in_a_bucket_is_inspected_signed_verified_rewrapped_and_counted(shell):
    shell.done("seal", "plain/a.csv", "s3://lake/set/a")
    shell.made.memory_keys.rotate("data")

    assert shell.done("inspect", "s3://lake/set/a")["plaintext_bytes"] == 5
    assert shell.done("inspect", "s3://lake/set")["sealed"] == 1
    shell.done("sign", "s3://lake/set/a")
    shell.done("rewrap", "s3://lake/set/a", "--key", "data")
    assert shell.done("verify", "s3://lake/set/a")["signers"] == ["pipeline/1"]
    usage = shell.done("keys", "usage", "data", "s3://lake/set")
    assert [each["files"] for each in usage["versions"]] == [0, 1]
    shell.made.memory_keys.rotate("data")
    assert shell.done("rewrap", "--recursive", "s3://lake/set", "--key", "data")["rewrapped"] == 1


def test_a_folder_goes_to_a_bucket_and_back(shell):
    sealed = shell.done("seal", "--recursive", "plain", "s3://lake/set")

    assert sealed["object"] == "s3://lake/set"
    shell.done("verify", "s3://lake/set")
    back = shell.done("open", "--recursive", "s3://lake/set", "back")
    assert back["done"] == 2
    for name, data in FILES.items():
        assert (shell.path / "back" / name).read_bytes() == data
    assert shell.done("seal", "--recursive", "plain", "s3://lake/set")["skipped"] == 2


def test_a_folder_goes_from_a_bucket_to_files_and_to_another_bucket(shell):
    for name, data in FILES.items():
        shell.made.objects.put(shell.made.objects.child("s3://raw/in", name), data)

    shell.done("seal", "--recursive", "s3://raw/in", "sealed")
    shell.done("open", "--recursive", "sealed", "s3://out/plain")

    found = {
        name.removeprefix("s3://out/plain/"): data
        for name, data in shell.made.objects.objects.items()
        if name.startswith("s3://out/")
    }
    assert found == {"a.csv": FILES["a.csv"], "deep/b%201.csv": FILES["deep/b 1.csv"]}


def test_a_folder_in_a_bucket_is_opened_at_once(shell):
    shell.done("seal", "--recursive", "plain", "s3://lake/set")

    shell.done("open", "s3://lake/set", "back", "--context", "object=s3://lake/set")

    assert (shell.path / "back/a.csv").read_bytes() == b"alice"


@pytest.mark.parametrize("depth", ["", "/deep"])
def test_a_file_of_a_data_set_finds_its_key_above_it(shell, depth):
    shell.done("seal", "--recursive", "plain", f"s3://lake{depth}/set")
    address = shell.made.objects.child(f"s3://lake{depth}/set", "deep/b 1.csv")

    shell.done("open", address, "one", "--context", f"object={address}")

    assert (shell.path / "one").read_bytes() == FILES["deep/b 1.csv"]


def test_a_file_at_a_buckets_top_has_no_data_set_above_it(shell):
    shell.done("seal", "plain/a.csv", "s3://lake/a")

    shell.done("open", "s3://lake/a", "one", "--any-context")
