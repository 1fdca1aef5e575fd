"""Attacks of somebody who may write into the data folders, on where and how files are written."""

from __future__ import annotations

import os

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.adapters.scratch.shredding import shred_tree
from airflow_secure_ml.errors import ConfigurationError, IntegrityError, SecureMLError
from airflow_secure_ml.services.plain import copy_plain

STORE = LocalObjects()


@pytest.fixture
def folder(tmp_path):
    for name in ("data", "dags"):
        (tmp_path / name).mkdir()
    return tmp_path


def swap(folder):
    """Put a link to another folder in the place of the one that is being written to."""
    (folder / "data").rename(folder / "old")
    (folder / "data").symlink_to(folder / "dags")


def test_a_folder_swapped_for_a_link_redirects_no_file(folder):
    with STORE.create(STORE.canonical(str(folder / "data/model.py"))) as writer:
        writer.write_at(0, b"code")
        swap(folder)
        with pytest.raises(SecureMLError):
            writer.commit(replace=True)

    assert list((folder / "dags").iterdir()) == []
    assert list((folder / "old").iterdir()) == []


def test_a_folder_swapped_for_a_link_redirects_no_replacement(folder):
    uri = STORE.canonical(str(folder / "data/model.py"))
    (folder / "data/model.py").write_bytes(b"mine")
    (folder / "dags/model.py").write_bytes(b"theirs")
    with STORE.create(uri) as writer:
        writer.write_at(0, b"code")
        swap(folder)
        with pytest.raises(SecureMLError):
            writer.commit(replace=True)

    assert (folder / "dags/model.py").read_bytes() == b"theirs"


def test_a_folder_swapped_for_a_link_redirects_no_directory(folder):
    with STORE.create_directory(STORE.canonical(str(folder / "data/set"))) as writer:
        with writer.create("a.txt") as one:
            one.write_at(0, b"x")
            one.commit(replace=False)
        swap(folder)
        with pytest.raises(SecureMLError):
            writer.commit(replace=True)

    assert list((folder / "dags").iterdir()) == []


def test_a_folder_swapped_for_a_link_gets_no_file_of_a_directory(folder):
    with STORE.create_directory(STORE.canonical(str(folder / "data/set"))) as writer:
        (aside,) = (folder / "data").iterdir()
        swap(folder)
        (folder / "dags" / aside.name).mkdir()
        with writer.create("a.txt") as one:
            one.write_at(0, b"x")
            one.commit(replace=False)

        assert list((folder / "dags" / aside.name).iterdir()) == []


def test_a_deep_tree_planted_aside_does_not_stop_publishing(folder):
    made = os.open(folder / "data", os.O_RDONLY)
    for name in (".a.0123456789abcdef.aside", *["d"] * 1500):
        os.mkdir(name, dir_fd=made)
        made, above = os.open(name, os.O_RDONLY, dir_fd=made), made
        os.close(above)
    os.close(made)

    with STORE.create(STORE.canonical(str(folder / "data/x"))) as writer:
        writer.commit(replace=False)
    # pytest could not remove it either.
    shred_tree(folder / "data/.a.0123456789abcdef.aside", deadline_s=10)

    assert (folder / "data/x").exists()


def test_what_another_user_planted_aside_does_not_stop_publishing(folder):
    planted = folder / "data/.a.0123456789abcdef.aside"
    planted.mkdir()
    if os.geteuid() == 0:
        os.chown(planted, 12345, 12345)
    else:
        (planted / "x").mkdir()
        planted.chmod(0o500)

    with STORE.create(STORE.canonical(str(folder / "data/x"))) as writer:
        writer.commit(replace=False)
    planted.chmod(0o700)

    assert (folder / "data/x").exists()


def test_a_file_that_grows_while_it_is_read_fills_no_scratch(folder):
    path = folder / "data/grows"
    path.write_bytes(b"x")

    class Endless:
        written = 0

        def write_at(self, offset, data):
            self.written = offset + len(data)
            with path.open("ab") as file:
                file.write(b"x" * 1024)
            assert self.written < 10_000, "it would never end"

    with (
        STORE.open(STORE.canonical(str(path))) as pinned,
        pytest.raises(IntegrityError, match="changed"),
    ):
        copy_plain(pinned, Endless(), "")


@pytest.mark.parametrize("address", ["/data/\ud800", "file:///data/\ud800"])
def test_an_address_that_is_no_text_is_refused_as_one(address):
    with pytest.raises(ConfigurationError):
        STORE.canonical(address)
