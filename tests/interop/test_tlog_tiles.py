"""An exported log is re-derived by Tessera's fsck, and refused once a byte of it was changed."""

from __future__ import annotations

import random
import shutil

import pytest

from airflow_secure_ml.adapters.export_folder import LocalExportFolder
from airflow_secure_ml.services.exporting import export_tiles
from tests.interop.tlog import fsck, served
from tests.services.audit.conftest import ALICE, BOB, chain, site  # noqa: F401 - a fixture


def export(site, folder):  # noqa: F811
    with site.reader().whole() as log:
        note = site.reader().checkpoint()
        return export_tiles(log, note, [site.signer.public], LocalExportFolder(folder))


@pytest.fixture
def exported(site):  # noqa: F811
    """A log of two full tiles and a rest, given away as files."""
    site.put(ALICE, 0, chain(ALICE, 400))
    site.put(BOB, 0, chain(BOB, 200))
    site.run()
    export(site, site.path / "tiles")
    return site


def accepts(exported, fsck_binary, folder):
    with served(folder) as address:
        return fsck(fsck_binary, address, exported.signer.public.vkey(), exported.path)


def test_fsck_accepts_what_was_exported(exported, fsck_binary):
    is_whole, said = accepts(exported, fsck_binary, exported.path / "tiles")

    assert is_whole, said
    assert "Successfully fsck'd log with size 605" in said


def test_fsck_accepts_an_export_that_was_gone_on_with(exported, fsck_binary):
    exported.put("cc" * 16, 0, chain("cc" * 16, 300))
    exported.run()
    export(exported, exported.path / "tiles")

    is_whole, said = accepts(exported, fsck_binary, exported.path / "tiles")

    assert is_whole, said
    assert "log with size 907" in said


@pytest.mark.parametrize("size", [2, 256, 257])
def test_fsck_accepts_a_log_of_any_length(site, fsck_binary, size):  # noqa: F811
    # trail.start, found, the events, whole.
    site.put(ALICE, 0, chain(ALICE, size - 3) if size > 4 else [])
    site.run()
    export(site, site.path / "tiles")

    is_whole, said = accepts(site, fsck_binary, site.path / "tiles")

    assert is_whole, said


PLACES = (
    *("checkpoint", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/93"),
    *("tile/0/000", "tile/0/001", "tile/0/002.p/93", "tile/1/000.p/2"),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.replace("/", "-"))
def test_fsck_refuses_a_byte_changed_anywhere(exported, fsck_binary, place):
    files = sorted(
        str(path.relative_to(exported.path / "tiles"))
        for path in (exported.path / "tiles").rglob("*")
        if path.is_file()
    )
    assert files == sorted(PLACES)
    copy = exported.path / "copy"
    shutil.copytree(exported.path / "tiles", copy)
    data = bytearray((copy / place).read_bytes())
    # Of the checkpoint only what is signed, and the signature: its dash is never looked at.
    data[random.Random(place).randrange(len(data) - 8)] ^= 0x01
    (copy / place).write_bytes(data)

    is_whole, _ = accepts(exported, fsck_binary, copy)

    assert not is_whole
