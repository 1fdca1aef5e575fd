"""Each new alert is told once it is taken, in order, and nothing else is."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.services.notifying import NotifyJob
from tests.services.audit.conftest import ALICE, BOB, chain

MORE = {"about": "rule.data_changed", "because": "Data differ", "subject": "s3://lake/a"}
MORE |= {"level": "high", "alert": "a" * 32, "part": 0, "count": 3}


class Told:
    def __init__(self):
        self.alerts, self.fails = [], 0

    def tell(self, alert):
        if self.fails:
            self.fails -= 1
            raise ServiceUnavailableError(service="notifier", action="notify", reason="away")
        self.alerts.append(alert)


@pytest.fixture
def told(site):
    site.run()
    return Told()


def job(site, told, level="medium"):
    return NotifyJob(
        notifier=lambda: told,
        level=level,
        reader=site.reader(),
        book=SqliteBook(site.path / BOOK_FILE),
    )


def say(site, emitter, **more):
    site.put(emitter, 0, chain(emitter, 3, act="alert.raise", more={**MORE, **more}))
    site.run()


def test_a_new_alert_is_told_with_what_it_says(site, told):
    run = job(site, told)
    run.step()
    say(site, ALICE)

    assert run.step().is_done
    (alert,) = told.alerts
    assert (alert.name, alert.level, alert.rule) == (f"{ALICE}:1", "high", "data_changed")
    assert (alert.title, alert.subject, alert.count) == ("Data differ", "s3://lake/a", 3)


def test_what_was_raised_before_it_began_is_told_nobody(site, told):
    say(site, ALICE)

    job(site, told).step()

    assert told.alerts == []


@pytest.mark.parametrize(
    "more", [{"part": 1}, {"level": "low"}, {"level": "informational"}], ids=str
)
def test_more_evidence_and_what_is_of_little_weight_is_told_nobody(site, told, more):
    run = job(site, told)
    run.step()
    say(site, ALICE, **more)

    run.step()

    assert told.alerts == []


def test_what_a_check_raises_has_a_level_too(site, told):
    run = job(site, told, "high")
    run.step()
    site.put(ALICE, 0, chain(ALICE, 3, act="alert.raise", more={"about": "coverage.silent"}))
    site.put(BOB, 0, chain(BOB, 3, act="alert.raise", more={"about": "spool"}))
    site.run()

    run.step()

    assert [(alert.title, alert.level, alert.rule) for alert in told.alerts] == [
        ("coverage.silent", "high", "")
    ]


def test_what_was_not_taken_is_told_again_and_what_was_is_not(site, told):
    run = job(site, told)
    run.step()
    for emitter in (ALICE, BOB):
        site.put(emitter, 0, chain(emitter, 3, act="alert.raise", more=MORE))
    site.run()
    told.fails = 1
    with pytest.raises(ServiceUnavailableError):
        run.step()

    job(site, told).step()
    job(site, told).step()

    assert [alert.name for alert in told.alerts] == [f"{ALICE}:1", f"{BOB}:1"]


@pytest.mark.parametrize(
    "more",
    [{"level": 5, "count": "x", "subject": {"h": "b" * 64, "n": 5}, "because": []}, {"about": 7}],
    ids=["types", "about"],
)
def test_whatever_an_event_holds_is_told(site, told, more):
    run = job(site, told)
    run.step()
    site.put(ALICE, 0, chain(ALICE, 3, act="alert.raise", more=more))
    site.run()

    assert run.step().is_done
    assert [alert.level for alert in told.alerts] == ["medium"]
