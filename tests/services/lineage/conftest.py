"""Small logs about objects, made through the real spool and sequencer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.services.works import Version
from tests.plugin.generator import Clockwork, SecuredTask, Story, digest, sequence

BEGIN_MS = 1_795_316_400_000


@dataclass
class Told:
    """A log that tests tell tasks' deeds to."""

    folder: Path
    story: Story
    runs: dict[str, int] = field(default_factory=dict)

    def task(self, dag, task, *, reads=(), writes=(), plain=(), refused=(), run="r1", **more):
        """A try that opens, is refused, and publishes; (address, bytes) each, plain ones apart."""
        named = [uri for uri, _ in (*reads, *refused)]
        it = SecuredTask.begin(
            self.story, dag, run, task,
            reads=[*named, *plain], writes=[uri for uri, _ in writes], **more,
        )  # fmt: skip
        for uri, content in reads:
            it.say("object.verify", 5, object=of(uri, content))
            it.say("object.open", 5, object=of(uri, content))
        for uri, content in refused:
            it.say("object.open", 5, result="refused", why="digest_differs",
                   object=of(uri, content))  # fmt: skip
        for uri, content in writes:
            it.say("object.publish", 5, object=of(uri, content))
        if refused:
            it.say("task.secure", 1, result="refused", why="digest_differs")
            it._end("failed")
        else:
            it.finish(reads=len(named), writes=len(writes))
        self.story.clock.pass_ms(1000)

    def act(self, uri, content, **more):
        """A publish outside of any task."""
        spool = self.story.spool("secure-ml")
        obj = of(uri, content)
        asked = spool.record(Fact(act="object.publish", phase="intent", object=obj))
        done = Fact(
            act="object.publish", phase="outcome", result="ok", of=asked, object=obj, more=more
        )
        spool.record(done)
        spool.settle()
        spool.close()
        self.story.clock.pass_ms(1000)

    def store(self):
        """Everything told so far, sequenced."""
        audit, signer = self.folder / "audit", self.folder / "signer"
        sequence(audit, signer, self.story.clock.now)
        return SqliteAuditReader(audit / LOG_FILE)


def of(uri, content):
    return {"name": Path(uri).stem, "uri": uri, "digest": digest(content), "bytes": 10}


def version(uri, content=None):
    return Version(uri=uri, digest="" if content is None else digest(content))


@pytest.fixture
def told(tmp_path):
    """An empty log to tell deeds to."""
    (tmp_path / "audit").mkdir()
    init_log(tmp_path / "signer", "hospital.example")
    return Told(tmp_path, Story(tmp_path / "audit", Clockwork(BEGIN_MS)))
