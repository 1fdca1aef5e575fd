"""The security report: each figure is what its own filter finds; the bytes are always the same."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlparse

import pytest

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.services.report_figures import (
    DAY_MS,
    query_of,
    stamp,
    whole_period_before,
)
from airflow_secure_ml.services.report_html import period_of, standalone
from airflow_secure_ml.services.reporting import Report, build_report
from tests.contracts.audit_stores import ORIGIN, SqliteStore, append, leaf

NOV_1 = 1_793_491_200_000
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m\"'&"


def story():
    """Some days: what was opened and refused, and a check of coverage."""
    day = [NOV_1 + number * DAY_MS for number in range(4)]
    run = {"dag": "churn", "run": "r", "task": "train"}
    checked = {"recorded": 9, "cut": 1, "silent": 0, "unsecured": 0, "unknown": 0}
    told = [
        ("object.open", day[0], "ok", {}),
        ("object.open", day[0] + 1, "refused", {"why": "digest_differs", "run": run}),
        ("task.secure", day[0] + 2, "refused", {"why": "digest_differs", "run": run}),
        ("object.validate", day[1], "refused", {"why": "expectation_failed", "run": run}),
        ("object.verify", day[1] + 5, "refused", {"why": "digest_differs"}),
        ("lease.grant", day[2], "ok", {}),
        ("object.open", day[2], None, {}),
        ("coverage.check", day[2] + 9, "ok", {"more": checked}),
        ("trail.export", day[3] - 1, "ok", {}),
        # The first moment after it.
        ("object.open", day[3], "refused", {"why": "bug"}),
        ("object.open", NOV_1 - 1, "refused", {"why": "bug"}),
    ]
    return [
        leaf(seq, time=time, act=act, result=result, dag=None, **fields)
        for seq, (act, time, result, fields) in enumerate(told)
    ]


@pytest.fixture
def reader(trail_store):
    with trail_store.writer(ORIGIN) as writer:
        append(writer, story())
        yield trail_store.reader()


def report_of(reader, *, count_to=1000, until=NOV_1 + 3 * DAY_MS):
    checkpoint = Checkpoint(origin=ORIGIN, size=11, root=bytes(32))
    return build_report(
        reader, from_ms=NOV_1, until_ms=until, checkpoint=checkpoint, count_to=count_to
    )


def figures_of(report: Report):
    sections = [figure for section in report.sections for figure in section.figures]
    return [*report.headline, *report.reasons, *report.dags, *sections]


def named(report: Report, title: str):
    (section,) = (section for section in report.sections if section.title == title)
    return {figure.label: figure.count for figure in section.figures if figure.count}


def test_a_period_is_counted_from_its_first_moment_to_its_last(reader):
    report = report_of(reader)

    assert {figure.label: figure.count for figure in report.headline} == {
        "events": 9, "allowed": 4, "refused": 3, "failed": 0, "outcome unknown": 0,
    }  # fmt: skip
    assert named(report, "Data") == {
        "objects opened": 1, "openings refused": 1, "signatures and digests refused": 1,
    }  # fmt: skip
    assert named(report, "Validation") == {"failed their expectations": 1}
    assert named(report, "The audit system itself") == {"exported from it": 1}


def test_a_refusal_that_its_task_repeats_is_one(reader):
    report = report_of(reader)

    assert [(figure.label, figure.count) for figure in report.reasons] == [
        ("digest_differs", 2),
        ("expectation_failed", 1),
    ]
    assert [(figure.label, figure.count) for figure in report.dags] == [("churn", 2)]
    assert [one.act for one in report.refusals] == [
        "object.verify", "object.validate", "object.open",
    ]  # fmt: skip
    assert named(report, "Secured tasks") == {"refused": 1}


def test_the_days_are_there_one_by_one(reader):
    report = report_of(reader)

    assert [(bar.label, bar.count, bar.refused) for bar in report.bars] == [
        ("2026-11-01", 3, 1),
        ("2026-11-02", 2, 2),
        ("2026-11-03", 4, 0),
    ]
    assert report.bars_exact


def test_every_figure_is_what_its_filter_finds(reader):
    from airflow_secure_ml.plugin.filters import parse_filter

    report, seen = report_of(reader), 0

    for figure in [*figures_of(report), *report.bars]:
        found = parse_filter(figure.filter, now=datetime.now(UTC))
        assert found.problems == ()
        assert reader.count(found.query, at_most=1000) == figure.count
        seen += 1
    assert seen > 50


def test_the_words_mean_here_what_they_mean_on_the_page(reader):
    from airflow_secure_ml.plugin.filters import parse_filter

    words = "act:key. -act:task.secure status:refused status:failed dag:churn digest_differs"

    here = query_of(words, from_ms=NOV_1, until_ms=NOV_1 + DAY_MS)

    text = f"{words} after:{stamp(NOV_1)} before:{stamp(NOV_1 + DAY_MS)}"
    assert here == parse_filter(text, now=datetime.now(UTC)).query
    assert here != EventQuery()


def test_a_figure_that_is_not_counted_to_its_end_says_so(reader):
    report = report_of(reader, count_to=2)

    events = report.headline[0]
    assert (events.count, events.is_exact, report.is_exact) == (3, False, False)
    page = standalone(report, base_url="")
    assert "More than 2 events lie in this period." in page
    assert "none among those:" in page


def test_coverage_is_that_of_the_newest_check(reader):
    found = report_of(reader).coverage

    assert found.recorded == 9
    assert dict(found.others) == {"cut": 1, "silent": 0, "unsecured": 0, "unknown": 0}


def test_the_same_log_gives_the_same_page(reader):
    first = standalone(report_of(reader), base_url="https://airflow.example/")
    second = standalone(report_of(reader), base_url="https://airflow.example")

    assert first == second


def test_each_figure_on_the_page_leads_to_its_events(reader):
    report = report_of(reader)

    page = standalone(report, base_url="https://airflow.example")

    links = {html.unescape(link) for link in re.findall(r'href="([^"]+)"', page)}
    led = {parse_qs(urlparse(link).query).get("q", [""])[0] for link in links}
    assert {figure.filter for figure in figures_of(report)} <= led
    assert {bar.filter for bar in report.bars} <= led
    assert all(link.startswith("https://airflow.example/secure-ml/event") for link in links)


def test_the_page_loads_nothing_and_runs_nothing(reader):
    page = standalone(report_of(reader), base_url="https://airflow.example")

    assert "<script" not in page
    assert not re.search(r"(\bsrc=|srcset|@import|url\(|<link|<img|<object|<iframe)", page)
    assert "default-src 'none'" in page


def test_what_a_task_wrote_stays_text(tmp_path):
    store = SqliteStore(tmp_path)
    fields = {"why": "digest_differs", "object": {"name": HOSTILE}}
    with store.writer(ORIGIN) as writer:
        event = leaf(0, time=NOV_1, result="refused", dag=None, **fields)
        other = leaf(1, time=NOV_1, result="refused", dag=HOSTILE, **fields)
        append(writer, [event, other])

    page = standalone(report_of(store.reader()), base_url="https://airflow.example")

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\x1b[31m" in page
    assert "\u202e" not in page


def test_an_empty_period_is_a_page_too(reader):
    report = build_report(
        reader, from_ms=0, until_ms=DAY_MS, checkpoint=None, problem="none", count_to=10
    )

    page = standalone(report, base_url="")

    assert "Nothing was refused in this period." in page
    assert "no checkpoint holds: none" in page
    assert len(report.bars) == 24


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("day", "2026-11-27", "2026-11-27"),
        ("week", "2026-11-16", "2026-11-22"),
        ("month", "2026-10-01", "2026-10-31"),
    ],
)
def test_the_last_whole_period_is_over(kind, first, last):
    # A Saturday.
    moment = int(datetime(2026, 11, 28, 9, 30, tzinfo=UTC).timestamp() * 1000)

    begin, end = whole_period_before(kind, moment)

    assert (stamp(begin), stamp(end - DAY_MS)) == (first, last)


def test_a_month_begins_at_its_own_end():
    moment = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)

    assert period_of(*whole_period_before("month", moment)) == "2026-12-01 to 2026-12-31"


def test_another_word_is_no_period():
    with pytest.raises(ConfigurationError, match="expected day, week or month, found 'year'"):
        whole_period_before("year", NOV_1)
