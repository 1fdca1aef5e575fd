"""Whole files that outlast a power loss: what stands at their place when the writing fails."""

from __future__ import annotations

import os

import pytest

from airflow_secure_ml.durable_files import whole_file


def test_a_written_file_is_for_its_user_alone(tmp_path):
    with whole_file(tmp_path / "x", tmp_path / "aside") as file:
        file.write(b"new")

    assert (tmp_path / "x").read_bytes() == b"new"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x"]


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    def fail():
        with whole_file(tmp_path / "x", tmp_path / "aside") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_new_file_replaces_nothing(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    with (
        pytest.raises(FileExistsError),
        whole_file(tmp_path / "x", tmp_path / "aside", is_new=True) as file,
    ):
        file.write(b"new")

    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_link_put_aside_leads_nowhere(tmp_path):
    (tmp_path / "victim").write_bytes(b"kept")
    (tmp_path / "aside").symlink_to(tmp_path / "victim")

    with whole_file(tmp_path / "x", tmp_path / "aside") as file:
        file.write(b"new")

    assert (tmp_path / "victim").read_bytes() == b"kept"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_the_name_is_made_durable_after_the_bytes(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, _told(getattr(os, name), steps))

    with whole_file(tmp_path / "x", tmp_path / "aside") as file:
        file.write(b"new")

    assert steps == ["fsync", "rename", "fsync"]


def _told(real, steps):
    def call(*args):
        steps.append(real.__name__)
        return real(*args)

    return call
