"""Directory walks: the rules of SEALED_FILE_FORMAT, "directory walks"."""

from __future__ import annotations

import os
import socket

import pytest

from airflow_secure_ml.errors import FormatError


@pytest.fixture
def walk(store, tmp_path):
    return lambda: list(store.walk(store.canonical(str(tmp_path))))


def test_the_data_set_header_is_skipped_at_the_top_only(walk, tmp_path):
    for name in ("_asml", "a/_asml"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "k.asmk").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")

    assert walk() == ["a/_asml/k.asmk", "b"]


def test_a_file_named_as_the_data_set_folder_is_listed(walk, tmp_path):
    (tmp_path / "_asml").write_bytes(b"")

    assert walk() == ["_asml"]


def test_symlinks_inside_are_listed_and_symlinks_out_are_refused(walk, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").symlink_to("a")
    assert walk() == ["a", "b"]

    (tmp_path / "c").symlink_to("/etc/passwd")
    with pytest.raises(FormatError, match="'c' is a symlink that leads out"):
        walk()


@pytest.mark.parametrize("target", ["..", ".", "/", "nowhere"])
def test_symlinks_to_directories_or_nothing_are_refused(walk, tmp_path, target):
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(FormatError, match="'link' is a symlink"):
        walk()


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device"])
def test_what_is_no_file_is_refused(walk, tmp_path, kind):
    path = tmp_path / "odd"
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    elif os.geteuid() == 0:
        os.mknod(path, 0o20600, os.makedev(1, 3))
    else:
        pytest.skip("making a device needs root")

    with pytest.raises(FormatError, match=f"{kind} at 'odd'"):
        walk()


def test_names_that_differ_only_in_case_are_refused(walk, tmp_path):
    (tmp_path / "Data").write_bytes(b"")
    (tmp_path / "data").write_bytes(b"")

    with pytest.raises(FormatError, match="differ only in case"):
        walk()


def test_a_name_that_is_not_text_is_refused(walk, tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass

    with pytest.raises(FormatError, match="not UTF-8"):
        walk()


def test_a_file_is_no_directory(store, tmp_path):
    (tmp_path / "x").write_bytes(b"")

    with pytest.raises(FormatError, match="found a file"):
        store.walk(store.canonical(str(tmp_path / "x")))
