"""Directories that may, and may not, hold a spool that outlives its worker."""

from __future__ import annotations

import errno
import os

import pytest

from airflow_secure_ml.adapters.spool.lasting import check_lasting
from airflow_secure_ml.errors import ConfigurationError

LINE = "36 35 {device} / /mnt rw,noatime master:1 - {kind} /dev/x rw\n"


def mounts(tmp_path, *kinds):
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    path = tmp_path / "mountinfo"
    others = LINE.format(device="0:999999", kind="tmpfs")
    path.write_text(others + "".join(LINE.format(device=device, kind=kind) for kind in kinds))
    return path


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_local_file_system_is_taken_without_a_word(tmp_path, kind):
    assert check_lasting(tmp_path / "audit", mounts=mounts(tmp_path, kind)) is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tmpfs", "goes with the worker"),
        ("overlay", "goes with the worker"),
        ("nfs4", "elsewhere"),
        ("fuse.s3fs", "elsewhere"),
    ],
)
def test_what_goes_with_the_pod_or_lies_elsewhere_is_warned_about(tmp_path, kind, said):
    found = check_lasting(tmp_path / "audit", mounts=mounts(tmp_path, "ext4", kind))

    assert said in found
    assert kind in found


def test_files_that_cannot_be_locked_are_refused(tmp_path, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(os, "lockf", lockf)

    with pytest.raises(ConfigurationError, match="cannot be locked"):
        check_lasting(tmp_path / "audit", mounts=mounts(tmp_path, "ext4"))
    assert list((tmp_path / "audit").iterdir()) == []
