"""One file has one address."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.adapters.local_objects.address import canonical, to_path, to_uri
from airflow_secure_ml.errors import ConfigurationError, FormatError

store = LocalObjects()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/no/such/data.csv", "file:///no/such/data.csv"),
        ("file:///no/such/data.csv", "file:///no/such/data.csv"),
        ("file://localhost/no/such/data.csv", "file:///no/such/data.csv"),
        ("/no//such/./x/../data.csv", "file:///no/such/data.csv"),
        ("/no/such/folder/", "file:///no/such/folder"),
        ("/no/such/a b%.csv", "file:///no/such/a%20b%25.csv"),
        ("file:///no/such/a%20b%25.csv", "file:///no/such/a%20b%25.csv"),
        ("file:///no/such/%61.csv", "file:///no/such/a.csv"),
        ("/no/such/run=2026-11-22T03:00:00+00:00", "file:///no/such/run=2026-11-22T03:00:00+00:00"),
        ("/no/such/größe", "file:///no/such/gr%C3%B6%C3%9Fe"),
        ("file:///no/such/a%5B1%5D%2a", "file:///no/such/a%5B1%5D%2A"),
        ("/no/such/a#b", "file:///no/such/a%23b"),
    ],
)
def test_an_address_has_one_form(address, expected):
    assert store.canonical(address) == expected
    assert store.canonical(expected) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "data.csv",
        "./data.csv",
        "../data.csv",
        "s3://bucket/key",
        "FILE:///etc/passwd",
        "file://host/etc/passwd",
        "file://",
        "file:etc",
        "/data/*.csv",
        "/data/a?.csv",
        "/data/[ab].csv",
        "file:///data/*.csv",
        "/data/a\0b",
        "file:///data/a%00b",
        "file:///data/..%2f..%2fetc",
        "file:///data/a#b",
        "file:///data/100%",
    ],
)
def test_what_is_no_local_address_is_refused(address):
    with pytest.raises(ConfigurationError):
        store.canonical(address)


def test_symlinks_are_resolved_as_far_as_the_path_exists(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert store.canonical(str(tmp_path / "link" / "new" / "x")) == to_uri(
        str(tmp_path / "real" / "new" / "x")
    )


def test_a_loop_of_symlinks_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(ConfigurationError):
        store.canonical(str(tmp_path / "a"))
    with pytest.raises(ConfigurationError):
        store.canonical(str(tmp_path / "a" / "x"))


def test_a_symlink_put_in_a_parts_place_later_is_not_followed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(b"another patient's")
    uri = store.canonical(str(tmp_path / "data" / "x"))
    (tmp_path / "data").rename(tmp_path / "gone")
    (tmp_path / "data").symlink_to("other")

    for act in (store.open, store.create, store.create_directory, store.info, store.delete):
        with pytest.raises(ConfigurationError, match="canonical"):
            act(uri)
    assert (tmp_path / "other" / "x").read_bytes() == b"another patient's"


@pytest.mark.parametrize("relative", ["", "/etc/passwd", "../x", "a/../x", "a//x", "./x", "a\0"])
def test_a_child_stays_below_its_directory(tmp_path, relative):
    with pytest.raises(FormatError):
        store.child(store.canonical(str(tmp_path)), relative)


def test_a_child_that_is_a_symlink_out_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").symlink_to("/etc/passwd")

    with pytest.raises(FormatError, match="out of the directory"):
        store.child(store.canonical(str(tmp_path / "d")), "x")


def test_a_child_with_a_space_is_encoded(tmp_path):
    assert store.child(store.canonical(str(tmp_path)), "a b/c%") == to_uri(str(tmp_path / "a b/c%"))


_SEGMENT = st.binary(min_size=1, max_size=20).filter(
    lambda raw: b"\0" not in raw and b"/" not in raw and raw not in (b".", b"..")
)


@given(st.lists(_SEGMENT, min_size=1, max_size=4))
def test_any_name_has_an_address_and_comes_back(parts):
    path = os.fsdecode(b"/no-such-root/" + b"/".join(parts))

    assert to_path(to_uri(path)) == path
    assert canonical(to_uri(path)) == to_uri(path)
