"""The sequencer's loop: when it signs, what it does when something fails, when it ends."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditWriter
from airflow_secure_ml.core.audit.checkpoint import parse_checkpoint, parse_note
from airflow_secure_ml.errors import AuditLogError, ServiceUnavailableError
from airflow_secure_ml.services.auditing import run_sequencer

from .conftest import ALICE, BOB, Held, chain


class Loop:
    """Runs the loop; time passes only while it waits, and a script says what happens when."""

    def __init__(self, site, script):
        self.site, self.script = site, dict(script)
        self.started, self.troubles, self.is_stopped = site.times.mono, [], False

    def passed(self):
        return self.site.times.mono - self.started

    def wait(self, seconds):
        self.site.times.advance(round(seconds * 1000))
        for at in sorted(at for at in self.script if at <= self.passed()):
            self.script.pop(at)()

    def stop(self):
        self.is_stopped = True

    def run(self, **options):
        run_sequencer(
            self.site.sequencer,
            self.site.checkpointer,
            clock=self.site.clock,
            wait=self.wait,
            stop=lambda: self.is_stopped,
            on_trouble=self.troubles.append,
            **options,
        )


def size_of(note):
    return parse_checkpoint(parse_note(note).text).size


def test_a_checkpoint_comes_a_second_after_the_first_uncovered_leaf(site):
    notes = {}
    site.start()
    loop = Loop(site, {})

    def look(at):
        note = site.reader().checkpoint()
        notes[at] = 0 if note is None else size_of(note)

    loop.script = {
        900: lambda: look(900),
        1200: lambda: look(1200),
        3000: lambda: site.put(ALICE, 0, chain(ALICE, 5)),
        3900: lambda: look(3900),
        4600: lambda: (look(4600), loop.stop()),
    }
    loop.run()

    assert notes == {900: 0, 1200: 1, 3900: 1, 4600: 8}


def test_it_ends_after_a_rest_and_covers_what_it_said(site):
    site.put(ALICE, 0, chain(ALICE, 5))
    site.start()
    loop = Loop(site, {})

    loop.run(idle_s=30)

    assert 30_000 <= loop.passed() <= 31_000
    assert site.events()[-1]["act"] == "emitter.close"
    report = site.verify()
    assert (report.status, report.signed_size) == (0, report.size)


def test_it_does_not_end_while_someone_may_still_write(site):
    site.put(ALICE, 0, chain(ALICE, 5)[:3])
    source = Held(site.segments())
    source.held.add(ALICE)
    site.start(segments=source)
    loop = Loop(site, {90_000: source.held.clear})

    loop.run(idle_s=30)

    assert loop.passed() >= 120_000
    assert site.ends(ALICE) == ["found", "cut"]


def test_a_refused_checkpoint_is_said_in_the_log_and_sequencing_goes_on(site):
    site.put(ALICE, 0, chain(ALICE, 3))
    site.start()
    (site.signer_path / "last").unlink()
    loop = Loop(site, {5_000: lambda: site.put(BOB, 0, chain(BOB, 3))})
    loop.script[130_000] = loop.stop

    loop.run()

    assert site.of(BOB) == [0, 1, 2]
    assert len(loop.troubles) == 1
    alerts = site.events("alert.raise")
    assert [e["more"]["about"] for e in alerts] == ["checkpoint"]
    assert site.reader().checkpoint() is None


def test_a_log_that_cannot_be_written_for_a_while_loses_nothing(site):
    class Failing:
        def __init__(self, log):
            self.log, self.is_full = log, True

        def append(self, batch):
            if self.is_full:
                raise ServiceUnavailableError(service="audit log", action="append", reason="full")
            self.log.append(batch)

        def __getattr__(self, name):
            return getattr(self.log, name)

    site.put(ALICE, 0, chain(ALICE, 5))
    log = Failing(SqliteAuditWriter(site.database, site.origin))
    site.opened.append(log.log)
    site.start(log=log)
    loop = Loop(site, {10_000: lambda: setattr(log, "is_full", False)})
    loop.script[20_000] = loop.stop

    loop.run()

    assert [str(error) for error in loop.troubles] == ["audit log: append: full"]
    assert site.of(ALICE) == [0, 1, 2, 3, 4]
    assert site.verify().status == 0


def test_once_a_refusal_is_raised(site):
    site.put(ALICE, 0, chain(ALICE, 3))
    site.start()
    (site.signer_path / "last").unlink()

    with pytest.raises(AuditLogError, match="what was signed last is not known"):
        Loop(site, {}).run(once=True)
    assert site.of(ALICE) == [0, 1, 2]
