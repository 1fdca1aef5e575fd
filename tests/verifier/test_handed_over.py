"""The one-file verifier and the leaves in which one log key hands over to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.export_folder import LocalExportFolder
from airflow_secure_ml.adapters.log_signer import prepare_successors
from airflow_secure_ml.services.exporting import export_tiles
from tests.services.audit.conftest import ALICE, BOB, chain, site  # noqa: F401 - a fixture


@pytest.fixture(params=["trail.db", "tiles"])
def rotated(request, site):  # noqa: F811 - the fixture
    """A log whose keys changed, as the store's file or as files; and a place for keys."""
    site.put(ALICE, 0, chain(ALICE, 4))
    site.take_all()
    prepare_successors(site.signer_path, post_quantum=True)
    site.put(BOB, 0, chain(BOB, 5))
    site.take_all()
    note = site.reader().checkpoint()
    with site.reader().whole() as log:
        export_tiles(log, note, site.log_keys(), LocalExportFolder(site.path / "tiles"))
    site.close()
    site.opened.clear()
    site.what = site.path / request.param
    return site


def report(rotated, outsider, keys):
    path = rotated.path / "keys"
    path.write_text("".join(key.line() for key in keys))
    return outsider.report(rotated.what, "--keys", path)


def test_a_log_is_whole_across_the_ranges_of_its_keys(rotated, outsider):
    found = report(rotated, outsider, rotated.log_keys())

    assert (found["status"], found["problem"]) == (0, "")


def test_a_key_that_no_leaf_hands_over_to_is_noticed(rotated, outsider):
    old, new, _ = rotated.log_keys()
    slipped_in = replace(old, public_key=bytes(range(32)), from_size=new.from_size, to_size=None)

    found = report(rotated, outsider, [*rotated.log_keys(), slipped_in])

    assert (found["status"], found["first_bad"]) == (1, old.to_size - 1)
    assert "does not hand over" in found["problem"]


def test_a_log_that_ends_before_its_keys_change_is_not_the_whole(rotated, outsider):
    *known, newest, second = rotated.log_keys()
    later = [replace(key, from_size=key.from_size + 1000) for key in (newest, second)]

    found = report(rotated, outsider, [replace(known[0], to_size=None), *later])

    assert found["status"] == 1


def test_whoever_knows_no_post_quantum_key_still_finds_the_log_whole(rotated, outsider):
    old, new, _ = rotated.log_keys()

    assert report(rotated, outsider, [old, new])["status"] == 0
