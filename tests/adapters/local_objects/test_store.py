"""What the local store does on a real file system."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import stat
import subprocess
import sys
import threading

import pytest

from airflow_secure_ml.adapters.local_objects import aside, writers
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    ServiceUnavailableError,
)


def test_a_file_is_private_and_nothing_lies_beside_it(store, put, tmp_path):
    put(store.canonical(str(tmp_path / "x")), b"data")

    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_before_the_commit_no_name_leads_to_the_bytes(store, tmp_path):
    with store.create(store.canonical(str(tmp_path / "x"))) as writer:
        writer.write_at(0, b"data")

        assert os.listdir(tmp_path) == []


def test_replacing_keeps_the_mode(store, put, tmp_path):
    uri = store.canonical(str(tmp_path / "x"))
    put(uri, b"old")
    (tmp_path / "x").chmod(0o640)

    put(uri, b"new", replace=True)

    assert (tmp_path / "x").read_bytes() == b"new"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_without_unnamed_files_a_file_aside_is_used(store, put, tmp_path, monkeypatch):
    real = os.open

    def refuse_unnamed(path, flags, *rest, **more):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse_unnamed)  # No such file system is at hand.
    uri = store.canonical(str(tmp_path / "x"))
    with store.create(uri) as writer:
        (name,) = os.listdir(tmp_path)
        assert name.startswith(".x.")
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        writer.write_at(0, b"data")
        writer.commit(replace=False)

    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(PolicyError):
        put(uri, b"other")
    put(uri, b"other", replace=True)
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"other"


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_without_renameat2_nothing_is_overwritten(kind, tmp_path, monkeypatch):
    def unsupported(old, new, flags):
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(aside, "_renameat2", unsupported)  # No such file system is at hand.
    for name in ("old", "new"):
        if kind == "file":
            (tmp_path / name).write_text(name)
        else:
            (tmp_path / name).mkdir()

    with pytest.raises(FileExistsError):
        aside.rename_new(str(tmp_path / "old"), str(tmp_path / "new"))
    aside.rename_new(str(tmp_path / "old"), str(tmp_path / "free"))

    assert sorted(os.listdir(tmp_path)) == ["free", "new"]


def test_a_file_system_that_cannot_exchange_leaves_the_old_directory(store, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_bytes(b"old")
    uri = store.canonical(str(tmp_path / "d"))

    def unsupported(old, new):
        raise OSError(errno.EINVAL, "not here")

    builder = writers.DirectoryBuilder(str(tmp_path / "d"), uri, exchange=unsupported)
    with builder, pytest.raises(ConfigurationError, match="RENAME_EXCHANGE"):
        builder.commit(replace=True)

    assert os.listdir(tmp_path) == ["d"]
    assert (tmp_path / "d" / "old").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["device", "fifo", "socket", "directory"])
def test_only_files_are_opened_and_nothing_blocks(store, tmp_path, kind):
    path = tmp_path / kind
    if kind == "device":
        path = "/dev/zero"
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()

    with pytest.raises(FormatError, match=f"a {kind}" if kind != "fifo" else "a FIFO"):
        store.open(store.canonical(str(path)))


def test_a_symlink_put_there_after_the_look_is_not_followed(tmp_path, monkeypatch, store):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "x").write_bytes(b"data")
    uri = store.canonical(str(tmp_path / "x"))
    real = os.open

    def swap_then_open(path, flags, *rest, **more):
        if str(path).endswith("/x"):
            os.unlink(path)
            os.symlink(secret, path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swap_then_open)  # The attacker strikes between two calls.

    with pytest.raises(FormatError, match="symlink"):
        store.open(uri)


@pytest.mark.parametrize("change", ["grown", "shrunk", "same length", "time put back"])
def test_a_file_that_changes_while_it_is_read_is_noticed(store, tmp_path, change):
    path = tmp_path / "x"
    path.write_bytes(b"data")
    before = path.stat()
    with store.open(store.canonical(str(path))) as pinned:
        pinned.check_unchanged()
        path.write_bytes({"grown": b"data+", "shrunk": b"dat"}.get(change, b"DATA"))
        if change == "time put back":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        with pytest.raises(IntegrityError, match="changed"):
            pinned.check_unchanged()


def test_a_reader_of_a_replaced_file_keeps_its_version(store, put, tmp_path):
    uri = store.canonical(str(tmp_path / "x"))
    put(uri, b"old")
    with store.open(uri) as pinned:
        put(uri, b"new!", replace=True)

        assert pinned.read_at(0, 10) == b"old"
        pinned.check_unchanged()


def test_a_conditional_replace_keeps_what_another_writer_put_there(store, put, tmp_path, get):
    uri = store.canonical(str(tmp_path / "x"))
    version = put(uri, b"old")
    with store.create(uri) as writer:
        writer.write_at(0, b"mine")
        put(uri, b"theirs", replace=True)

        with pytest.raises(IntegrityError, match="another writer"):
            writer.commit(replace=True, if_version=version)

    assert get(uri) == b"theirs"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_an_unavailable_service_and_leaves_nothing(tmp_path):
    script = """
import resource, sys
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.errors import ServiceUnavailableError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = LocalObjects()
try:
    with store.create(store.canonical(sys.argv[1])) as writer:
        writer.write_at(0, b"x" * 1500)
        writer.commit(replace=False)
except ServiceUnavailableError as error:
    print(error.service, "|", error.reason)
"""
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")], capture_output=True, text=True
    )

    assert answer.stdout == "object store | File too large\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_file_system_is_an_unavailable_service(store, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mount is not allowed here")
    try:
        with (
            store.create(store.canonical(str(tmp_path / "x"))) as writer,
            pytest.raises(ServiceUnavailableError, match="No space left"),
        ):
            writer.write_at(0, bytes(100_000))

        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_a_configuration_error(store, tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigurationError, match="Permission denied"):
        store.create(store.canonical(str(tmp_path / "x")))


def test_a_file_as_parent_is_refused(store, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(FormatError, match="a directory above"):
        store.create(store.canonical(str(tmp_path / "file" / "x")))


def test_what_a_killed_writer_left_is_swept_and_what_is_held_stays(store, put, tmp_path):
    (tmp_path / ".x.0123456789abcdef.aside").write_bytes(b"left over")
    (tmp_path / ".d.0123456789abcdef.aside").mkdir()
    (tmp_path / ".d.0123456789abcdef.aside" / "y").write_bytes(b"left over")
    (tmp_path / ".mine.aside").write_bytes(b"not ours")
    with store.create_directory(store.canonical(str(tmp_path / "held"))) as builder:
        put(store.canonical(str(tmp_path / "x")), b"data")
        with builder.create("y") as writer:
            writer.write_at(0, b"data")
            writer.commit(replace=False)
        builder.commit(replace=False)

    assert sorted(os.listdir(tmp_path)) == [".mine.aside", "held", "x"]
    assert os.listdir(tmp_path / "held") == ["y"]


def test_many_writers_on_one_object_leave_one_whole_version(store, put, tmp_path, get):
    uri = store.canonical(str(tmp_path / "x"))
    contents = [bytes([number]) * 5000 for number in range(8)]
    threads = [
        threading.Thread(target=put, args=(uri, content), kwargs={"replace": True})
        for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert get(uri) in contents
    assert os.listdir(tmp_path) == ["x"]


def test_many_writers_that_do_not_replace_have_one_winner(store, put, tmp_path):
    uri = store.canonical(str(tmp_path / "x"))
    refused = []

    def write(content):
        try:
            put(uri, content)
        except PolicyError as error:
            refused.append(error.why)

    threads = [threading.Thread(target=write, args=(bytes([n]),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["address_taken"] * 7


def test_a_name_of_the_longest_length_can_be_written(store, put, tmp_path):
    uri = store.canonical(str(tmp_path / ("ö" * 127)))
    put(uri, b"old")
    put(uri, b"new", replace=True)

    assert (tmp_path / ("ö" * 127)).read_bytes() == b"new"


def test_descriptors_are_not_leaked(store, put, tmp_path, get):
    uri = store.canonical(str(tmp_path / "x"))
    # What other tests left to the collector is not closed meanwhile.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    put(uri, b"a")
    put(uri, b"b", replace=True)
    get(uri)
    with pytest.raises(PolicyError):
        put(uri, b"c")
    with store.create_directory(store.canonical(str(tmp_path / "d"))) as builder:
        builder.commit(replace=False)
    store.delete(store.canonical(str(tmp_path / "d")))

    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before


def test_a_range_of_a_pinned_file_is_copied_without_reading_it(store, put, get, tmp_path):
    source, target = (store.canonical(str(tmp_path / name)) for name in ("x", "y"))
    put(source, b"0123456789" * 10_000)
    with store.open(source) as pinned, store.create(target) as writer:
        writer.write_at(0, b"head")
        assert writer.copy_range(pinned, 5, 4, 20) == 20
        assert writer.copy_range(object(), 0, 0, 20) == 0
        writer.commit(replace=False)

    assert get(target) == b"head56789012345678901234"


@pytest.mark.parametrize("replace", [False, True], ids=["new", "replaced"])
def test_bytes_are_durable_before_their_name_and_the_name_before_the_return(
    store, put, tmp_path, monkeypatch, replace
):
    uri = store.canonical(str(tmp_path / "x"))
    if replace:
        put(uri, b"old")
    calls = []
    for name in ("fsync", "link", "rename"):
        real = getattr(os, name)

        def noted(*args, _name=name, _real=real, **more):
            is_file = _name == "fsync" and stat.S_ISREG(os.fstat(args[0]).st_mode)
            calls.append("fsync file" if is_file else _name)
            return _real(*args, **more)

        monkeypatch.setattr(os, name, noted)  # Listens only: the order is what counts.

    put(uri, b"new", replace=replace)

    assert (
        calls
        == {
            False: ["fsync file", "link", "fsync"],
            True: ["fsync file", "link", "link", "rename", "fsync"],
        }[replace]
    )


@pytest.mark.parametrize(("count", "looks"), [(64, 64), (640, 189)], ids=["few", "many"])
def test_a_long_folder_is_not_looked_through_for_each_file(
    store, tmp_path, monkeypatch, count, looks
):
    """Quadratic: 10,000 files in one folder took half as long again as in many."""
    seen = []
    sweep = aside.sweep
    monkeypatch.setattr(aside, "sweep", lambda folder: seen.append(folder) or sweep(folder))

    for number in range(count):
        with store.create(store.canonical(str(tmp_path / f"{number}"))) as writer:
            writer.commit(replace=False)

    assert len(seen) == looks
    assert len(os.listdir(tmp_path)) == count


def test_what_was_left_in_a_long_folder_goes_within_the_next_files(store, tmp_path):
    for number in range(300):
        (tmp_path / f"{number}").write_bytes(b"")
    left = tmp_path / f".x.{'0' * 16}.aside"

    for number in range(6):
        if number == 1:
            left.write_bytes(b"left by a killed writer")
        with store.create(store.canonical(str(tmp_path / f"new-{number}"))) as writer:
            writer.commit(replace=False)

    assert not left.exists()
