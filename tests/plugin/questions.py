"""What the ten questions that an auditor asks are about, with answers that are known.

Told beside the generator's days: `tell` is for its argument `also`. Nothing here is random, so a
test may name what a page must say.
"""

from __future__ import annotations

from tests.plugin.generator import (
    CHURN,
    LAKE,
    TRAINING,
    UNRECORDED_TASK,
    Fact,
    RunRef,
    SecuredTask,
    Story,
    digest,
    run_id,
    ti_of,
)

# 1: training opened it on that day; the export was not allowed to, the day after.
ASKED_DAY = 1
ASKED_TABLE = f"{LAKE}/features-{ASKED_DAY:02d}.csv"
EXPORT = "research_export"
# 2: the old version is needed for two restores, and for nothing else.
RESTORE, OLD_KEY, OLD_VERSION = "archive_restore", "archive", "2"
RESTORE_DAYS = (1, 2)
# 4: one credential was given back, one ran out by itself, one lives for two days more.
WAREHOUSE = "warehouse_report"
REVOKED, RAN_OUT, ALIVE = (
    "database/creds/report-reader",
    "database/creds/report-writer",
    "aws/creds/report-uploader",
)
ALIVE_S = 2 * 86_400
# 7: who looked, who took something away, who changed something.
LOOKED, TOOK, CHANGED = "jonas.brandt", "maria.keller", "aisha.rahman"
EXPORTED = 120
# Who may read billing_churn alone sees this person's name, and not that others read its data.
TRIGGERED = "bea.lang"
SHARED = "file:///srv/billing/part-0.parquet"
# Days that must be told so that all of it has happened.
DAYS = 4


def tell(story: Story, day: int) -> None:
    """One day's part; the last day is `DAYS - 1`."""
    if day == 0:
        _share(story, day)
    if day == ASKED_DAY + 1:
        _export_what_is_not_allowed(story, day)
    if day in RESTORE_DAYS:
        _restore(story, day)
    if day == 1:
        _lease(story, day, RAN_OUT, 900, is_killed=True)
    if day == 2:
        _lease(story, day, REVOKED, 900, is_killed=False)
        _people(story)
    if day == DAYS - 1:
        _lease(story, day, ALIVE, ALIVE_S, is_killed=True)
        _check_coverage(story, day)


def _share(story: Story, day: int) -> None:
    spool = story.spool("scheduler")
    spool.record(
        Fact(
            act="run.start", phase="seen", result="ok", by=TRIGGERED,
            run=RunRef(dag=CHURN, run=run_id(day)), more={"type": "manual", "state": "running"},
        )
    )  # fmt: skip
    spool.settle()
    spool.close()
    task = SecuredTask.begin(story, EXPORT, run_id(day), "join", reads=[SHARED], writes=[])
    task.read(SHARED, size=12_582_912, rows=400_000)
    task.finish(reads=1, writes=0)


def _export_what_is_not_allowed(story: Story, day: int) -> None:
    task = SecuredTask.begin(story, EXPORT, run_id(day), "export", reads=[ASKED_TABLE], writes=[])
    about = {"name": "features", "uri": ASKED_TABLE}
    rule = {"id": "health", "digest": digest("rules"), "decision": "deny"}
    task.say(
        "rule.decide", 2, result="refused", why="rule_denied", rule=rule, object=about,
        more={"action": "read"},
    )  # fmt: skip
    task.refuse("object.open", "rule_denied", object=about)


def _restore(story: Story, day: int) -> None:
    uri = f"{LAKE}/archive-{day:02d}.csv"
    task = SecuredTask.begin(story, RESTORE, run_id(day), "restore", reads=[uri], writes=[])
    obj = {"name": "archive", "uri": uri, "digest": digest(uri), "bytes": 1_204_113}
    key = {"system": "local", "name": OLD_KEY, "version": OLD_VERSION}
    task.say("object.open", 30, object=obj, key=key)
    task.finish(reads=1, writes=0)


def _lease(story: Story, day: int, path: str, ttl_s: int, *, is_killed: bool) -> None:
    task = SecuredTask.begin(story, WAREHOUSE, run_id(day), "report", reads=[], writes=[])
    lease = {"path": path, "id": digest(path)}
    granted = task.spool.record(
        Fact(
            act="lease.grant", phase="outcome", result="ok", of=task.intent,
            lease={**lease, "ttl_s": ttl_s}, more={"connection": "warehouse"},
        )
    )  # fmt: skip
    if is_killed:
        task.vanish()
        return
    story.clock.pass_ms(4_000)
    task.spool.record(
        Fact(act="lease.revoke", phase="outcome", result="ok", of=granted, lease=lease)
    )
    task.finish(reads=0, writes=0)


def _people(story: Story) -> None:
    spool = story.spool("api-server")
    spool.record(
        Fact(
            act="trail.view", phase="seen", result="ok", by=LOOKED,
            more={"page": "events", "query": "dag:secure_training"},
        )
    )  # fmt: skip
    story.clock.pass_ms(60_000)
    more = {"format": "jsonl", "query": "act:key"}
    asked = spool.record(Fact(act="trail.export", phase="intent", by=TOOK, more=more))
    spool.record(
        Fact(
            act="trail.export", phase="outcome", result="ok", of=asked, by=TOOK,
            more={**more, "events": EXPORTED},
        )
    )  # fmt: skip
    story.clock.pass_ms(60_000)
    spool.settle()
    spool.close()
    spool = story.spool("secure-ml")
    spool.record(
        Fact(
            act="trail.view", phase="seen", result="ok", by=CHANGED,
            more={"page": "cli audit hold add"},
        )
    )  # fmt: skip
    spool.settle()
    spool.close()


def _check_coverage(story: Story, day: int) -> None:
    story.clock.pass_ms(3_000)
    spool = story.spool("reconciler")
    missing = ti_of(TRAINING, run_id(day), UNRECORDED_TASK)
    until = story.clock.now
    counts = {"recorded": 4, "cut": 1, "silent": 1, "unsecured": 0, "unknown": 0}
    spool.record(
        Fact(
            act="coverage.check", phase="seen", result="ok",
            more={
                **counts, "from_ms": until - 86_400_000, "until_ms": until, "not_started": 0,
                "open": 0, "ti_digest": digest("tries"), "source": "airflow database",
            },
        )
    )  # fmt: skip
    alert = {
        "about": "coverage.silent",
        "subject": f"{UNRECORDED_TASK} try 1",
        "because": f"{UNRECORDED_TASK} try 1: silent, its worker records nothing",
        "tis": [missing],
    }
    spool.record(
        Fact(
            act="alert.raise", phase="seen", result="ok", more=alert,
            run=RunRef(dag=TRAINING, run=run_id(day)),
        )
    )  # fmt: skip
    spool.settle()
    spool.close()
