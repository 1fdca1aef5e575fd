"""The spool: what lies in its files, and who may have them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.errors import ConfigurationError, FormatError, ServiceUnavailableError

from .conftest import INTENT, NOT_AN_EVENT, RUN, read_spools

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "trail"


class WorkedExampleSystem:
    """The machine of the worked example."""

    def __getattr__(self, name):
        return getattr(os, name)

    def getpid(self):
        return 4711

    def getuid(self):
        return 50000

    def uname(self):
        return os.uname_result(("Linux", "worker-1", "", "", ""))


def test_the_worked_example_is_written_byte_for_byte(tmp_path, monkeypatch):
    # The boot id is the kernel's; only a file's path could stand in for it.
    monkeypatch.setattr(
        "airflow_secure_ml.adapters.spool.emitting.boot_id",
        lambda: "6c1f0a52-9d0e-4c7e-8a39-4b7c2f0b9f11",
    )
    offsets = [0, 4, 61, 95, 9310, 9400, 9402]
    mono = itertools.chain([1000], (1000 + offset for offset in offsets[1:]))
    spool = Spool(
        tmp_path,
        "task",
        run=RUN,
        airflow="3.3.2",
        now_ms=(1795316400000 + offset for offset in offsets).__next__,
        mono_ms=mono.__next__,
        random_bytes=lambda count: bytes.fromhex("00112233445566778899aabbccddeeff")[:count],
        system=WorkedExampleSystem(),
    )
    uri = "s3://lake/customers.csv"
    lease = "database/creds/churn-reader"

    of = spool.record(
        Fact(
            act="task.secure",
            phase="intent",
            more={
                "leases": [lease],
                "reads": [{"name": "table", "uri": uri}],
                "writes": [{"name": "model", "uri": "s3://models/churn"}],
            },
        )
    )
    spool.settle()
    spool.record(
        Fact(
            act="object.open",
            phase="outcome",
            result="ok",
            of=of,
            key={"system": "local", "name": "data", "version": "3"},
            object={
                "name": "table",
                "uri": uri,
                "digest": "sha256:" + "ab" * 32,
                "bytes": 12582912,
                "rows": None,
            },
            more={"signer": "pipeline/3"},
        )
    )
    spool.record(
        Fact(
            act="lease.grant",
            phase="outcome",
            result="ok",
            of=of,
            lease={"path": lease, "id": "sha256:" + "cd" * 32, "ttl_s": 900},
        )
    )
    spool.settle()
    spool.record(
        Fact(
            act="task.secure",
            phase="outcome",
            result="ok",
            of=of,
            more={"leases": 1, "reads": 1, "writes": 1},
        )
    )
    spool.record(
        Fact(act="task.end", phase="seen", result="ok", more={"by": "listener", "state": "success"})
    )
    spool.settle()
    spool.close()

    data = (tmp_path / "spool" / "00112233445566778899aabbccddeeff-0000.seg").read_bytes()
    assert of == "00112233445566778899aabbccddeeff:1"
    assert data == (VECTORS / "segment.seg").read_bytes()
    assert hashlib.sha256(data).hexdigest()[:8] == "f6ce16a2"


def test_constructing_a_spool_touches_nothing(tmp_path):
    spool = Spool(tmp_path / "audit", "task")

    spool.settle()
    spool.close()

    assert list(tmp_path.iterdir()) == []
    assert spool.emitter is None


def test_the_files_are_for_their_owner_alone(make_spool, tmp_path):
    spool = make_spool()

    spool.record(INTENT)
    spool.settle()

    (segment,) = (tmp_path / "audit" / "spool").iterdir()
    assert stat.S_IMODE(segment.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert segment.name == f"{spool.emitter}-0000.seg"


def test_a_directory_that_others_may_enter_is_refused(make_spool, tmp_path):
    folder = tmp_path / "audit" / "spool"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    spool = make_spool()
    spool.record(INTENT)

    with pytest.raises(ServiceUnavailableError, match=r"mode 0700, it has uid \d+ and mode 0755"):
        spool.settle()


def test_a_link_in_the_spools_place_is_refused(make_spool, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "spool").symlink_to(tmp_path / "elsewhere")
    spool = make_spool()
    spool.record(INTENT)

    with pytest.raises(ServiceUnavailableError, match="not a link"):
        spool.settle()


def test_the_lock_is_held_until_close_and_not_by_another_process(make_spool, tmp_path):
    spool = make_spool()
    spool.record(INTENT)
    spool.settle()
    (segment,) = (tmp_path / "audit" / "spool").iterdir()
    script = f"""
import fcntl, os
try:
    fcntl.lockf(os.open({str(segment)!r}, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    raise SystemExit(7)
"""

    held = subprocess.run([sys.executable, "-I", "-c", script], check=False).returncode
    spool.close()
    free = subprocess.run([sys.executable, "-I", "-c", script], check=False).returncode

    assert (held, free) == (7, 0)


def test_nothing_waits_for_close_to_become_durable(make_spool, system, tmp_path):
    spool = make_spool()
    spool.record(INTENT)
    spool.settle()
    system.failing["fdatasync"] = lambda fd: pytest.fail("close waited for the disk")

    spool.close()
    spool.close()

    (events,) = read_spools(tmp_path).values()
    assert [event["act"] for event in events] == ["emitter.open", "xcom.read", "emitter.close"]
    assert events[-1]["more"] == {"events": 3}


def test_recording_after_close_begins_an_emitter_that_names_the_old_one(make_spool, tmp_path):
    spool = make_spool()
    first = spool.record(INTENT).partition(":")[0]
    spool.close()

    second = spool.record(INTENT).partition(":")[0]
    spool.settle()

    assert first != second
    assert read_spools(tmp_path)[second][0]["more"]["parent"] == first


def test_four_points_cost_four_writes_and_one_directory_sync(make_spool, system):
    calls = []
    for name in ("write", "fdatasync"):
        system.failing[name] = lambda fd, name=name: calls.append(name)
    spool = make_spool()
    spool.record(INTENT)
    spool.settle()
    system.failing["fsync"] = lambda fd: calls.append("fsync")

    for _ in range(3):
        for _ in range(4):
            spool.record(INTENT)
        spool.settle()
        spool.settle()

    assert calls == ["write", "fdatasync"] * 4


def test_an_event_outside_the_catalogue_is_refused_and_leaves_no_hole(make_spool, tmp_path):
    spool = make_spool()
    spool.record(INTENT)

    with pytest.raises(FormatError, match="has no fact 'model'"):
        spool.record(NOT_AN_EVENT)
    with pytest.raises(FormatError, match="at most 32768"):
        spool.record(
            Fact(
                act="task.secure",
                phase="intent",
                more={"leases": ["database/creds/" + "x" * 100] * 400},
            )
        )

    spool.record(INTENT)
    spool.settle()
    assert [event["seq"] for event in read_spools(tmp_path)[spool.emitter]] == [0, 1, 2]


def test_a_person_stands_nowhere_but_aside(make_spool, tmp_path):
    spool = make_spool()

    for _ in range(2):
        spool.record(
            Fact(act="trail.view", phase="seen", result="ok", by="ada.l", more={"page": "events"})
        )
    spool.settle()

    (segment,) = (tmp_path / "audit" / "spool").iterdir()
    events = read_spools(tmp_path)[spool.emitter][1:]
    assert "ada.l" not in json.dumps(events)
    assert events[0]["by"] == events[1]["by"]
    assert events[0]["by"]["n"] == 5
    assert segment.read_bytes().count(b'"value":"ada.l"') == 2


def test_fields_that_the_deployment_hides_are_hidden(make_spool, tmp_path):
    spool = make_spool(hide=["more.host"])

    spool.record(INTENT)
    spool.settle()

    host = read_spools(tmp_path)[spool.emitter][0]["more"]["host"]
    assert sorted(host) == ["h", "n"]


def test_a_clock_set_back_shows_as_a_difference(make_spool, tmp_path):
    times = iter([1_795_316_400_000, 1_795_316_400_500, 1_795_316_340_600, 1_795_316_340_700])
    monos = iter([5000, 5500, 5600, 5590])
    spool = make_spool(now_ms=times.__next__, mono_ms=monos.__next__)

    for _ in range(3):
        spool.record(INTENT)
    spool.settle()

    events = read_spools(tmp_path)[spool.emitter]
    assert [event["time"] - 1_795_316_400_000 for event in events] == [0, 500, -59400, -59300]
    assert [event["mono"] for event in events] == [0, 500, 600, 600]
    spool._now_ms, spool._mono_ms = (lambda: 0), (lambda: 0)


def test_an_events_own_run_stands_before_the_emitters(make_spool, tmp_path):
    spool = make_spool(run=None)

    spool.record(
        Fact(act="run.start", phase="seen", result="ok", run=RunRef(dag="churn", run="manual__1"))
    )
    spool.settle()

    opened, started = read_spools(tmp_path)[spool.emitter]
    assert "run" not in opened
    assert started["run"] == {"dag": "churn", "run": "manual__1"}


def test_a_wrong_option_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="refuse or continue, not 'ignore'"):
        Spool(tmp_path, "task", on_unavailable="ignore")
    with pytest.raises(ConfigurationError, match=r"run\.ti cannot be hidden"):
        Spool(tmp_path, "task", hide=["run.ti"])


def test_the_guardian_may_use_it_without_airflow(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from airflow_secure_ml.adapters.spool import Spool\n"
        "from airflow_secure_ml.core.audit.event import Fact\n"
        "spool = Spool(sys.argv[1], 'guardian')\n"
        "spool.record(Fact(act='scratch.shred', phase='seen', result='ok', more={'files': 1}))\n"
        "spool.settle(); spool.close()\n"
        "slow = {'airflow', 'logging', 'asyncio', 'socket', 'cryptography', 'secrets', 'random'}\n"
        "raise SystemExit(','.join(slow & set(sys.modules)) or 0)\n"
    )
    root = Path(__file__).parents[3]

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(tmp_path), str(root)],
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert len(read_spools(tmp_path)) == 1
