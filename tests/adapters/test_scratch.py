"""Scratch directories: where they go, what they are called, and that nothing outlives them."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.scratch import room
from airflow_secure_ml.adapters.scratch.making import make_scratch, neutral_suffix, sweep
from airflow_secure_ml.adapters.scratch.shredding import MARKER
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

SHM = Path("/dev/shm")


@pytest.fixture
def place(tmp_path_factory):
    """A directory of its own in memory."""
    made = SHM / f"test-scratch-{os.getpid()}-{time.monotonic_ns()}"
    made.mkdir(mode=0o700)
    yield made
    shutil.rmtree(made)


def test_scratch_is_private_and_nameless(place):
    with make_scratch([place], 1) as scratch:
        mode = stat.S_IMODE(scratch.root.stat().st_mode)

        assert mode == 0o700
        assert scratch.root.parent == place
        assert len(scratch.root.name) == len("asml-") + 32
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("file:///data/customers.csv", ".csv"),
        ("s3://lake/T.PARQUET", ".parquet"),
        ("a.csv.gz", ".csv.gz"),
        ("a.b.csv", ".csv"),
        ("$(touch /tmp/x).csv", ".csv"),
        ("x.$(reboot)", ""),
        ("x.csv;rm", ""),
        ("x.csv\n", ""),
        ("x.ninechars", ""),
        ("x.ünicode", ""),
        ("no/suffix", ""),
        ("dir.d/file", ""),
        ("", ""),
        (".gz", ".gz"),
        ("../../x.", ""),
    ],
)
def test_only_a_harmless_suffix_of_an_address_is_taken(address, expected):
    assert neutral_suffix(address) == expected


def test_paths_are_named_by_the_task_not_by_the_address(place):
    with make_scratch([place], 1) as scratch:
        one = scratch.path_for("table", "s3://lake/$(id)/../x.csv")
        third = scratch.path_for("tables", "c.parquet", index=2)

        assert one == scratch.root / "table" / "data.csv"
        assert third == scratch.root / "tables" / "2" / "data.parquet"
        assert not one.exists()
        assert one.parent.is_dir()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".owner", "a b", "-x", "ä", "x\n"])
def test_what_is_no_name_makes_no_path(place, name):
    with make_scratch([place], 1) as scratch, pytest.raises(ConfigurationError, match="not a name"):
        scratch.path_for(name)


def test_more_than_there_ever_is_names_need_and_room(place):
    with pytest.raises(ConfigurationError) as caught:
        make_scratch([place], 1 << 60)

    message = str(caught.value)
    assert "1099511627776.0 MiB needed" in message
    assert f"{place} has " in message
    assert "64 MiB in /dev/shm" in message


def test_more_than_there_is_now_may_be_tried_again(place, monkeypatch):
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    monkeypatch.setattr(room.os, "statvfs", lambda _: full)

    with pytest.raises(ServiceUnavailableError, match=r"0\.0 MiB free of 3\.9 MiB"):
        make_scratch([place], 1_000_000)


def test_the_first_directory_with_room_is_taken(place, tmp_path, monkeypatch):
    small = place / "small"
    small.mkdir(mode=0o700)
    real = os.statvfs
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(room.os, "statvfs", lambda p: full if p == small else real(p))

    with make_scratch([small, place], 100_000) as scratch:
        assert scratch.root.parent == place


def test_a_directory_on_disk_is_warned_about(tmp_path, caplog):
    assert room.file_system(tmp_path) not in {"tmpfs", "ramfs", "unknown"}

    make_scratch([tmp_path], 1).shred()

    assert "opened data touches a disk" in caplog.text


def test_the_default_is_never_on_disk(monkeypatch):
    monkeypatch.setattr(room, "file_system", lambda _: "ext4")

    with pytest.raises(ConfigurationError, match="/dev/shm is ext4, not in memory"):
        make_scratch([SHM], 1)


def test_a_directory_where_others_may_rename_is_refused(place):
    place.chmod(0o777)

    with pytest.raises(ConfigurationError, match="others may rename"):
        make_scratch([place], 1)

    place.chmod(0o700)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_directory_is_refused(place, kind):
    path = place / "x"
    if kind == "file":
        path.write_text("")

    with pytest.raises(ConfigurationError, match=r"scratch_dirs: .*/x"):
        make_scratch([path], 1)


def test_no_symlink_in_scratch_leads_shredding_out(place, tmp_path):
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "precious").write_text("precious")
    scratch = make_scratch([place], 1)
    inside = scratch.path_for("table").parent
    (inside / "file").symlink_to(outside / "deep" / "precious")
    (inside / "directory").symlink_to(outside)
    (scratch.root / "top").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    os.mkfifo(inside / "fifo")

    scratch.shred()

    assert (outside / "deep" / "precious").read_text() == "precious"
    assert stat.S_IMODE(outside.stat().st_mode) != 0o000
    assert list(place.iterdir()) == []


def test_scratch_replaced_by_a_symlink_leads_nowhere(place, tmp_path):
    (tmp_path / "precious").write_text("precious")
    scratch = make_scratch([place], 1)
    moved = scratch.root.with_name("elsewhere")
    scratch.root.rename(moved)
    scratch.root.symlink_to(tmp_path)

    scratch.shred()

    assert (tmp_path / "precious").read_text() == "precious"


def test_taken_rights_do_not_keep_a_directory(place):
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from pathlib import Path
from airflow_secure_ml.adapters.scratch.making import make_scratch
if os.geteuid() == 0:
    os.chown({str(place)!r}, 65534, 65534); os.setgid(65534); os.setuid(65534)
scratch = make_scratch([Path({str(place)!r})], 1)
path = scratch.path_for("table")
(path.parent / "a" / "b" / "c").mkdir(parents=True)
(path.parent / "a" / "b" / "c" / "file").write_text("x")
for name in ("a/b/c", "a/b", "a"):
    os.chmod(path.parent / name, 0)
scratch.shred(deadline_s=60)
"""

    subprocess.run([sys.executable, "-S", "-c", program], check=True, cwd="/")

    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_directory_beside_it_does_not_hold_shredding_up(place):
    scratch = make_scratch([place], 1)
    planted = scratch.root.with_name(scratch.root.name + ".gone")
    planted.mkdir()
    (planted / "file").mkdir()
    os.chown(planted, 65534, 65534)

    scratch.shred(deadline_s=60)

    assert not scratch.root.exists()


def test_depth_beyond_any_recursion_limit_is_removed(place):
    scratch = make_scratch([place], 1)
    here = os.open(scratch.root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    scratch.shred()

    assert list(place.iterdir()) == []


def test_shredding_twice_is_quiet(place):
    scratch = make_scratch([place], 1)

    scratch.shred()
    scratch.shred()

    assert list(place.iterdir()) == []


def test_a_body_that_closes_every_descriptor_costs_nobody_elses(place):
    scratch = make_scratch([place], 1)
    null = os.open("/dev/null", os.O_RDONLY)
    # Closed, and another file's since.
    other = os.dup2(null, scratch._marker)
    os.close(null)

    scratch.shred()

    os.close(other)
    assert list(place.iterdir()) == []


def test_what_cannot_be_removed_is_said(place, monkeypatch):
    scratch = make_scratch([place], 1)
    (scratch.root / "file").write_text("x")
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))

        with pytest.raises(ServiceUnavailableError, match="still being written"):
            scratch.shred(deadline_s=0.05)

    scratch.shred()


def test_leftovers_of_a_killed_task_are_swept(place):
    root = Path(__file__).resolve().parents[2]
    program = f"""
import os, sys
sys.path.insert(0, {str(root)!r})
from pathlib import Path
from airflow_secure_ml.adapters.scratch.making import make_scratch
make_scratch([Path({str(place)!r})], 1).path_for("table").write_text("plaintext")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-S", "-c", program], check=False, cwd="/")
    assert len(list(place.iterdir())) == 1

    removed = sweep([place])

    assert len(removed) == 1
    assert list(place.iterdir()) == []


def test_scratch_that_is_in_use_is_not_swept(place):
    with make_scratch([place], 1) as scratch:
        removed = sweep([place])

        assert removed == []
        assert (scratch.root / MARKER).exists()


def test_a_leftover_that_was_being_shredded_is_swept(place):
    scratch = make_scratch([place], 1)
    gone = scratch.root.with_name(scratch.root.name + ".gone")
    scratch.root.rename(gone)
    os.close(scratch._marker)

    assert sweep([place]) == [gone]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(("age_s", "left"), [(5, 1), (120, 0)], ids=["fresh", "old"])
def test_what_lies_without_marker_is_swept_once_it_is_old(place, age_s, left):
    unmarked = place / ("asml-" + "0" * 32)
    unmarked.mkdir()
    (unmarked / "data").touch()

    sweep([place], now=lambda: time.time() + age_s)

    assert len(list(place.iterdir())) == left


def test_what_a_kill_left_before_its_marker_is_swept_at_once(place):
    unmarked = place / ("asml-" + "0" * 32)
    unmarked.mkdir()

    assert sweep([place]) == [unmarked]
    assert list(place.iterdir()) == []


def test_a_directory_swept_before_its_marker_is_made_again(place, monkeypatch):
    real = os.open
    swept = []

    def sweep_first(path, *arguments, **options):
        if Path(path).name == MARKER and not swept:
            monkeypatch.setattr(os, "open", real)
            swept.extend(sweep([place]))
        return real(path, *arguments, **options)

    # Patched: the moment between two system calls has no other handle.
    monkeypatch.setattr(os, "open", sweep_first)
    with make_scratch([place], 1) as scratch:
        assert len(swept) == 1
        assert scratch.root not in swept
        assert (scratch.root / MARKER).exists()


@pytest.mark.parametrize("name", ["asml-", "asml-zz", "other", "asml-" + "0" * 33, "x.gone"])
def test_what_is_not_ours_is_not_swept(place, name):
    (place / name).mkdir()

    assert sweep([place], now=lambda: time.time() + 10_000) == []
    assert (place / name).is_dir()


def test_a_symlink_with_our_name_is_not_swept(place, tmp_path):
    (tmp_path / "precious").write_text("precious")
    (place / ("asml-" + "0" * 32)).symlink_to(tmp_path)

    assert sweep([place], now=lambda: time.time() + 10_000) == []
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_directory_swept_while_it_is_made_is_made_again(place, monkeypatch):
    real = fcntl.flock
    swept = []

    def sweep_first(handle: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH and not swept:
            monkeypatch.setattr(fcntl, "flock", real)
            swept.extend(sweep([place]))
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with make_scratch([place], 1) as scratch:
        assert len(swept) == 1
        assert scratch.root not in swept
        assert (scratch.root / MARKER).exists()


def test_a_missing_directory_does_not_stop_a_sweep(place, caplog):
    assert sweep([place / "missing", place]) == []

    assert "cannot be listed" in caplog.text
