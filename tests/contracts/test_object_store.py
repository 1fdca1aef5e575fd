"""What every ObjectStore does."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_secure_ml.errors import ConfigurationError, FormatError, IntegrityError, PolicyError


@pytest.fixture
def root(store, base):
    return store.canonical(f"{base}/root")


@pytest.fixture
def put(store):
    def put(uri, data, *, replace=False):
        with store.create(uri) as writer:
            writer.write_at(0, data)
            return writer.commit(replace=replace)

    return put


def _get(store, uri):
    with store.open(uri) as pinned:
        return pinned.read_at(0, pinned.size_bytes)


def test_what_was_committed_is_read(store, root, put):
    uri = store.child(root, "a b/ü%.csv")
    version = put(uri, b"0123456789")

    with store.open(uri) as pinned:
        buffer = bytearray(4)
        assert (pinned.uri, pinned.size_bytes, pinned.version) == (uri, 10, version)
        assert pinned.read_at(8, 100) == b"89"
        assert pinned.read_at(10, 5) == b""
        assert pinned.read_at(99, 5) == b""
        assert pinned.readinto_at(3, buffer) == 4
        assert pinned.readinto_at(8, memoryview(buffer)) == 2
        pinned.check_unchanged()
    assert bytes(buffer) == b"8956"


def test_an_empty_object_is_an_object(store, root):
    uri = store.child(root, "empty")
    with store.create(uri) as writer:
        writer.commit(replace=False)

    assert store.info(uri).size_bytes == 0
    assert _get(store, uri) == b""


def test_parts_may_be_written_in_any_order(store, root):
    uri = store.child(root, "x")
    with store.create(uri) as writer:
        writer.write_at(6, bytearray(b"world"))
        writer.write_at(0, memoryview(b"hello "))
        writer.commit(replace=False)

    assert _get(store, uri) == b"hello world"


def test_nothing_is_there_before_the_commit_and_nothing_after_an_abort(store, root):
    uri = store.child(root, "x")
    with store.create(uri) as writer:
        writer.write_at(0, b"x")
        assert store.info(uri) is None
    writer.abort()

    assert store.info(uri) is None
    with pytest.raises(FileNotFoundError):
        store.open(uri)


def test_an_exception_in_the_block_leaves_nothing(store, root):
    uri = store.child(root, "x")
    with contextlib.suppress(KeyError), store.create(uri) as writer:
        writer.write_at(0, b"x")
        raise KeyError

    assert store.info(uri) is None


def test_a_writer_ends_with_its_commit(store, root):
    with store.create(store.child(root, "x")) as writer:
        writer.commit(replace=False)

        with pytest.raises(ValueError, match="after commit"):
            writer.write_at(0, b"x")
        with pytest.raises(ValueError, match="after commit"):
            writer.commit(replace=True)


def test_nothing_is_overwritten_unasked(store, root, put):
    uri = store.child(root, "x")
    put(uri, b"old")

    with pytest.raises(PolicyError) as caught:
        put(uri, b"new")

    assert caught.value.why == "address_taken"
    assert _get(store, uri) == b"old"


def test_a_replaced_object_has_another_version(store, root, put):
    uri = store.child(root, "x")
    first = put(uri, b"old")

    assert put(uri, b"new", replace=True) != first
    assert _get(store, uri) == b"new"


def test_a_reader_keeps_the_version_it_pinned(store, root, put):
    uri = store.child(root, "x")
    put(uri, b"old")
    with store.open(uri) as pinned:
        put(uri, b"newer", replace=True)

        assert pinned.read_at(0, 99) == b"old"
        pinned.check_unchanged()


@pytest.mark.parametrize("there", ["another", "nothing"])
def test_a_conditional_replace_needs_that_very_version(store, root, put, there):
    uri = store.child(root, "x")
    version = put(uri, b"old")
    if there == "another":
        put(uri, b"other", replace=True)
    else:
        store.delete(uri)

    with store.create(uri) as writer:
        writer.write_at(0, b"mine")
        with pytest.raises(IntegrityError):
            writer.commit(replace=True, if_version=version)

    assert store.info(uri) is None if there == "nothing" else _get(store, uri) == b"other"


def test_a_conditional_replace_of_that_very_version_goes_through(store, root, put):
    uri = store.child(root, "x")
    version = put(uri, b"old")

    with store.create(uri) as writer:
        writer.write_at(0, b"mine")
        writer.commit(replace=True, if_version=version)

    assert _get(store, uri) == b"mine"


def test_a_directory_appears_whole(store, root):
    uri = store.child(root, "d")
    with store.create_directory(uri) as builder:
        for name in ("b/c d.csv", "a.csv", "_asml/k.asmk"):
            with builder.create(name) as writer:
                writer.write_at(0, name.encode())
                writer.commit(replace=False)
        assert store.info(uri) is None
        builder.commit(replace=False)

    assert store.info(uri).is_directory
    assert list(store.walk(uri)) == ["a.csv", "b/c d.csv"]
    assert _get(store, store.child(uri, "b/c d.csv")) == b"b/c d.csv"
    assert _get(store, store.child(uri, "_asml/k.asmk")) == b"_asml/k.asmk"


def test_a_file_of_a_directory_may_be_written_again_before_it_appears(store, root):
    uri = store.child(root, "d")
    with store.create_directory(uri) as builder:
        for data in (b"old", b"new"):
            with builder.create("a") as writer:
                writer.write_at(0, data)
                writer.commit(replace=True)
        with builder.create("a") as writer, pytest.raises(PolicyError):
            writer.commit(replace=False)
        builder.commit(replace=False)

    assert _get(store, store.child(uri, "a")) == b"new"


def test_a_file_of_a_directory_that_was_not_committed_is_not_part_of_it(store, root):
    uri = store.child(root, "d")
    with store.create_directory(uri) as builder:
        with builder.create("a") as writer:
            writer.write_at(0, b"x")
        builder.commit(replace=False)

    assert list(store.walk(uri)) == []


def test_a_directory_is_replaced_whole_or_not_at_all(store, root, put):
    uri = store.child(root, "d")
    put(store.child(uri, "old"), b"old")
    with store.create_directory(uri) as builder:
        with pytest.raises(PolicyError) as caught:
            builder.commit(replace=False)
        assert caught.value.why == "address_taken"
    assert list(store.walk(uri)) == ["old"]

    with store.create_directory(uri) as builder:
        with builder.create("new") as writer:
            writer.commit(replace=False)
        builder.commit(replace=True)

    assert list(store.walk(uri)) == ["new"]


def test_an_aborted_directory_leaves_nothing(store, root):
    uri = store.child(root, "d")
    with store.create_directory(uri) as builder, builder.create("a") as writer:
        writer.commit(replace=False)
    builder.abort()

    assert store.info(uri) is None


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "", ".", "a/./b", "a\0b"])
def test_names_stay_inside_their_directory(store, root, name):
    with store.create_directory(store.child(root, "d")) as builder, pytest.raises(FormatError):
        builder.create(name)
    with pytest.raises(FormatError):
        store.child(root, name)


def test_two_names_that_differ_only_in_case_are_refused(store, root):
    with store.create_directory(store.child(root, "d")) as builder:
        with builder.create("Data.csv") as writer:
            writer.commit(replace=False)

        with pytest.raises(FormatError, match="only in case"):
            builder.create("data.csv").commit(replace=False)


def test_a_file_does_not_take_a_directorys_place(store, root, put):
    uri = store.child(root, "d")
    put(store.child(uri, "x"), b"x")

    with pytest.raises(PolicyError):
        put(uri, b"file", replace=True)

    assert list(store.walk(uri)) == ["x"]


def test_a_directory_is_no_object(store, root, put):
    put(store.child(root, "x"), b"x")

    with pytest.raises(FormatError):
        store.open(root)


def test_walking_needs_a_directory(store, root, put):
    with pytest.raises(FileNotFoundError):
        store.walk(root)
    put(root, b"x")
    with pytest.raises(FormatError):
        store.walk(root)


def test_deleting_removes_all_below_and_nothing_there_is_no_error(store, root, put):
    put(store.child(root, "a/x"), b"x")
    put(store.child(root, "ab"), b"x")

    store.delete(store.child(root, "a"))
    store.delete(store.child(root, "a"))
    assert list(store.walk(root)) == ["ab"]

    store.delete(store.child(root, "ab"))
    assert store.info(store.child(root, "ab")) is None


@pytest.mark.parametrize("address", ["x.csv", "gs://bucket/x", "/a\0b", ""])
def test_an_address_that_is_none_is_refused(store, address):
    with pytest.raises(ConfigurationError):
        store.canonical(address)


def test_a_canonical_address_stays_as_it_is(store, base):
    uri = store.canonical(f"{base}/a b%/")

    expected = f"{base}/a b%" if base.startswith("s3:") else f"file://{base}/a%20b%25"
    assert uri == expected
    assert store.canonical(uri) == uri


def test_a_pinned_directory_has_its_names_and_their_bytes(store, root, put):
    for name in ("b/c d.csv", "a.csv", "_asml/k.asmk"):
        put(store.child(root, name), name.encode())

    with store.open_directory(root) as directory:
        assert directory.uri == root
        assert list(directory.names()) == ["a.csv", "b/c d.csv"]
        assert directory.size_of("b/c d.csv") == 9
        with directory.open("b/c d.csv") as pinned:
            assert pinned.uri == store.child(root, "b/c d.csv")
            assert pinned.read_at(0, 99) == b"b/c d.csv"


@pytest.mark.parametrize("name", ["none", "_asml/k.asmk", "../out", "a.csv/"])
def test_a_pinned_directory_opens_only_what_it_lists(store, root, put, name):
    put(store.child(root, "d/a.csv"), b"x")
    put(store.child(root, "d/_asml/k.asmk"), b"x")
    put(store.child(root, "out"), b"x")

    with store.open_directory(store.child(root, "d")) as directory:
        with pytest.raises(FormatError):
            directory.open(name)
        with pytest.raises(FormatError):
            directory.size_of(name)


def test_pinning_a_directory_needs_one(store, root, put):
    with pytest.raises(FileNotFoundError):
        store.open_directory(root)
    put(root, b"x")
    with pytest.raises(FormatError):
        store.open_directory(root)


@pytest.mark.parametrize("change", ["replaced", "added to", "taken from", "exchanged"])
def test_a_pinned_directory_never_gives_what_came_later(store, root, put, change):
    uri = store.child(root, "d")
    for name in ("a", "b"):
        put(store.child(uri, name), b"old")

    with store.open_directory(uri) as directory:
        if change == "replaced":
            put(store.child(uri, "a"), b"newer", replace=True)
        elif change == "added to":
            put(store.child(uri, "c"), b"newer")
        elif change == "taken from":
            store.delete(store.child(uri, "a"))
        else:
            with store.create_directory(uri) as builder:
                with builder.create("a") as writer:
                    writer.write_at(0, b"newer")
                    writer.commit(replace=False)
                builder.commit(replace=True)

        assert list(directory.names()) == ["a", "b"]
        assert directory.size_of("a") == 3
        try:
            with directory.open("a") as pinned:
                found = pinned.read_at(0, 99)
        except (FileNotFoundError, IntegrityError):
            found = b"old"
        assert found == b"old"


def test_files_of_a_directory_may_be_written_at_once(store, root):
    uri = store.child(root, "d")
    names = [f"{number % 3}/{number:02}" for number in range(24)]

    with store.create_directory(uri) as builder:

        def write(name):
            with builder.create(name) as writer:
                writer.write_at(0, name.encode())
                writer.commit(replace=False)

        with ThreadPoolExecutor(max(4, builder.files_at_once)) as pool:
            list(pool.map(write, names))
        builder.commit(replace=False)

    with store.open_directory(uri) as directory:
        assert list(directory.names()) == sorted(names)
        for name in names:
            with directory.open(name) as pinned:
                assert pinned.read_at(0, 99) == name.encode()


def test_a_destroyed_object_is_gone(store, root, put):
    uri = store.child(root, "x")
    put(uri, b"old")
    put(store.child(root, "y"), b"beside it")

    assert store.destroy(uri) >= 1

    assert store.info(uri) is None
    assert store.destroy(uri) == 0
    assert _get(store, store.child(root, "y")) == b"beside it"


def test_what_was_removed_is_told_while_its_versions_are_kept_and_not_after(store, root, put):
    uri = store.child(root, "x")
    put(uri, b"old")
    put(store.child(root, "y"), b"beside it")
    assert list(store.walk_removed(root)) == []

    store.delete(uri)

    # Of the three only a bucket with versioning still has it.
    kept = ["x"] if root.startswith("s3:") else []
    assert list(store.walk_removed(root)) == kept
    assert store.destroy(uri) == len(kept)
    assert list(store.walk_removed(root)) == []
