"""The coverage line's source: which check, and what it left."""

from __future__ import annotations

import pytest

from airflow_secure_ml.plugin.checked import checked_run
from airflow_secure_ml.plugin.lanes import Try

END = 1_795_316_400_000
TRIES = [Try(ti="a", task="t", map_index=-1, number=1, state="success", start_ms=1, end_ms=END)]


def check(until_ms, seq=7):
    more = {"until_ms": until_ms, "source": "tables of Airflow 3.3.2 in sqlite"}
    return {"act": "coverage.check", "emitter": "ee", "seq": seq, "more": more}


def alert(act, kind, *tis):
    return {"act": act, "more": {"about": f"coverage.{kind}", "tis": list(tis)}}


def test_a_check_after_the_last_try_is_the_source():
    found = checked_run([check(END + 1)], [], TRIES)

    assert (found.event, found.differences) == ("ee:7", ())
    assert found.source == "tables of Airflow 3.3.2 in sqlite"
    assert found.at.iso.startswith("2026-11-22T03:00")


@pytest.mark.parametrize(
    ("checks", "tries"),
    [([], TRIES), ([check(END)], TRIES), ([check(END + 1)], []), ([check("soon")], TRIES)],
    ids=["none", "before its end", "no try", "tampered"],
)
def test_another_check_is_not(checks, tries):
    assert checked_run(checks, [], tries) is None


def test_the_newest_check_is_taken_whatever_their_order():
    found = checked_run([check(END + 2, 9), check(END + 3, 8), check(END + 1, 7)], [], TRIES)

    assert found.event == "ee:8"


def test_what_is_still_alerted_about_is_named():
    told = [
        alert("alert.raise", "cut", "a", "b"),
        alert("alert.raise", "silent", "c"),
        alert("alert.close", "silent", "c"),
        alert("alert.raise", "unsecured", "d"),
    ]

    assert checked_run([check(END + 1)], told, TRIES).differences == ("2 cut", "1 unsecured")


@pytest.mark.parametrize("more", [None, "x", {"about": ["coverage.cut"], "tis": 5}, {"tis": [1]}])
def test_a_tampered_alert_breaks_no_page(more):
    event = {"act": "alert.raise", "more": more}
    about = {"act": "alert.raise", "more": {"about": "coverage.cut", "tis": 5, "emitters": None}}

    assert checked_run([check(END + 1)], [event, about], TRIES).differences == ()
