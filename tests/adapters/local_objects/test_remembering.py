"""What could make an altered file pass for one that was read before, and what must not slow it."""

from __future__ import annotations

import mmap
import os
import time

import pytest

from airflow_secure_ml.adapters.local_objects import remembering
from airflow_secure_ml.adapters.local_objects.remembering import LocalDigestMemory
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.errors import ConfigurationError, ManifestMismatchError
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.rechecking import recheck_artifact
from airflow_secure_ml.services.signing import Demand, sign_artifact
from tests.signing_keys import PIPELINE

DEMAND = Demand(verifiers=[PIPELINE])
LATER_NS = 10_000_000_000
BOOT = b"b" * 16


class Folder:
    """A signed folder of three files, and the memory of it."""

    def __init__(self, path, store):
        self.data, self.place, self.store = path / "data", path / "memory", store
        for name in ("a", "b", "deep/c"):
            file = self.data / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(name.encode() * 100)
        self.uri = store.canonical(str(self.data))
        self.sign()

    def sign(self):
        manifest = build_manifest(self.store, self.uri)
        said = Statement(object=self.uri, manifest=manifest, act="sign", signed_ms=1)
        sign_artifact(self.store, said, PIPELINE)

    def recheck(self, *, later_ns=LATER_NS, boot=BOOT):
        """Verify; returns how many files were not read."""
        memory = LocalDigestMemory(
            self.place, now_ns=lambda: time.time_ns() + later_ns, boot_id=lambda: boot
        )
        return recheck_artifact(self.store, self.uri, DEMAND, memory).remembered

    @property
    def file(self):
        (found,) = self.place.iterdir()
        return found


@pytest.fixture
def folder(tmp_path, store, monkeypatch):
    # Whichever file system the tests run on: which are believed has a test of its own.
    monkeypatch.setattr(remembering, "_file_system", lambda descriptor: "ext4")
    return Folder(tmp_path, store)


def refused(folder, *changed):
    with pytest.raises(ManifestMismatchError) as caught:
        folder.recheck()
    return caught.value.changed == changed or list(caught.value.changed) == list(changed)


def test_files_that_are_as_they_were_are_not_read_again(folder):
    assert (folder.recheck(), folder.recheck()) == (0, 3)
    assert folder.place.stat().st_mode & 0o777 == 0o700
    assert folder.file.stat().st_mode & 0o777 == 0o600


def test_a_changed_file_is_read_and_named_and_the_others_are_remembered(folder):
    folder.recheck()
    (folder.data / "a").write_bytes(b"A" * 100)

    assert refused(folder, "a")
    folder.sign()
    assert folder.recheck() == 3


def test_a_length_and_time_that_were_put_back_are_not_believed(folder):
    folder.recheck()
    file = folder.data / "a"
    then = file.stat()
    file.write_bytes(b"A" * 100)
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))

    assert (file.stat().st_mtime_ns, file.stat().st_size) == (then.st_mtime_ns, then.st_size)
    assert refused(folder, "a")


def test_a_file_that_another_took_the_place_of_is_not_believed(folder):
    folder.recheck()
    file = folder.data / "a"
    then = file.stat()
    other = folder.data.parent / "other"
    other.write_bytes(b"A" * 100)
    os.utime(other, ns=(then.st_atime_ns, then.st_mtime_ns))
    other.rename(file)

    assert refused(folder, "a")


def test_two_folders_that_changed_names_are_told_apart(folder):
    other = folder.data / "other"
    other.mkdir()
    (other / "c").write_bytes(b"DEEP/C" * 100)
    folder.sign()
    folder.recheck()
    (folder.data / "deep").rename(folder.data / "aside")
    other.rename(folder.data / "deep")
    (folder.data / "aside").rename(other)

    assert refused(folder, "deep/c", "other/c")


def test_a_write_through_another_name_is_seen(folder):
    other = folder.data.parent / "hard"
    os.link(folder.data / "a", other)
    folder.recheck()
    then = other.stat()
    other.write_bytes(b"A" * 100)
    os.utime(other, ns=(then.st_atime_ns, then.st_mtime_ns))

    assert refused(folder, "a")


def test_a_file_of_just_now_is_read_again(folder):
    folder.recheck(later_ns=0)

    # Another write in the same tick of the clock would not show.
    assert folder.recheck() == 0


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_that_somebody_has_open_for_writing_is_read_again(folder, how):
    with open(folder.data / "a", "r+b") as writer:
        held = mmap.mmap(writer.fileno(), 0) if how == "mapped" else writer
        if how == "mapped":
            writer.close()
        folder.recheck()

        assert folder.recheck() == 2
        held.close()
    folder.recheck()
    assert folder.recheck() == 3


def test_a_write_through_a_mapping_after_it_was_read_is_seen(tmp_path, store):
    folder = Folder(tmp_path, store)
    folder.recheck()
    if folder.recheck() == 0:
        pytest.skip("this file system is not remembered")
    with open(folder.data / "a", "r+b") as writer, mmap.mmap(writer.fileno(), 0) as mapped:
        mapped[0] = ord("A")

    assert refused(folder, "a")


@pytest.mark.parametrize("kind", ["tmpfs", "nfs4", "overlay", "fuse.sshfs", ""])
def test_on_other_file_systems_nothing_is_remembered(folder, monkeypatch, kind):
    monkeypatch.setattr(remembering, "_file_system", lambda descriptor: kind)

    assert (folder.recheck(), folder.recheck()) == (0, 0)


def test_after_another_start_of_the_machine_nothing_is_believed(folder):
    folder.recheck()

    assert folder.recheck(boot=b"c" * 16) == 0


def test_another_folders_memory_in_its_place_is_not_believed(folder, store, tmp_path):
    folder.recheck()
    (tmp_path / "2").mkdir()
    other = Folder(tmp_path / "2", store)
    other.recheck()
    other.file.write_bytes(folder.file.read_bytes())

    assert other.recheck() == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "link", "hard link", "for a group"])
def test_a_memory_that_is_not_its_own_is_replaced_with_a_warning(folder, damage, caplog):
    folder.recheck()
    file, data = folder.file, folder.file.read_bytes()
    elsewhere = folder.data.parent / "elsewhere"
    if damage == "flipped":
        file.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    elif damage in ("cut", "empty"):
        file.write_bytes(data[:-1] if damage == "cut" else b"")
    elif damage == "link":
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
    elif damage == "hard link":
        os.link(file, elsewhere)
    else:
        file.chmod(0o620)

    assert folder.recheck() == 0
    assert "is not believed" in caplog.text
    assert folder.recheck() == 3
    assert not folder.file.is_symlink()


@pytest.mark.skipif(os.getuid() != 0, reason="needs another owner")
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_somebody_elses_memory_is_not_believed(folder, whose):
    folder.recheck()
    os.chown(folder.file if whose == "file" else folder.place, 12345, -1)

    if whose == "file":
        assert folder.recheck() == 0
    else:
        with pytest.raises(ConfigurationError, match="only this user may enter"):
            folder.recheck()


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777], ids="{:o}".format)
def test_a_folder_that_others_may_enter_is_refused(folder, mode):
    folder.place.mkdir()
    folder.place.chmod(mode)

    with pytest.raises(ConfigurationError, match="only this user may enter"):
        folder.recheck()


def test_a_link_in_the_memorys_place_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="expected a folder"):
        folder.recheck()


def test_one_file_is_remembered_too(folder, store):
    folder.uri = store.canonical(str(folder.data / "a"))
    folder.sign()

    assert (folder.recheck(), folder.recheck()) == (0, 1)
    assert [each for each in folder.data.iterdir() if each.name.endswith(".digests")] == []


def test_what_is_gone_is_forgotten(folder):
    folder.recheck()
    (folder.data / "a").unlink()
    folder.sign()
    larger = folder.file.stat().st_size

    assert folder.recheck() == 2
    assert folder.file.stat().st_size < larger


def test_the_file_systems_type_is_told_by_its_mount():
    with open("/proc/self/mountinfo", "rb") as file:
        assert remembering._file_system(file.fileno()) == "proc"
