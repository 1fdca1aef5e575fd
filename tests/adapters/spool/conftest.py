"""A reader of spools that owes nothing to the writer, and systems that fail on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.errors import ServiceUnavailableError

RUN = RunRef(
    dag="churn",
    run="manual__2026-11-22T03:00:00+00:00",
    task="train",
    try_number=1,
    ti="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
)
INTENT = Fact(act="xcom.read", phase="intent", more={"name": "model"})
NOT_AN_EVENT = Fact(act="xcom.read", phase="intent", more={"model": "x"})


class System:
    """Module os, with a place to say which call fails; what is not overridden is real."""

    def __init__(self):
        self.failing = {}

    def __getattr__(self, name):
        return getattr(os, name)

    def _maybe_fail(self, name, *arguments):
        if failure := self.failing.get(name):
            failure(*arguments)

    def open(self, path, flags, mode=0o777):
        self._maybe_fail("open", os.fspath(path))
        return os.open(path, flags, mode)

    def fdatasync(self, fd):
        self._maybe_fail("fdatasync", fd)
        os.fdatasync(fd)

    def fsync(self, fd):
        self._maybe_fail("fsync", fd)
        os.fsync(fd)

    def write(self, fd, data):
        if shorten := self.failing.pop("short write", None):
            return os.write(fd, data[:shorten])
        self._maybe_fail("write", fd)
        return os.write(fd, data)


class Found(dict):
    """Emitter → its events in order of seq; reading fails on anything that may not be."""

    def __init__(self):
        super().__init__()
        self.prev = {}

    def names(self):
        return {f"{emitter}:{event['seq']}" for emitter, events in self.items() for event in events}


def _events(data):
    # A part whose header is torn holds nothing that was ever settled.
    if data[:8] != b"ASMLSPL1" or zlib.crc32(data[:28]) != int.from_bytes(data[28:32], "big"):
        return
    at = 32
    while at + 8 <= len(data) and data[at]:
        length = int.from_bytes(data[at + 1 : at + 4], "big")
        payload = data[at + 8 : at + 8 + length]
        crc = zlib.crc32(payload, zlib.crc32(data[at : at + 4]))
        if len(payload) < length or crc != int.from_bytes(data[at + 4 : at + 8], "big"):
            return
        if data[at] == 1:
            yield payload
        at += 8 + length


def read_spools(*folders: Path) -> Found:
    """Sequence every segment below some directories; duplicates must be the same bytes."""
    parts = sorted(
        (path for folder in folders for path in folder.rglob("*.seg")), key=lambda path: path.name
    )
    found = Found()
    for path in parts:
        emitter = path.name[:32]
        events = found.setdefault(emitter, [])
        for payload in _events(path.read_bytes()):
            event = json.loads(payload)
            assert event["emitter"] == emitter
            if event["seq"] < len(events):
                assert events[event["seq"]] == event, "two events of one name"
                continue
            assert event["seq"] == len(events), f"a hole before {event['seq']} in {path.name}"
            assert event.get("prev") == found.prev.get(emitter)
            events.append(event)
            found.prev[emitter] = hashlib.sha256(b"\0" + payload).hexdigest()
    return found


@pytest.fixture
def system():
    return System()


@pytest.fixture
def make_spool(tmp_path, system):
    made = []

    def make(**options):
        options = {"run": RUN, "system": system} | options
        spool = Spool(options.pop("audit_dir", tmp_path / "audit"), "task", **options)
        made.append(spool)
        return spool

    yield make
    system.failing.clear()
    for spool in made:
        # A test may leave a spool that nothing can be written to.
        with contextlib.suppress(ServiceUnavailableError):
            spool.close()
