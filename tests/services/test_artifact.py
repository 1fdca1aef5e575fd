from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.services.artifact import pin_artifact

STORE = LocalObjects()


def _read(artifact, name):
    with artifact.open(name) as pinned:
        return pinned.read_at(0, 99)


def test_a_file_is_read_again_and_again_as_it_was_pinned(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    with pin_artifact(STORE, STORE.canonical(str(path))) as artifact:
        assert (artifact.is_directory, list(artifact.names())) == (False, [""])
        path.unlink()
        path.write_bytes(b"new")
        assert [_read(artifact, ""), _read(artifact, "")] == [b"old", b"old"]
    with pytest.raises(ValueError, match="let go"):
        _read(artifact, "")


def test_a_directorys_file_is_refused_once_another_lies_there(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"old")

    with pin_artifact(STORE, STORE.canonical(str(tmp_path))) as artifact:
        assert (artifact.is_directory, list(artifact.names())) == (True, ["a", "b"])
        (tmp_path / "a").write_bytes(b"newer")
        with pytest.raises(IntegrityError):
            artifact.open("a")
        assert _read(artifact, "b") == b"old"


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        pin_artifact(STORE, STORE.canonical(str(tmp_path / "none")))
