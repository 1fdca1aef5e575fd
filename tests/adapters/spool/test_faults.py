"""Whatever fails while an event is written: none lost, none twice, the chain whole."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import ServiceUnavailableError

from .conftest import INTENT, read_spools


def fail_with(number, *, only=None):
    def fail(*arguments):
        if only is None or str(arguments[0]).startswith(str(only)):
            raise OSError(number, os.strerror(number))

    return fail


def record_and_settle(spool, count=1):
    names = [spool.record(INTENT) for _ in range(count)]
    spool.settle()
    return names


@pytest.mark.parametrize("taken", [0, 1, 7, 8, 31, 32, 33, 1036], ids="taken={}".format)
def test_a_short_write_is_written_again_in_the_next_part(make_spool, system, tmp_path, taken):
    spool = make_spool()
    names = record_and_settle(spool, 2)
    system.failing["short write"] = taken or -(10**6)

    names += record_and_settle(spool, 5)
    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert len(list(tmp_path.rglob("*-0001.seg"))) == 1


@pytest.mark.parametrize("taken", [0, 31, 32, 100], ids="taken={}".format)
def test_a_short_first_write_is_written_again(make_spool, system, tmp_path, taken):
    system.failing["short write"] = taken or -(10**6)
    spool = make_spool()

    names = record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


@pytest.mark.parametrize("call", ["open", "write", "fdatasync"])
def test_a_full_disk_goes_on_in_the_spare_directory(make_spool, system, tmp_path, call):
    spool = make_spool(spare_dir=tmp_path / "spare")
    names = record_and_settle(spool)
    main = {path.stat().st_ino for path in (tmp_path / "audit").rglob("*.seg")}

    def full(what):
        in_main = str(what).startswith(str(tmp_path / "audit")) or (
            isinstance(what, int)
            and os.readlink(f"/proc/self/fd/{what}").startswith(str(tmp_path / "audit"))
        )
        if in_main:
            raise OSError(errno.ENOSPC, "No space left on device")

    system.failing[call] = full
    if call == "open":
        system.failing["write"] = full
    names += record_and_settle(spool)
    names += record_and_settle(spool)

    assert main
    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert len(list((tmp_path / "spare").glob("*.seg"))) == 1


def test_a_sync_that_failed_is_never_trusted_again(make_spool, system, tmp_path):
    # After a failed fdatasync the kernel may have dropped the pages and call them clean.
    spool = make_spool()
    names = record_and_settle(spool)
    failures = iter([True])

    def fail_once(fd):
        if next(failures, False):
            raise OSError(errno.EIO, "Input/output error")

    system.failing["fdatasync"] = fail_once
    names += record_and_settle(spool)

    (second,) = tmp_path.rglob("*-0001.seg")
    second.rename(tmp_path / "kept")
    first = read_spools(tmp_path)
    (tmp_path / "kept").rename(second)
    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert first


def test_a_read_only_spool_is_refused_and_nothing_is_forgotten(make_spool, system, tmp_path):
    spool = make_spool()
    names = record_and_settle(spool)
    system.failing["write"] = system.failing["open"] = fail_with(errno.EROFS)
    names.append(spool.record(INTENT))

    with pytest.raises(ServiceUnavailableError, match="Read-only file system") as caught:
        spool.settle()
    with pytest.raises(ServiceUnavailableError):
        spool.settle()
    system.failing.clear()
    names += record_and_settle(spool)

    assert (caught.value.why, caught.value.service) == ("audit_unavailable", "audit spool")
    assert str(tmp_path / "audit" / "spool") in str(caught.value)
    assert "audit_spare_dir" in str(caught.value)
    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_a_place_where_no_directory_can_be_is_refused(make_spool):
    spool = make_spool(audit_dir="/proc/self/audit")
    spool.record(INTENT)

    with pytest.raises(ServiceUnavailableError, match="/proc/self/audit/spool"):
        spool.settle()


def test_under_8_mib_free_the_first_point_is_refused(make_spool, system, tmp_path):
    free = [8 * 2**20 - 1]
    real = os.statvfs("/")

    def statvfs(path):
        values = list(real)
        values[1], values[4] = 1, free[0]
        return os.statvfs_result(values)

    system.statvfs = statvfs
    spool = make_spool()
    names = [spool.record(INTENT)]

    with pytest.raises(ServiceUnavailableError, match="8388607 bytes are free"):
        spool.settle()
    assert list(tmp_path.rglob("*.seg")) == []

    free[0] += 1
    names += record_and_settle(spool)
    free[0] = 0
    names += record_and_settle(spool)
    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_an_unlinked_segment_loses_nothing(make_spool, tmp_path):
    spool = make_spool()
    names = record_and_settle(spool, 3) + record_and_settle(spool, 3)
    (segment,) = tmp_path.rglob("*.seg")
    segment.unlink()

    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_a_replaced_segment_loses_nothing(make_spool, tmp_path):
    spool = make_spool()
    names = record_and_settle(spool, 3)
    (segment,) = tmp_path.rglob("*.seg")
    other = tmp_path / "other"
    shutil.copy(segment, other)
    other.write_bytes(other.read_bytes()[:40])
    other.replace(segment)

    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_a_second_name_for_the_segment_ends_the_part(make_spool, tmp_path):
    spool = make_spool()
    names = record_and_settle(spool)
    (segment,) = tmp_path.rglob("*.seg")
    os.link(segment, tmp_path / "second name")

    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert len(list(tmp_path.rglob("*.seg"))) == 2


def test_a_segment_unlinked_after_a_torn_write_loses_nothing(make_spool, system, tmp_path):
    spool = make_spool()
    names = record_and_settle(spool, 3)
    system.failing["short write"] = 100
    system.failing["open"] = fail_with(errno.ENOSPC)
    names.append(spool.record(INTENT))
    with pytest.raises(ServiceUnavailableError):
        spool.settle()
    system.failing.clear()
    (segment,) = tmp_path.rglob("*.seg")
    segment.unlink()

    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_a_shortened_segment_is_not_written_behind(make_spool, tmp_path):
    spool = make_spool()
    record_and_settle(spool, 3)
    (segment,) = tmp_path.rglob("*.seg")
    os.truncate(segment, segment.stat().st_size - 1)

    record_and_settle(spool)

    # The event that was cut is gone, and the hole is seen.
    with pytest.raises(AssertionError, match="a hole before 4"):
        read_spools(tmp_path)


@pytest.mark.parametrize("reused", [False, True], ids=["closed", "reused"])
def test_a_descriptor_that_the_task_closed_is_let_go(make_spool, tmp_path, reused):
    spool = make_spool()
    names = record_and_settle(spool, 3)
    (segment,) = tmp_path.rglob("*.seg")
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"x" * 100)
    fd = next(
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if os.path.lexists(link) and os.readlink(link) == str(segment)
    )
    other = os.open(theirs, os.O_RDWR)
    if reused:
        os.dup2(other, fd)
    else:
        os.close(fd)
    os.close(other)

    names += record_and_settle(spool)

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert theirs.read_bytes() == b"x" * 100
    if reused:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(theirs)
        os.close(fd)


def test_a_large_segment_ends_in_time(make_spool, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_secure_ml.adapters.spool.sink.MAX_SEGMENT_BYTES", 2000)
    spool = make_spool()

    names = [name for _ in range(20) for name in record_and_settle(spool)]

    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}
    assert len(list(tmp_path.rglob("*.seg"))) > 2


def test_going_on_counts_what_was_missed_and_says_so(make_spool, system, tmp_path):
    times = iter(range(1000, 2000))
    spool = make_spool(on_unavailable="continue", now_ms=times.__next__)
    names = record_and_settle(spool)
    system.failing["write"] = system.failing["open"] = fail_with(errno.EROFS)

    names += record_and_settle(spool) + record_and_settle(spool)
    system.failing.clear()
    names += record_and_settle(spool)

    events = read_spools(tmp_path)[spool.emitter]
    assert events[-1]["act"] == "emitter.loss"
    assert (events[-1]["result"], events[-1]["why"]) == ("failed", "audit_unavailable")
    assert events[-1]["more"] == {"events": 0, "points": 2, "since": 1003}
    assert names == [f"{spool.emitter}:{seq}" for seq in range(1, 5)]


def test_going_on_keeps_only_so_much_in_memory(make_spool, system, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_secure_ml.adapters.spool.emitting.MAX_WAITING_BYTES", 2000)
    system.failing["open"] = fail_with(errno.EROFS)
    spool = make_spool(on_unavailable="continue")

    names = [name for _ in range(20) for name in record_and_settle(spool)]
    system.failing.clear()
    spool.settle()

    events = read_spools(tmp_path)[spool.emitter]
    kept = [name for name in names if name]
    assert [event["seq"] for event in events] == list(range(len(kept) + 2))
    assert events[-1]["more"]["events"] == 20 - len(kept) > 5


def test_two_threads_never_get_one_number(make_spool, tmp_path):
    spool = make_spool()
    names = []

    def work():
        for _ in range(50):
            names.extend(record_and_settle(spool))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(names)) == 200
    assert read_spools(tmp_path).names() == {*names, f"{spool.emitter}:0"}


def test_on_kill_does_not_wait_for_a_write_under_way(make_spool, system, tmp_path):
    spool = make_spool()
    record_and_settle(spool)
    inside = []
    killed = Fact(act="scratch.shred", phase="seen", result="ok", more={"because": "killed"})
    system.failing["fdatasync"] = lambda fd: inside.append(spool.try_record(killed))

    record_and_settle(spool)
    system.failing.clear()
    name = spool.try_record(killed)

    assert inside == [None]
    assert name in read_spools(tmp_path).names()


def test_a_real_full_disk_loses_nothing(make_spool, tmp_path):
    (tmp_path / "small").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m,mode=0700", "none", str(tmp_path / "small")],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        spool = make_spool(audit_dir=tmp_path / "small", spare_dir=tmp_path / "spare")
        names = record_and_settle(spool)
        room = os.statvfs(tmp_path / "small")
        with open(tmp_path / "small" / "filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, (room.f_bavail - 1) * room.f_frsize)
        for _ in range(40):
            names += record_and_settle(spool, 3)
        found = read_spools(tmp_path / "small", tmp_path / "spare").names()
        assert found == {*names, f"{spool.emitter}:0"}
        spool.close()
        assert list((tmp_path / "spare").rglob("*.seg"))
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "small")], check=True)
