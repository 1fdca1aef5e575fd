"""Fill an audit trail with as many believable events as one asks for: 7,000 a second.

Months of several teams' runs: what they read and wrote, leases, refusals, tries that were killed,
people at the pages. Written through the real emitters and sequencer; only the disk is not waited
for. Everything follows from the arguments but the log key.

Also run as a program: `python -m tests.plugin.many_runs AUDIT_DIR SIGNER_DIR EVENTS`.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from airflow_secure_ml.adapters.log_signer import LogSigner, init_log
from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditWriter
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.own_events import Clock, Host
from airflow_secure_ml.services.sequencing import Sequencer
from tests.plugin.generator import Clockwork, SecuredTask, Story, digest

BEGIN_MS = 1_788_220_800_000  # 2026-09-01 00:00 UTC
TEAMS = ("oncology", "radiology", "billing", "pharmacy", "research")
PEOPLE = ("maria.keller", "jonas.brandt", "aisha.rahman", "li.wei")
# Emitters in the spool before the sequencer takes them in.
AT_ONCE = 400
RESTS_MS = (2_000, 45_000)
Tell = Callable[[Story, random.Random, int], None]


class NoWaiting:
    """Module `os` without waiting for the disk: the events are made, not kept."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def fdatasync(self, descriptor: int) -> None:
        pass

    fsync = fdatasync


def _dag(rng: random.Random) -> tuple[str, str]:
    team = rng.choice(TEAMS)
    return f"{team}_{rng.choice(('intake', 'training', 'scoring'))}", f"s3://lake/{team}"


def tell_run(story: Story, rng: random.Random, number: int) -> None:
    """A run of a few tasks, each of which reads what the one before wrote."""
    dag, lake = _dag(rng)
    run = f"scheduled__{number:07d}"
    source = f"{lake}/drop/{number % 997:03d}.parquet"
    for step, task_id in enumerate(("ingest", "features", "train")[: rng.randint(1, 3)]):
        target = f"{lake}/{task_id}/{number % 997:03d}.parquet"
        task = SecuredTask.begin(story, dag, run, task_id, reads=[source], writes=[target])
        size = rng.randrange(10_000, 900_000_000)
        task.read(source, size=size, rows=size // 160)
        if step == 1:
            task.validate(source, checked=rng.randint(5, 40))
        story.clock.pass_ms(rng.randint(300, 90_000))
        task.write(target, size=size // 2, rows=size // 170)
        task.finish(reads=1, writes=1)
        source = target


def tell_mapped(story: Story, rng: random.Random, number: int) -> None:
    """Mapped tries that lease a login each; now and then one is killed."""
    dag, lake = _dag(rng)
    run = f"scheduled__{number:07d}"
    for part in range(rng.randint(2, 6)):
        uri = f"{lake}/parts/{part:02d}.parquet"
        task = SecuredTask.begin(
            story, dag, run, "score", reads=[uri], writes=[], map_index=part, number=1
        )
        task.read(uri, size=12_582_912, rows=400_000)
        lease = {
            "path": f"database/creds/{dag}-reader",
            "id": digest(f"lease {number} {part}"),
            "ttl_s": 900,
        }
        grant = task.spool.record(Fact(act="lease.grant", phase="intent", lease=lease))
        task.spool.settle()
        task.spool.record(
            Fact(act="lease.grant", phase="outcome", result="ok", of=grant, lease=lease)
        )
        story.clock.pass_ms(rng.randint(500, 20_000))
        if rng.random() < 0.01:
            task.vanish()
            continue
        task.spool.record(
            Fact(act="lease.revoke", phase="outcome", result="ok", of=grant, lease=lease)
        )
        task.finish(reads=1, writes=0)


def tell_refusal(story: Story, rng: random.Random, number: int) -> None:
    """A try that is refused, for one of the usual reasons."""
    dag, lake = _dag(rng)
    act, why = rng.choice(
        (
            ("object.open", "digest_differs"),
            ("object.verify", "signature_invalid"),
            ("object.open", "key_not_allowed"),
            ("object.open", "context_differs"),
            ("object.verify", "signer_not_accepted"),
        )
    )
    uri = f"{lake}/shared/{number % 61:02d}.csv"
    task = SecuredTask.begin(story, dag, f"manual__{number:07d}", "train", reads=[uri], writes=[])
    task.refuse(act, why, object={"name": "table", "uri": uri, "bytes": 91_022})


def tell_person(story: Story, rng: random.Random, number: int) -> None:
    """Somebody looks at the pages, or rotates a key."""
    person = rng.choice(PEOPLE)
    spool = story.spool("api-server")
    if rng.random() < 0.05:
        key = {"system": "local", "name": rng.choice(TEAMS), "version": str(1 + number // 5000)}
        asked = spool.record(Fact(act="key.rotate", phase="intent", key=key, by=person))
        done = Fact(act="key.rotate", phase="outcome", result="ok", of=asked, key=key, by=person)
        spool.record(done)
    else:
        more = {"page": rng.choice(("events", "run", "integrity"))}
        spool.record(Fact(act="trail.view", phase="seen", result="ok", by=person, more=more))
    spool.close()


# How often each is told, of a hundred.
TELLERS: tuple[tuple[Tell, int], ...] = (
    (tell_run, 62),
    (tell_mapped, 25),
    (tell_refusal, 5),
    (tell_person, 8),
)


class Filler:
    """A log that grows by believable events.

    Args:
        audit_dir: Where spool and store are to be.
        signer_dir: Where the log key is, or is to be made.
        seed: Another seed tells another story.
    """

    def __init__(self, audit_dir: Path, signer_dir: Path, *, seed: int = 1) -> None:
        if not (signer_dir / "log.key").exists():
            init_log(signer_dir, "hospital.example")
        self._rng = random.Random(seed)
        self._clock = Clockwork(BEGIN_MS)
        self._story = Story(audit_dir, self._clock, system=NoWaiting())
        self._number = 0
        self._spool = audit_dir / "spool"
        signer = LogSigner(signer_dir)
        audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log = SqliteAuditWriter(audit_dir / LOG_FILE, signer.origin)
        self._segments = segments = SpoolSegments([self._spool], audit_dir / "refused")
        clock = Clock(now_ms=self._clock, mono_ms=self._clock)
        self._sequencer = Sequencer(
            log=self.log,
            segments=segments,
            clock=clock,
            host=Host(name="host-1", facts={"pid": 1, "program": "sequencer"}),
            random_bytes=lambda length: sha256(f"sequencer {seed}".encode()).digest()[:length],
        )
        self._checkpointer = Checkpointer(log=self.log, signer=signer, clock=clock)

    def grow(self, size: int) -> Iterator[int]:
        """Add events until the log has `size` at least; its size after each part, signed."""
        tellers, weights = zip(*TELLERS, strict=True)
        while self.log.edge().size < size:
            for _ in range(AT_ONCE // 3):
                teller = self._rng.choices(tellers, weights)[0]
                teller(self._story, self._rng, self._number)
                self._number += 1
                self._clock.pass_ms(self._rng.randint(*RESTS_MS))
            while self._sequencer.step(is_last=True).has_more:
                pass
            self._checkpointer.make()
            yield self.log.edge().size

    def close(self) -> None:
        """Let go of the log and the spool."""
        self._segments.close()
        self.log.close()


def fill_many(audit_dir: Path, signer_dir: Path, *, events: int, seed: int = 1) -> int:
    """Make a log of at least so many events; returns its size."""
    filler = Filler(audit_dir, signer_dir, seed=seed)
    try:
        return max(filler.grow(events))
    finally:
        filler.close()


if __name__ == "__main__":
    filler = Filler(Path(sys.argv[1]), Path(sys.argv[2]))
    for size in filler.grow(int(sys.argv[3])):
        print(f"\r{size:,} events", end="", flush=True)
    print()
