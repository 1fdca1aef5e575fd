"""What the pages show of reviews: names only when asked for, states in words, texts as texts."""

from __future__ import annotations

import pytest

from airflow_secure_ml.plugin.review_views import ERASED, ReviewViews, visible_lines
from airflow_secure_ml.plugin.sentences import sentence
from airflow_secure_ml.services.report_html import period_of
from airflow_secure_ml.services.reviewing import Note, Review, SignOff

VERA, OLAF, GONE, TEXT = "aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32
DAY = 86_400_000


class Log:
    """Gives what lies behind hidden values, and has no more leaves."""

    def reveal(self, hidden):
        return {VERA: "vera", OLAF: "olaf\u202e", TEXT: "one\ntwo\x1b"}.get(hidden)


def views(user="vera", *, named=False):
    return ReviewViews(Log(), user, named=named)


def note(by, of="", text=""):
    return Note(event="e:1", of=of, time_ms=0, by=by, text=text)


def review(assignee=VERA, **more):
    asked = note(OLAF)
    return Review(name="e:0", from_ms=0, until_ms=DAY, asked=asked, assignee=assignee, **more)


@pytest.mark.parametrize(
    ("assignee", "named", "who"),
    [
        (VERA, False, "you"),
        (OLAF, False, "somebody else"),
        (OLAF, True, "olaf\\u202e"),
        (GONE, True, ERASED),
    ],
    ids=["the reader", "another", "another by name", "erased"],
)
def test_a_name_is_shown_when_it_may_be(assignee, named, who):
    assert views(named=named).show(review(assignee), None).who == who


def test_an_open_review_is_open():
    shown = views().show(review(), None)

    assert (shown.state.word, shown.signed, shown.size, shown.is_mine) == ("open", None, "", True)


def test_a_sign_off_without_a_checkpoint_that_holds_is_not_called_good():
    signed = SignOff(note=note(VERA, "e:0"), size=3, root="00" * 32, signer="log", index=3)

    shown = views().show(review(sign_offs=(signed,)), None)

    assert (shown.state.tone, shown.state.word) == ("bad", "does not hold")
    assert shown.size == "3"


def test_a_sign_off_of_another_leaves_it_open():
    signed = SignOff(note=note(OLAF, "e:0"), size=3, root="00" * 32, signer="log", index=3)

    assert views().show(review(sign_offs=(signed,)), None).state.word == "open"
    assert views().is_open(review(sign_offs=(signed,)))


def test_a_note_keeps_its_lines_and_nothing_else_that_moves_text():
    shown = views().note(note(VERA, "e:7", TEXT), review())

    assert (shown.text, shown.of) == ("one\ntwo\\u001b", "e:7")
    assert views().note(note(VERA, "e:0", GONE), review()).text == ERASED
    assert visible_lines("a\r\n\u202eb") == "a\n\\u202eb"


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (0, DAY, "1970-01-01"),
        (0, 2 * DAY, "1970-01-01 to 1970-01-02"),
        (1, DAY, "1970-01-01T00:00:00.001 to 1970-01-02"),
    ],
    ids=["a day", "two days", "moments"],
)
def test_a_period_is_said_in_days(begin, end, said):
    assert period_of(begin, end) == said


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"act": "trail.export", "phase": "outcome", "result": "ok",
             "more": {"format": "csv", "events": 1}},
            "exported 1 event as CSV",
        ),
        (
            {"act": "trail.export", "phase": "outcome", "result": "failed", "why": "broken_off",
             "more": {"format": "csv", "events": 1}},
            "failed to export from the log: the receiver went away",
        ),
        ({"act": "review.sign", "phase": "seen", "result": "ok"}, "signed off a review"),
    ],
    ids=["an export", "one that broke off", "a sign-off"],
)  # fmt: skip
def test_what_was_done_is_a_sentence(event, said):
    assert sentence(event) == said
