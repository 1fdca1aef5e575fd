"""What the filter box offers: at the caret, from the reader's own events, and of no person."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.completion import offers, place

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WHOLE = Scope(user="ada", dags=None)


def offered(trail, text, *, scope=WHOLE):
    """What is offered where `|` stands in the text, and the box after the first was taken."""
    at = text.index("|")
    box = text.replace("|", "")
    found = place(box, at)
    given = offers(trail.store, scope, box, found, now=NOW)
    first = box[: found.start] + given[0].insert + box[found.stop :] if given else None
    return [offer.label for offer in given], first


@pytest.mark.parametrize(
    ("text", "labels", "box"),
    [
        ("st|", ["status:"], "status:"),
        ("dag:churn -st|", ["-status:"], "dag:churn -status:"),
        ("-be|", [], None),
        ("status:re|", ["refused"], "status:refused "),
        ("status:|failed late", ["allowed", "refused", "failed", "unknown", "intent"],
         "status:allowed  late"),
        ("show:|", ["everything"], "show:everything "),
        ("after:|", ["1h", "24h", "7d", "30d", "90d"], "after:1h "),
        ("by:|", [], None),
        ("colour:|", [], None),
    ],
    ids=["field", "excluded", "never excluded", "status", "within", "show", "time", "person",
         "no field"],
)  # fmt: skip
def test_what_may_stand_there_is_offered(trail, text, labels, box):
    assert offered(trail, text) == (labels, box)


def test_the_first_offers_are_fields(trail):
    labels, box = offered(trail, "dag:churn |")

    assert labels[:4] == ["dag:", "task:", "run:", "status:"]
    assert box == "dag:churn dag:"


def test_values_come_from_the_log_the_most_frequent_first(trail):
    assert offered(trail, "dag:|")[0] == ["secure_training", "billing_churn", "refusals"]
    assert offered(trail, "task:|")[0][0] in ("ingest", "features", "train", "score")
    assert offered(trail, "dag:fus|") == (["refusals"], "dag:refusals ")
    assert offered(trail, "-dag:bil|") == (["billing_churn"], "-dag:billing_churn ")


def test_values_are_of_what_the_rest_of_the_box_finds(trail):
    assert offered(trail, "task:tr| dag:secure_training")[0] == ["train"]
    assert offered(trail, "task:tr| dag:nothing")[0] == []


def test_an_activity_that_never_happened_is_offered_too(trail):
    assert offered(trail, "act:key.des|")[0] == ["key.destroy"]


def test_a_reader_of_one_dag_is_offered_nothing_of_others(trail):
    scope = Scope(user="bill", dags=("billing_churn",))

    assert offered(trail, "dag:|", scope=scope)[0] == ["billing_churn"]
    assert offered(trail, "object:health|", scope=scope)[0] == []


def test_what_is_offered_tells_nothing_of_a_person(trail):
    with_name = offered(trail, "by:nobody dag:|")

    assert with_name[0] == offered(trail, "dag:|")[0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('run:"manual |1" late', 'run:"manual 1"'),
        ('late run:"manual |', 'run:"manual '),
        ("late | dag:a", ""),
        ("la|te", "late"),
        ("|", ""),
    ],
    ids=["in a quotation", "in an open one", "between", "in a word", "in nothing"],
)
def test_the_word_around_the_caret_is_replaced(text, word):
    box = text.replace("|", "")

    found = place(box, text.index("|"))

    assert box[found.start : found.stop] == word


@pytest.mark.parametrize("at", [-5, 10**9], ids=["before", "behind"])
def test_a_caret_outside_of_the_box_is_held_within(at):
    found = place("dag:a", at)

    assert 0 <= found.start <= found.stop <= 5
