from __future__ import annotations

import hashlib
import os

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_file.header import encode_header, make_core
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import FormatError
from airflow_secure_ml.services.manifests import build_manifest, build_outline

STORE = LocalObjects()
FILE_KEY = bytes(range(32))


def header(*slot_ids: str) -> bytes:
    core = make_core(1, FILE_KEY, {"object": "file:///x"})
    slots = [Slot(type=1, id=each, body=b"\0" * 40) for each in slot_ids]
    return encode_header(core, slots, FILE_KEY, plaintext_bytes=5)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_plain_file_is_digested_whole(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_bytes(b"abc" * 1_000_000)

    manifest = build_manifest(STORE, STORE.canonical(str(path)))

    (entry,) = manifest.entries
    assert (entry.path, entry.size_bytes, entry.core_id) == ("", 3_000_000, None)
    assert str(entry.digest) == sha256(b"abc" * 1_000_000)


def test_a_sealed_file_is_its_core_id_and_payload(tmp_path):
    path = tmp_path / "sealed"
    path.write_bytes(header("data/1") + b"payload")

    (entry,) = build_manifest(STORE, STORE.canonical(str(path))).entries

    assert entry.size_bytes == 7
    assert str(entry.digest) == sha256(b"payload")
    assert entry.core_id == make_core(1, FILE_KEY, {"object": "file:///x"}).id.hex()


def test_a_rewrap_changes_nothing(tmp_path):
    path = tmp_path / "sealed"
    uri = STORE.canonical(str(path))
    path.write_bytes(header("data/1") + b"payload")
    before = build_manifest(STORE, uri)

    many = header(*(f"data/{n}" for n in range(2, 60)))
    path.write_bytes(many + b"payload")

    assert len(many) > len(header("data/1"))  # the payload begins elsewhere now
    assert build_manifest(STORE, uri) == before


@pytest.mark.parametrize("threads", [1, 3])
def test_a_directory_is_every_file_in_order(tmp_path, threads):
    for number in range(100):
        path = tmp_path / f"part {number % 7}" / f"{number:03}%.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    (tmp_path / "_asml").mkdir()
    (tmp_path / "_asml" / "key.asmk").write_bytes(b"skipped")

    manifest = build_manifest(STORE, STORE.canonical(str(tmp_path)), threads=threads)

    assert len(manifest.entries) == 100
    assert manifest.entries[0].path == "part 0/000%.bin"
    assert str(manifest.entries[0].digest) == sha256(b"0")
    assert manifest.entries[-1].path == "part 6/097%.bin"


def test_an_outline_is_the_manifest_without_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"plain")
    (tmp_path / "b").write_bytes(header("data/1") + b"payload")
    uri = STORE.canonical(str(tmp_path))

    assert build_outline(STORE, uri) == build_manifest(STORE, uri).outline


def test_blake3_digests_say_so(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")

    manifest = build_manifest(STORE, STORE.canonical(str(tmp_path / "a")), algorithm="blake3")

    assert str(manifest.entries[0].digest) == (
        "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    )
    assert manifest.digest.startswith("sha256:")


@pytest.mark.parametrize("cut", [8, 11, 13, 47, 511], ids="cut={}".format)
def test_a_sealed_file_with_a_broken_header_is_not_taken_for_plain(tmp_path, cut):
    (tmp_path / "a").write_bytes(header("data/1")[:cut])

    with pytest.raises(FormatError):
        build_manifest(STORE, STORE.canonical(str(tmp_path / "a")))


def test_an_empty_file_is_an_artifact(tmp_path):
    (tmp_path / "a").write_bytes(b"")

    (entry,) = build_manifest(STORE, STORE.canonical(str(tmp_path / "a"))).entries

    assert (entry.size_bytes, str(entry.digest)) == (0, sha256(b""))


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(FormatError, match="found none"):
        build_manifest(STORE, STORE.canonical(str(tmp_path)))


def test_a_device_in_a_directory_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    os.mkfifo(tmp_path / "b")

    with pytest.raises(FormatError, match="FIFO"):
        build_manifest(STORE, STORE.canonical(str(tmp_path)))


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        build_manifest(STORE, STORE.canonical(str(tmp_path / "none")))
