"""A small audit installation in a directory: spool, log, signer, and a clock that tests set."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner, init_log, read_log_keys
from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.frame import SegmentHeader, encode_frame, encode_header
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.services.auditing import run_sequencer
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.own_events import Clock, Host
from airflow_secure_ml.services.sequencing import Sequencer
from airflow_secure_ml.services.verifying import verify_log

ALICE = "a1" * 16
BOB = "b0" * 16
VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "trail"


def event(emitter, seq, prev, act="object.open", **fields):
    record = {"v": 1, "emitter": emitter, "seq": seq, "time": 1_795_316_400_000 + seq, "mono": seq}
    record |= {"act": act, "phase": "seen", "result": "ok", **fields}
    if prev is not None:
        record["prev"] = leaf_hash(prev).hex()
    return canonical.encode(record)


def chain(emitter, count, *, is_closed=True, **fields):
    """An emitter's whole story: open, some events, close."""
    events = [event(emitter, 0, None, "emitter.open")]
    while len(events) < count - is_closed:
        events.append(event(emitter, len(events), events[-1], **fields))
    if is_closed:
        events.append(event(emitter, len(events), events[-1], "emitter.close"))
    return events


def framed(payloads, kind=1):
    """Events as they stand in a segment, and as they are handed over."""
    return b"".join(encode_frame(kind, payload) for payload in payloads)


def segment(emitter, part, payloads, *, tail=b""):
    return encode_header(SegmentHeader(emitter=emitter, part=part)) + framed(payloads) + tail


@dataclass
class Times:
    now: int = 1_795_316_340_000
    mono: int = 5_000

    def advance(self, ms):
        self.now, self.mono = self.now + ms, self.mono + ms


class Held:
    """A spool in which the writers of some emitters still hold their locks."""

    def __init__(self, segments, *, owner_uid=None):
        self._segments, self._owner_uid, self.held = segments, owner_uid, set()

    def scan(self):
        found = [replace(s, is_held=s.emitter in self.held) for s in self._segments.scan()]
        return [replace(s, owner_uid=self._owner_uid or s.owner_uid) for s in found]

    def __getattr__(self, name):
        return getattr(self._segments, name)


class Installation:
    """What `keys init` and a sequencer make, all in one directory."""

    def __init__(self, path):
        self.path = path
        self.spool = path / "spool"
        self.spool.mkdir()
        self.signer_path = path / "signer"
        self.origin = init_log(self.signer_path, "example.org")
        self.signer = LogSigner(self.signer_path)
        self.times = Times()
        self.clock = Clock(now_ms=lambda: self.times.now, mono_ms=lambda: self.times.mono)
        self.opened = []
        self.restarts = 0

    @property
    def database(self):
        return self.path / "trail.db"

    def put(self, emitter, part, payloads, *, tail=b""):
        path = self.spool / f"{emitter}-{part:04d}.seg"
        path.write_bytes(segment(emitter, part, payloads, tail=tail))
        return path

    def segments(self):
        found = SpoolSegments([self.spool], self.path / "refused")
        self.opened.append(found)
        return found

    def start(self, *, log=None, segments=None):
        """A new sequencer process."""
        self.restarts += 1
        self.log = log or SqliteAuditWriter(self.database, self.origin)
        self.opened.append(self.log)
        self.checkpointer = Checkpointer(log=self.log, signer=self.signer, clock=self.clock)
        self.sequencer = Sequencer(
            log=self.log,
            segments=segments or self.segments(),
            clock=self.clock,
            host=Host(name="worker-1", facts={"program": "sequencer"}),
            random_bytes=lambda count: bytes([0x5E, self.restarts]) * (count // 2),
        )
        return self.sequencer

    def run(self):
        """Sequence all there is, have it signed."""
        if not self.restarts:
            self.start()
        while self.sequencer.step(is_last=True).has_more:
            continue
        return self.checkpointer.make()

    def take_all(self):
        """A new sequencer process that takes what is there, has it signed, ends."""
        self.start()
        run_sequencer(
            self.sequencer,
            self.checkpointer,
            clock=self.clock,
            wait=lambda seconds: None,
            stop=lambda: False,
            on_trouble=lambda error: None,
            once=True,
        )

    def log_keys(self):
        """The log's public keys, whichever signed in its time."""
        return parse_log_keys(read_log_keys(self.signer_path / "log_keys"))

    def reader(self):
        return SqliteAuditReader(self.database)

    def events(self, act=None):
        with self.reader().whole() as log:
            found = [json.loads(data) for _, data, _ in log.leaves()]
        return [e for e in found if act is None or e["act"] == act]

    def names(self):
        return [f"{event['emitter']}:{event['seq']}" for event in self.events()]

    def of(self, emitter):
        return [e["seq"] for e in self.events() if e["emitter"] == emitter]

    def ends(self, emitter):
        more = [e["more"] for e in self.events("trail.emitter")]
        return [m["state"] for m in more if m["emitter"] == emitter]

    def verify(self, keys=None, **options):
        with self.reader().whole() as log:
            return verify_log(log, [self.signer.public] if keys is None else keys, **options)

    def close(self):
        for each in self.opened:
            each.close()


@pytest.fixture
def site(tmp_path):
    made = Installation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def signed(site):
    """A log of three checkpoints and 31 leaves, whose sequencer ended."""
    site.put(ALICE, 0, chain(ALICE, 20))
    site.early = site.run()
    site.put(BOB, 0, chain(BOB, 5))
    site.run()
    site.sequencer.close()
    site.checkpointer.make()
    site.close()
    site.opened.clear()
    return site
