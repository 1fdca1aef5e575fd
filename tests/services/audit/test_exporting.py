"""A log given away as tiles: the same bytes each time, gone on with, and never of a changed log."""

from __future__ import annotations

import sqlite3

import pytest

from airflow_secure_ml.adapters.export_folder import LocalExportFolder
from airflow_secure_ml.core.audit.checkpoint import parse_vkey
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, PolicyError
from airflow_secure_ml.services.exporting import export_tiles
from airflow_secure_ml.services.pruning import prune_log

from .conftest import ALICE, BOB, chain


def give(site, folder, *, note=None, keys=None, progress=None):
    target = LocalExportFolder(folder)
    with site.reader().whole() as log:
        return export_tiles(
            log,
            note or site.reader().checkpoint(),
            keys or [site.signer.public],
            target,
            progress=progress,
        )


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def signed(site):
    site.put(ALICE, 0, chain(ALICE, 300))
    site.run()
    return site


def test_two_exports_under_one_checkpoint_are_the_same_bytes(signed, tmp_path):
    note = signed.reader().checkpoint()
    give(signed, tmp_path / "one", note=note)
    signed.put(BOB, 0, chain(BOB, 20))
    signed.run()

    found = give(signed, tmp_path / "two", note=note)

    assert found.size == 303
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_lines_of_others_come_along(signed, tmp_path):
    note = signed.reader().checkpoint() + "— witness.example/w1 AAAAAAAA\n"

    give(signed, tmp_path / "out", note=note)

    assert (tmp_path / "out" / "checkpoint").read_text() == note


def test_an_export_that_was_broken_off_is_gone_on_with(signed, tmp_path):
    class Full(LocalExportFolder):
        left = 2

        def write(self, path, data):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super().write(path, data)

    note = signed.reader().checkpoint()
    with signed.reader().whole() as log, pytest.raises(KeyboardInterrupt):
        export_tiles(log, note, [signed.signer.public], Full(tmp_path / "out"))
    assert "checkpoint" not in files(tmp_path / "out")

    found = give(signed, tmp_path / "out")

    assert (found.kept, found.written) == (2, 4)
    give(signed, tmp_path / "anew")
    assert files(tmp_path / "out") == files(tmp_path / "anew")


def test_what_a_killed_one_was_writing_is_written_over(signed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".checkpoint.part").write_text("half")

    give(signed, tmp_path / "out")

    assert (tmp_path / "out" / "checkpoint").read_text() == signed.reader().checkpoint()
    assert not [name for name in files(tmp_path / "out") if ".part" in name]


def test_progress_is_told(signed, tmp_path):
    told = []

    give(signed, tmp_path / "out", progress=lambda done, total: told.append((done, total)))

    assert told[0] == (0, 303)
    assert told[-1] == (302, 303)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("UPDATE leaf SET data = replace(data, 'object.open', 'object.seal') WHERE idx = 7", 7),
        ("DELETE FROM leaf WHERE idx = 270", 270),
        ("DELETE FROM leaf WHERE idx > 299", None),
        ("UPDATE leaf SET hash = zeroblob(32) WHERE idx = 0", 0),
    ],
    ids=["edited", "deleted", "cut", "hash"],
)
def test_a_log_that_was_changed_is_not_given_away_as_whole(signed, tmp_path, statement, index):
    with sqlite3.connect(signed.database) as connection:
        connection.execute(statement)
    connection.close()

    with pytest.raises(AuditLogError) as caught:
        give(signed, tmp_path / "out")

    assert caught.value.index == index
    assert "checkpoint" not in files(tmp_path / "out")


def test_a_pruned_log_is_not_called_tampered_with(signed, tmp_path):
    signed.sequencer.close()
    signed.close()
    signed.opened.clear()
    signed.start()
    prune_log(signed.sequencer, signed.checkpointer, signed.log, 256, because="it is old")

    with pytest.raises(ConfigurationError, match="leaf 0 was pruned, and all below 256 were"):
        give(signed, tmp_path / "out")

    assert files(tmp_path / "out") == {}


def test_rows_gone_beyond_what_was_pruned_are_called_cut_out(signed, tmp_path):
    signed.put(BOB, 0, chain(BOB, 600))
    signed.run()
    signed.sequencer.close()
    signed.close()
    signed.opened.clear()
    signed.start()
    prune_log(signed.sequencer, signed.checkpointer, signed.log, 256, because="it is old")
    with sqlite3.connect(signed.database) as connection:
        connection.execute("DELETE FROM leaf WHERE idx < 512")
    connection.close()

    with pytest.raises(AuditLogError, match="leaf 0 is missing; it was cut out") as caught:
        give(signed, tmp_path / "out")

    assert caught.value.index == 0


def test_an_older_export_shows_a_history_told_anew(signed, tmp_path):
    give(signed, tmp_path / "out")
    path = tmp_path / "out" / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b"object.open", b"object.seal", 1))

    with pytest.raises(AuditLogError, match="tile/entries/000 is there and holds something else"):
        give(signed, tmp_path / "out")


def test_a_smaller_log_does_not_take_the_place_of_a_larger_one(signed, tmp_path):
    early = signed.reader().checkpoint()
    signed.put(BOB, 0, chain(BOB, 20))
    signed.run()
    give(signed, tmp_path / "out")

    with pytest.raises(ConfigurationError, match="cut or rolled back"):
        give(signed, tmp_path / "out", note=early)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "other.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— o AAAAAAAA\n",
            "log",
        ),
        ("nothing of the kind", "none"),
    ],
    ids=["another-log", "no-checkpoint"],
)
def test_a_folder_with_something_else_in_it_is_left_alone(signed, tmp_path, text, said):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint").write_text(text)

    with pytest.raises(ConfigurationError, match=said):
        give(signed, tmp_path / "out")

    assert files(tmp_path / "out") == {"checkpoint": text.encode()}


def test_a_checkpoint_that_no_known_key_signed_is_not_exported(signed, tmp_path):
    seed = signed.signer.public
    retired = parse_vkey(seed.vkey(), from_size=0, to_size=10)

    with pytest.raises(PolicyError):
        give(signed, tmp_path / "out", keys=[retired])


def test_exported_events_are_for_the_operator_alone(signed, tmp_path):
    give(signed, tmp_path / "out")

    made = list((tmp_path / "out").rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
