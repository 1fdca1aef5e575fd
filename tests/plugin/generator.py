"""Fill an audit trail with a week of believable events, through the real spool and sequencer.

Everything follows from the arguments: two calls with the same ones give the same log but for the
log key. Also run as a program: `python tests/plugin/generator.py AUDIT_DIR SIGNER_DIR [DAYS]`.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.log_signer import LogSigner, init_log
from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditWriter
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import consistency_proof
from airflow_secure_ml.services.own_events import Clock, Host
from airflow_secure_ml.services.sequencing import Sequencer

DAY_MS = 86_400_000
TRAINING, REFUSALS, CHURN = "secure_training", "refusals", "billing_churn"
TASKS = ("ingest", "features", "train", "score")
LAKE = "file:///srv/lake/health"
UNRECORDED_TASK = "notify"


def ti_of(dag: str, run: str, task: str, map_index: int = -1, number: int = 1) -> str:
    """The task-instance UUID that the generator gives a try."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{dag}/{run}/{task}/{map_index}/{number}"))


def run_id(day: int) -> str:
    """The id of the run of a day, counted from the first."""
    return f"scheduled__day-{day:02d}"


def digest(text: str) -> str:
    """A digest that stands for what `text` names."""
    return "sha256:" + sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class Clockwork:
    """A clock that a story moves by hand."""

    now: int

    def __call__(self) -> int:
        return self.now

    def pass_ms(self, ms: int) -> None:
        self.now += ms


@dataclass(slots=True)
class Story:
    """Tells what tasks did.

    Attributes:
        audit_dir: Where the spool is.
        clock: The story's time.
        counter: Makes every emitter another one, always the same.
        system: Stands for module `os`.
    """

    audit_dir: Path
    clock: Clockwork
    counter: Iterator[int] = field(default_factory=itertools.count)
    system: Any = os

    def random_bytes(self, length: int) -> bytes:
        return sha256(f"story {next(self.counter)}".encode()).digest()[:length]

    def spool(self, program: str, run: RunRef | None = None) -> Spool:
        return Spool(
            self.audit_dir,
            program,
            run=run,
            airflow="3.3.2",
            now_ms=self.clock,
            mono_ms=self.clock,
            random_bytes=self.random_bytes,
            system=self.system,
        )


@dataclass(slots=True)
class SecuredTask:
    """One try of a secured task; each method is a step of its life."""

    story: Story
    spool: Spool
    intent: str = ""

    @classmethod
    def begin(
        cls, story: Story, dag: str, run: str, task: str, *, reads: list[str], writes: list[str],
        map_index: int = -1, number: int = 1,
    ) -> SecuredTask:  # fmt: skip
        ti = ti_of(dag, run, task, map_index, number)
        ref = RunRef(dag=dag, run=run, task=task, map_index=map_index, try_number=number, ti=ti)
        spool = story.spool("task", ref)
        self = cls(story, spool)
        more: dict[str, object] = {
            "reads": [{"name": Path(uri).stem, "uri": uri} for uri in reads],
            "writes": [{"name": Path(uri).stem, "uri": uri} for uri in writes],
            "leases": [],
        }
        self.intent = spool.record(Fact(act="task.secure", phase="intent", more=more))
        spool.settle()
        story.clock.pass_ms(9)
        return self

    def say(self, act: str, ms: int, *, result: str = "ok", **values: object) -> None:
        self.story.clock.pass_ms(ms)
        fact = Fact(act=act, phase="outcome", result=result, of=self.intent, **values)  # type: ignore[arg-type]
        self.spool.record(fact)

    def read(self, uri: str, *, size: int, rows: int | None = None) -> None:
        obj = {"name": Path(uri).stem, "uri": uri, "digest": digest(uri), "bytes": size}
        if rows is not None:
            obj["rows"] = rows
        key = {"system": "local", "name": "data", "version": "3"}
        rule = {"id": "health", "digest": digest("rules"), "decision": "allow"}
        of = {"name": obj["name"], "uri": uri}
        self.say("rule.decide", 2, rule=rule, object=of, more={"action": "read"})
        self.say("object.verify", 6, object=obj, more={"signer": "pipeline/2"})
        self.say("object.open", 41, object=obj, key=key, more={"signer": "pipeline/2"})

    def validate(self, uri: str, *, checked: int, failed: tuple[str, ...] = ()) -> None:
        more = {"suite": "visits.json", "suite_digest": digest("suite"), "checked": checked}
        if failed:
            more |= {"failed": len(failed), "failed_names": list(failed)}
        values: dict[str, object] = {"object": {"name": Path(uri).stem, "uri": uri}, "more": more}
        if failed:
            values |= {"result": "refused", "why": "expectation_failed"}
        self.say("object.validate", 900, **values)  # type: ignore[arg-type]
        self.spool.settle()

    def write(self, uri: str, *, size: int, rows: int | None = None, key: str = "data") -> None:
        obj = {"name": Path(uri).stem, "uri": uri, "digest": digest(uri), "bytes": size}
        if rows is not None:
            obj["rows"] = rows
        sealing = {"system": "local", "name": key, "version": "3"}
        signing = {"system": "local", "name": "pipeline", "version": "2"}
        self.say("object.seal", 70, object=obj, key=sealing)
        self.say("object.sign", 4, object=obj, key=signing, more={"signer": "pipeline/2"})
        asked = self.spool.record(Fact(act="object.publish", phase="intent", object=obj))
        self.spool.settle()
        self.story.clock.pass_ms(12)
        self.spool.record(
            Fact(act="object.publish", phase="outcome", result="ok", of=asked, object=obj)
        )

    def refuse(self, act: str, why: str, **values: object) -> None:
        self.say(act, 11, result="refused", why=why, **values)
        self.say("task.secure", 3, result="refused", why=why)
        self._end("failed")

    def finish(self, *, reads: int, writes: int) -> None:
        more = {"reads": reads, "writes": writes}
        self.say("task.secure", 5, more=more)
        self._end("success")

    def vanish(self) -> None:
        """End as a killed process does: without saying anything."""
        self.spool.settle()
        self.spool._emitter.line.close()  # type: ignore[union-attr]

    def _end(self, state: str) -> None:
        self.spool.settle()
        self.story.clock.pass_ms(80)
        self.spool.record(
            Fact(act="task.end", phase="seen", result="ok", more={"by": "listener", "state": state})
        )
        self.spool.close()


def tell_training(story: Story, day: int) -> None:
    """The main pipeline, all well."""
    run = run_id(day)
    drop, raw = f"file:///srv/drop/visits-{day:02d}.csv", f"{LAKE}/raw-{day:02d}.csv"
    table, model = f"{LAKE}/features-{day:02d}.csv", f"file:///srv/models/visits-{day:02d}.skops"

    task = SecuredTask.begin(story, TRAINING, run, "ingest", reads=[drop], writes=[raw])
    story.clock.pass_ms(2400)
    task.write(raw, size=3_214_880 + day, rows=20_190)
    task.finish(reads=1, writes=1)
    story.clock.pass_ms(1500)

    task = SecuredTask.begin(story, TRAINING, run, "features", reads=[raw], writes=[table])
    task.read(raw, size=3_214_880 + day, rows=20_190)
    task.validate(raw, checked=18)
    story.clock.pass_ms(3800)
    task.write(table, size=2_802_113 + day, rows=20_186)
    task.finish(reads=1, writes=1)
    story.clock.pass_ms(1200)

    task = SecuredTask.begin(story, TRAINING, run, "train", reads=[table], writes=[model])
    task.read(table, size=2_802_113 + day, rows=20_186)
    story.clock.pass_ms(9300)
    task.write(model, size=48_204 + day, key="models")
    task.finish(reads=1, writes=1)
    story.clock.pass_ms(900)

    task = SecuredTask.begin(story, TRAINING, run, "score", reads=[model], writes=[])
    if day % 4 == 3:
        wrong = {"name": "model", "uri": model, "digest": digest("another model"), "bytes": 48_204}
        more = {"expected": digest(model), "pinned_by": "reference"}
        task.refuse("object.open", "digest_differs", object=wrong, more=more)
        return
    task.read(model, size=48_204 + day)
    story.clock.pass_ms(700)
    task.finish(reads=1, writes=0)


def tell_refusals(story: Story, day: int) -> None:
    """Each task is refused for another reason; one is killed."""
    run, base = run_id(day), f"{LAKE}/refused"
    reasons = (
        ("tampered_data", "object.open", "digest_differs"),
        ("forged_signature", "object.verify", "signature_invalid"),
        ("key_not_allowed", "object.open", "key_not_allowed"),
        ("other_patient", "object.open", "context_differs"),
        ("older_model", "object.verify", "digest_differs"),
        ("plain_file", "object.open", "not_sealed"),
    )
    for name, act, why in reasons:
        uri = f"{base}/{name}.csv"
        task = SecuredTask.begin(story, REFUSALS, run, name, reads=[uri], writes=[])
        task.refuse(act, why, object={"name": "table", "uri": uri, "bytes": 91_022})
        story.clock.pass_ms(400)
    uri = f"{base}/bad_rows.csv"
    task = SecuredTask.begin(story, REFUSALS, run, "failed_expectations", reads=[uri], writes=[])
    task.read(uri, size=91_022, rows=500)
    task.validate(uri, checked=18, failed=("age between 0 and 120", "person is not null"))
    task.say("task.secure", 3, result="refused", why="expectation_failed")
    task._end("failed")
    task = SecuredTask.begin(story, REFUSALS, run, "killed", reads=[uri], writes=[f"{base}/x.csv"])
    task.read(uri, size=91_022, rows=500)
    task.vanish()


def tell_churn(story: Story, day: int) -> None:
    """Another team's mapped tasks."""
    run = run_id(day)
    for part in range(3):
        uri = f"file:///srv/billing/part-{part}.parquet"
        task = SecuredTask.begin(story, CHURN, run, "train", reads=[uri], writes=[], map_index=part)
        task.read(uri, size=12_582_912, rows=400_000)
        story.clock.pass_ms(2100)
        task.finish(reads=1, writes=0)


def tell_keys(story: Story) -> None:
    """A person rotates a key on the command line."""
    spool = story.spool("secure-ml")
    key = {"system": "local", "name": "data", "version": "3"}
    asked = spool.record(Fact(act="key.rotate", phase="intent", key=key, by="maria.keller"))
    story.clock.pass_ms(30)
    done = Fact(
        act="key.rotate", phase="outcome", result="ok", of=asked, key=key, by="maria.keller"
    )
    spool.record(done)
    spool.settle()
    spool.close()


def sequence(audit_dir: Path, signer_dir: Path, now_ms: int) -> int:
    """Take in everything that waits in the spool, sign a checkpoint; returns the log's size."""
    signer = LogSigner(signer_dir)
    clock = Clock(now_ms=lambda: now_ms, mono_ms=lambda: now_ms)
    spool = SpoolSegments([audit_dir / "spool"], audit_dir / "refused")
    with closing(spool), SqliteAuditWriter(audit_dir / LOG_FILE, signer.origin) as log:
        host = Host(name=os.uname().nodename, facts={"pid": 1, "program": "sequencer"})
        work = Sequencer(
            log=log, segments=spool, clock=clock, host=host,
            random_bytes=lambda length: sha256(str(now_ms).encode()).digest()[:length],
        )  # fmt: skip
        while work.step(is_last=True).has_more:
            pass
        work.close()
        edge = log.edge()
        last, _ = signer.last()
        proof = consistency_proof(last, edge.size, node_reader(log.leaf_hashes, log.tile))
        note = signer.sign(edge.size, edge.root(), proof)
        log.publish(note, size=edge.size, signed_ms=now_ms)
        return edge.size


def nothing(story: Story, day: int) -> None:
    """What else a log tells of a day, unless one says."""


def fill(
    audit_dir: Path,
    signer_dir: Path,
    *,
    days: int = 7,
    end_ms: int | None = None,
    also: Callable[[Story, int], None] = nothing,
) -> int:
    """Make a log whose last day ends now.

    Args:
        audit_dir: Where spool and store are to be.
        signer_dir: Where the log key is, or is to be made.
        days: How many days to tell.
        end_ms: When the last day ends; None: now.
        also: Tells more of a day, when the rest of it is told.

    Returns:
        The log's size.
    """
    end = time.time_ns() // 1_000_000 if end_ms is None else end_ms
    if not (signer_dir / "log.key").exists():
        init_log(signer_dir, "hospital.example")
    story = Story(audit_dir, Clockwork(end - days * DAY_MS))
    size = 0
    for day in range(days):
        # 02:00 UTC, or a minute ago on the last day, so that the list has something fresh.
        morning = end - (days - 1 - day) * DAY_MS - 90_000
        story.clock.now = morning
        if day == 0:
            tell_keys(story)
        tell_churn(story, day)
        tell_training(story, day)
        if day % 3 == 0:
            tell_refusals(story, day)
        also(story, day)
        size = sequence(audit_dir, signer_dir, story.clock.now + 1500)
    return size


if __name__ == "__main__":
    count = fill(Path(sys.argv[1]), Path(sys.argv[2]), days=int((*sys.argv, "7")[3]))
    print(f"{count} events")
