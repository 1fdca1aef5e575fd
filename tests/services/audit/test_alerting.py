"""Alerts from a log: each once, whatever is killed when, and never about themselves."""

from __future__ import annotations

import json
import os
import re

import pytest

from airflow_secure_ml.adapters.alert_rules import shipped_rules
from airflow_secure_ml.adapters.relay import BOOK_FILE, AlertRecorder, SqliteBook
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.errors import AuditLogError, FormatError, ServiceUnavailableError
from airflow_secure_ml.services import alerting
from airflow_secure_ml.services.alerting import AlertJob
from tests.services.audit.conftest import ALICE, BOB, chain
from tests.services.audit.test_pruning import attack, prune, restart

BAD = {"result": "refused", "why": "digest_differs", "object": {"uri": "s3://lake/a"}}
HOUR_MS = 3_600_000


class Killed(BaseException):
    """Stands for kill -9: nothing after it is done."""


class Mortal:
    """Something that is killed before or after one of its calls, counted over all of a run."""

    def __init__(self, inner, fate):
        self._inner, self._fate = inner, fate

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith("_"):
            return found

        def call(*values, **named):
            self._fate.pass_()
            result = found(*values, **named)
            self._fate.pass_()
            return result

        return call


class Fate:
    """Says at which point the process dies; None: at none."""

    def __init__(self, at=None):
        self.at, self.passed = at, 0

    def pass_(self):
        self.passed += 1
        if self.at == self.passed:
            raise Killed


class World:
    """A log, its book, and processes that evaluate it one after the other."""

    def __init__(self, site, names=("data_changed",)):
        self.site = site
        site.spool.chmod(0o700)
        self.book = SqliteBook(site.path / BOOK_FILE)
        self.now = site.times.now
        self.rules = [rule for rule in shipped_rules() if rule.name in names]
        self.spools, self.said = [], []

    def job(self, fate=None):
        """A new process."""
        fate = fate or Fate()
        recorder = AlertRecorder(self.open_sink, [self.site.spool], lambda: None)
        return AlertJob(
            rules=lambda: self.rules,
            # What only reads changes nothing: to die there is to die after what was written last.
            reader=self.site.reader(),
            book=Mortal(self.book, fate),
            recorder=Mortal(recorder, fate),
            now_ms=lambda: self.now,
            on_pruned=self.said.append,
        )

    def open_sink(self):
        self.spools.append(Spool(self.site.path, "relay", now_ms=lambda: self.now))
        return self.spools[-1]

    def kill(self):
        """What a kill leaves: no lock, and whatever was written."""
        for spool in self.spools:
            if spool._emitter is not None:
                spool._emitter.line.close()
        self.spools.clear()

    def settle(self, job):
        """Step until there is nothing left to do, with a sequencer beside it."""
        for _ in range(100):
            rest = job.step()
            self.site.run()
            if rest.is_done and job._reader.size() == self.site.reader().size():
                rest = job.step()
                if rest.is_done:
                    return
        raise AssertionError("it does not come to rest")

    def alerts(self):
        return [
            (event["more"]["about"], event["more"]["alert"], event["more"]["part"])
            for event in self.site.events("alert.raise")
        ]


@pytest.fixture
def world(site):
    return World(site)


def test_an_alert_lies_in_the_log_with_its_evidence(world):
    world.site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    world.site.run()

    world.settle(world.job())

    (event,) = world.site.events("alert.raise")
    assert event["more"]["events"] == [f"{ALICE}:1"]
    assert event["more"]["subject"] == "s3://lake/a"
    assert event["more"]["level"] == "high"
    assert event["rule"]["id"] == "data_changed"
    assert event["result"] == "ok"
    assert "by" not in event


def deaths(world):
    """How many points a run from a log with one reason to its end has."""
    fate = Fate()
    world.settle(world.job(fate))
    return fate.passed


def test_whenever_it_is_killed_an_alert_is_there_once(site, tmp_path_factory):
    counting = World(site)
    site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    site.run()
    points = deaths(counting)
    assert points >= 10
    once = []

    for at in range(1, points + 1):
        other = type(site)(tmp_path_factory.mktemp("site"))
        world = World(other)
        other.put(ALICE, 0, chain(ALICE, 3, **BAD))
        other.run()
        with pytest.raises(Killed):
            world.settle(world.job(Fate(at)))
        world.kill()
        world.settle(world.job())
        once.append(world.alerts())
        other.close()

    assert [len(found) for found in once] == [1] * points
    assert len({found[0] for found in once}) == 1


def test_killed_in_the_middle_of_many_each_is_there_once(site, tmp_path_factory):
    # Whatever of a write the disk has, a torn end among it.
    uris = [f"s3://lake/{n}" for n in range(5)]
    for cut in (1, 40, 200, 700, 1500):
        other = type(site)(tmp_path_factory.mktemp("site"))
        world = World(other)
        for n, uri in enumerate(uris):
            emitter = f"{n:032x}"
            other.put(emitter, 0, chain(emitter, 3, **{**BAD, "object": {"uri": uri}}))
        other.run()
        job = world.job()
        while not world.spools:
            job.step()
            if world.spools:
                break
        world.kill()
        written = sorted(other.spool.glob("*.seg"), key=os.path.getmtime)[-1]
        written.write_bytes(written.read_bytes()[:-cut])
        # The book as it was before the process could say that all was settled.
        row = json.loads(world.book.cursor("alerts"))
        assert row["outbox"] == []
        row["outbox"] = Outbox.last
        world.book.move("alerts", json.dumps(row))

        world.settle(world.job())

        subjects = [event["more"]["subject"] for event in other.events("alert.raise")]
        assert sorted(subjects) == uris
        other.close()


class Outbox:
    """The last outbox that a book was told."""

    last: list = []  # noqa: RUF012 - of a test


@pytest.fixture(autouse=True)
def _see_outboxes(monkeypatch):
    move = SqliteBook.move

    def seen(self, job, text):
        row = json.loads(text)
        if row.get("outbox") and all(each["name"] for each in row["outbox"]):
            Outbox.last = row["outbox"]
        return move(self, job, text)

    monkeypatch.setattr(SqliteBook, "move", seen)


def test_what_may_still_come_is_waited_for(world, monkeypatch):
    world.site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    world.site.run()
    job = world.job()
    fate = Fate()
    monkeypatch.setattr(world.book, "move", _dies_at(world.book.move, 3))
    with pytest.raises(Killed):
        world.settle(job)
    monkeypatch.undo()
    world.kill()
    after = world.job(fate)

    waiting = [after.step() for _ in range(3)]

    # It lies in the spool, and no sequencer was there.
    assert not any(rest.is_done for rest in waiting)
    assert len(list(world.site.spool.glob("*.seg"))) == 1
    world.settle(after)
    assert len(world.alerts()) == 1


def _dies_at(move, at):
    calls = []

    def dying(*values):
        calls.append(values)
        if len(calls) == at:
            raise Killed
        move(*values)

    return dying


def test_a_disk_that_is_full_loses_no_alert_and_doubles_none(world):
    world.site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    world.site.run()
    job = world.job()
    full = [True]
    recorder = job._recorder._inner
    settle = recorder.settle

    def failing():
        if full[0] and recorder._sink is not None:
            raise ServiceUnavailableError(service="spool", action="write", reason="full")
        settle()

    recorder.settle = failing
    for _ in range(3):
        try:
            job.step()
        except ServiceUnavailableError:
            continue
    assert world.alerts() == []

    full[0] = False
    world.settle(job)

    assert len(world.alerts()) == 1


def test_a_book_that_cannot_be_written_leaves_nothing_for_others_to_write(world, monkeypatch):
    world.site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    world.site.run()
    job = world.job()
    job.step()
    error = ServiceUnavailableError(service="relay book", action="use", reason="locked")

    def locked(*values):
        raise error

    monkeypatch.setattr(world.book, "move", locked)
    with pytest.raises(ServiceUnavailableError):
        job.step()
    monkeypatch.undo()
    world.settle(job)

    assert len(world.alerts()) == 1


def test_alerts_about_everything_come_to_rest(site):
    # A rule that means every event there is, the relay's own among them.
    from tests.core.alerts.conftest import rule

    world = World(site)
    world.rules = [rule({"s": {"act|contains": "."}, "condition": "s"})]
    site.put(ALICE, 0, chain(ALICE, 20))
    site.run()
    job = world.job()

    world.settle(job)
    world.settle(job)
    size = site.reader().size()
    world.settle(job)

    assert len(world.alerts()) == 1
    assert site.reader().size() == size


def test_one_alert_collects_what_comes_later_and_ends_when_a_person_says_so(world):
    site = world.site
    site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    site.run()
    job = world.job()
    world.settle(job)
    site.put(BOB, 0, chain(BOB, 4, **BAD))
    site.run()
    world.settle(job)
    assert len(world.alerts()) == 1

    world.now += HOUR_MS
    world.settle(world.job())
    ((_, alert, part), (_, again, more)) = world.alerts()
    assert (alert, part, more) == (again, 0, 1)
    assert site.events("alert.raise")[1]["more"]["count"] == 2

    _say(site, Fact(act="alert.close", phase="seen", result="ok", more={"alert": alert}))
    other = "cc" * 16
    site.put(other, 0, chain(other, 3, **BAD))
    site.run()
    world.settle(world.job())

    assert [part for _, _, part in world.alerts()] == [0, 1, 0]
    assert world.alerts()[2][1] != alert


def _say(site, fact, run=None):
    spool = Spool(site.path, "api-server", run=run)
    spool.record(fact)
    spool.settle()
    spool.close()
    site.run()


def test_a_task_ends_no_alert(world):
    site = world.site
    site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    site.run()
    world.settle(world.job())
    ((_, alert, _),) = world.alerts()
    task = RunRef(dag="d", run="r", task="t", try_number=1, ti="x")
    _say(site, Fact(act="alert.close", phase="seen", result="ok", more={"alert": alert}), task)

    site.put(BOB, 0, chain(BOB, 3, **BAD))
    site.run()
    world.settle(world.job())

    assert len(world.alerts()) == 1


def test_a_log_that_was_there_already_is_looked_at_from_a_day_ago_on(world):
    world.now += 2 * 24 * HOUR_MS
    world.site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    world.site.run()
    job = world.job()
    world.settle(job)
    old = world.alerts()

    world.site.put(BOB, 0, chain(BOB, 3, **BAD))
    world.site.run()
    world.settle(job)

    assert old == []
    assert len(world.alerts()) == 1


def test_a_log_that_is_there_already_is_looked_at_in_bounds(world, monkeypatch):
    monkeypatch.setattr(alerting, "FIRST_LEAVES", 10)
    world.site.put(ALICE, 0, chain(ALICE, 50, **BAD))
    world.site.run()

    world.settle(world.job())

    (event,) = world.site.events("alert.raise")
    assert event["more"]["count"] < 10


def test_another_log_in_its_place_is_an_alarm(world, site, tmp_path_factory):
    site.put(ALICE, 0, chain(ALICE, 3, **BAD))
    site.run()
    world.settle(world.job())
    other = type(site)(tmp_path_factory.mktemp("other"))
    other.put(ALICE, 0, chain(ALICE, 90))
    other.run()
    other.close()
    site.close()
    site.opened.clear()
    os.replace(other.database, site.database)

    with pytest.raises(AuditLogError, match=r"rolled back, replaced or pruned.*relay\.db"):
        world.job().step()


def test_a_book_that_somebody_wrote_into_is_said(world):
    world.site.put(ALICE, 0, chain(ALICE, 3))
    world.site.run()
    world.book.move("alerts", '{"cursor": 5}')

    with pytest.raises(FormatError, match="row alerts"):
        world.job().step()


def test_before_there_is_a_log_it_waits(world):
    with pytest.raises(ServiceUnavailableError, match="no such file"):
        world.job().step()


@pytest.fixture
def behind(world):
    """A log that grew by two tiles and more after it was evaluated; BOB's leaves hold reasons."""
    world.site.put(ALICE, 0, chain(ALICE, 3))
    world.site.run()
    world.settle(world.job())
    world.site.put(BOB, 0, chain(BOB, 700, **BAD))
    world.site.run()
    assert world.site.reader().find(f"{BOB}:1").index == 8
    return world


def pruned(site, below):
    prune(site, below)
    restart(site)


def cut(site, leaves):
    attack(site, f"DELETE FROM leaf WHERE {leaves}")
    restart(site)


def test_what_was_pruned_before_it_was_looked_at_holds_nothing_up(behind):
    pruned(behind.site, 512)

    behind.settle(behind.job())

    (event,) = behind.site.events("alert.raise")
    # Of BOB's leaves with a reason, those that are there still.
    assert event["more"]["count"] == 194
    (said,) = behind.said
    assert re.fullmatch(
        r"leaves \d+ to 511 were pruned before they were held against the rules; it goes on at "
        r"leaf 512, as the trail\.prune of leaf \d+ allows",
        said,
    )


class PrunedAt:
    """A reader whose log is pruned right before one of its leaves is read."""

    def __init__(self, reader, index, cut):
        self._reader, self._index, self._cut = reader, index, cut

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def leaf(self, index):
        if index == self._index:
            self._cut()
        return self._reader.leaf(index)


def test_pruned_while_it_reads_it_holds_what_it_had_and_goes_on(behind):
    job = behind.job()
    job._reader = PrunedAt(behind.site.reader(), 400, lambda: pruned(behind.site, 512))

    behind.settle(job)

    behind.now += HOUR_MS
    behind.settle(job)
    raised = behind.site.events("alert.raise")
    assert [event["more"]["count"] for event in raised] == [392, 194]
    (said,) = behind.said
    assert said.startswith("leaves 400 to 511 were pruned")


def test_pruned_of_what_was_looked_at_there_is_nothing_to_say(behind):
    job = behind.job()
    job.step()
    pruned(behind.site, 256)

    behind.settle(job)

    assert behind.said == []
    assert len(behind.alerts()) == 1


@pytest.mark.parametrize(
    "leaves",
    ["idx < 512", "idx < 500", "idx BETWEEN 256 AND 511"],
    ids=["whole tiles", "its beginning", "its middle"],
)
def test_a_log_that_was_cut_is_not_gone_on_in(behind, leaves):
    cut(behind.site, leaves)

    with pytest.raises(AuditLogError, match=r"leaf \d+ of \d+ is not there"):
        behind.settle(behind.job())

    assert behind.said == []


@pytest.mark.parametrize("leaves", ["idx < 512", "idx < 300"], ids=["a tile", "less than one"])
def test_a_log_that_was_cut_further_than_it_was_pruned_is_not_gone_on_in(behind, leaves):
    pruned(behind.site, 256)
    cut(behind.site, leaves)

    with pytest.raises(AuditLogError, match=r"leaf \d+ of \d+ is not there"):
        behind.settle(behind.job())

    assert behind.said == []


def test_a_task_that_speaks_of_a_pruning_explains_no_hole(behind):
    said = {"act": "trail.prune", "more": {"below": 512}}
    behind.site.put("dd" * 16, 0, chain("dd" * 16, 3, **said))
    behind.site.run()
    cut(behind.site, "idx < 512")

    with pytest.raises(AuditLogError, match=r"leaf \d+ of \d+ is not there"):
        behind.settle(behind.job())


def test_a_log_that_was_pruned_before_the_rules_came_is_begun_where_it_begins(world):
    world.site.put(BOB, 0, chain(BOB, 700, **BAD))
    world.site.run()
    pruned(world.site, 512)

    world.settle(world.job())

    (event,) = world.site.events("alert.raise")
    assert event["more"]["count"] == len(world.site.of(BOB)) - 1
    assert world.said == []
