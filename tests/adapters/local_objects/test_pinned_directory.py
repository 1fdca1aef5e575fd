from __future__ import annotations

import os

import pytest

from airflow_secure_ml.errors import ConfigurationError, FormatError, IntegrityError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for name in ("d/a", "d/sub/b", "out/b"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "d"


@pytest.fixture
def directory(store, folder):
    with store.open_directory(store.canonical(str(folder))) as directory:
        yield directory


def _read(directory, name):
    with directory.open(name) as pinned:
        return pinned.read_at(0, 99)


def test_a_directory_moved_aside_stays_readable(directory, folder):
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    (folder / "a").write_bytes(b"new")

    assert _read(directory, "a") == b"d/a"


def test_a_removed_directory_is_gone_for_its_reader(directory, folder, store):
    store.delete(store.canonical(str(folder)))
    folder.mkdir()
    (folder / "a").write_bytes(b"d/a")

    with pytest.raises(FileNotFoundError):
        directory.open("a")


def test_a_file_put_in_a_listed_ones_place_is_refused(directory, folder):
    (folder / "new").write_bytes(b"d/a")
    (folder / "new").rename(folder / "a")

    with pytest.raises(IntegrityError, match="found another"):
        directory.open("a")


def test_a_file_written_over_since_it_was_listed_is_refused(directory, folder):
    (folder / "a").write_bytes(b"d/A!")

    with pytest.raises(IntegrityError, match="found another"):
        directory.open("a")


def test_a_folder_that_became_a_link_leads_nowhere_else(directory, folder):
    (folder / "sub").rename(folder.with_name("was"))
    (folder / "sub").symlink_to("../was")

    with pytest.raises(ConfigurationError, match="leads to"):
        directory.open("sub/b")


def test_a_file_that_became_a_link_out_is_refused(directory, folder):
    (folder / "a").unlink()
    (folder / "a").symlink_to("../out/b")

    with pytest.raises(FormatError, match="leads out"):
        directory.open("a")


def test_a_file_that_became_a_fifo_is_not_opened(directory, folder):
    (folder / "a").unlink()
    os.mkfifo(folder / "a")

    with pytest.raises(FormatError, match="FIFO"):
        directory.open("a")


def test_a_link_that_stays_inside_is_read_as_what_it_leads_to(store, folder):
    (folder / "link").symlink_to("sub/b")

    with store.open_directory(store.canonical(str(folder))) as directory:
        assert list(directory.names()) == ["a", "link", "sub/b"]
        assert _read(directory, "link") == b"d/sub/b"
        assert directory.size_of("link") == 7


def test_a_name_that_ends_as_the_kernel_marks_removed_ones_is_read(store, folder):
    (folder / "x (deleted)").write_bytes(b"here")

    with store.open_directory(store.canonical(str(folder))) as directory:
        assert _read(directory, "x (deleted)") == b"here"


def test_descriptors_are_let_go(store, folder):
    before = len(os.listdir("/proc/self/fd"))

    with store.open_directory(store.canonical(str(folder))) as directory:
        _read(directory, "a")
        with pytest.raises(FormatError):
            directory.open("none")
    (folder / "bad").symlink_to("/etc/passwd")
    with pytest.raises(FormatError):
        store.open_directory(store.canonical(str(folder)))

    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="let go"):
        directory.open("a")
