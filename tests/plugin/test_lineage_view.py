"""What a lineage's picture says, in shapes and in words."""

from __future__ import annotations

import pytest

from airflow_secure_ml.plugin.lineage_view import draw, short_digest, short_run
from airflow_secure_ml.plugin.rendering import fragment
from airflow_secure_ml.services.lineage_graph import READ, SAME, WROTE, Ended, Lineage, Link
from airflow_secure_ml.services.works import Version, Work

DIGEST = "sha256:" + "ab" * 32
DATA = Version(uri="s3://lake/visits.csv", digest=DIGEST)
MODEL = Version(uri="s3://models/visits.skops", digest="sha256:" + "cd" * 32)
TRAIN = Work(
    key="k", dag="training", run="r1", task="train", map_index=-1, number=1, ti="ti",
    event="ee:1", at_ms=1_795_316_400_000, is_try=True,
)  # fmt: skip


def link(source, target, kind, **more):
    return Link(source=source, target=target, kind=kind, event="ee:2", **{"is_sure": True, **more})


def lineage(**fields):
    found = {
        "starts": (DATA,), "versions": (DATA, MODEL),
        "works": (Ended(work=TRAIN, result="ok"),),
        "links": (link(DATA, "k", READ), link("k", MODEL, WROTE)),
        "more_before": frozenset(), "more_after": frozenset(),
    }  # fmt: skip
    return Lineage(**(found | fields))


def picture(found):
    template = "{% from '_lineage.html' import picture %}{{ picture(graph, 'a graph') }}"
    from airflow_secure_ml.plugin import rendering

    return rendering._templates().from_string(template).render(graph=draw(found))


def test_a_picture_says_who_made_what_of_what():
    view = draw(lineage())

    assert [node.lines[0] for node in view.nodes] == ["visits.csv", "visits.skops", "train"]
    assert [node.tone for node in view.nodes] == ["start", "", ""]
    assert [arrow.title for arrow in view.arrows] == ["read", "wrote"]


def test_the_table_says_the_same():
    [step] = draw(lineage()).steps

    assert [one.name for one in step.reads] == ["visits.csv"]
    assert [one.name for one in step.writes] == ["visits.skops"]
    assert (step.word, step.run_href) == ("finished", "run?dag_id=training&run_id=r1")


def test_an_end_names_the_runs_that_lead_to_it():
    [end] = draw(lineage()).ends

    assert end.version.name == "visits.skops"
    assert end.runs == (("training", "r1", "r1", "run?dag_id=training&run_id=r1"),)


def test_a_try_that_was_refused_is_red_and_says_so():
    node = draw(lineage(works=(Ended(work=TRAIN, result="refused"),))).nodes[2]

    assert (node.tone, "refused" in node.title) == ("bad", True)


def test_what_rests_on_an_address_is_dashed_and_says_so():
    found = lineage(links=(link(DATA, "k", READ, is_sure=False), link("k", MODEL, WROTE)))

    view = draw(found)

    assert (view.arrows[0].tone, view.is_unsure) == ("unsure", True)
    assert "no digest is recorded" in view.arrows[0].title


def test_equal_bytes_are_told_apart_from_a_deed():
    view = draw(lineage(links=(link(DATA, MODEL, SAME),), works=()))

    assert (view.arrows[0].tone, view.has_same) == ("same", True)


def test_where_it_goes_on_there_is_a_way_on():
    view = draw(lineage(more_after=frozenset([MODEL]), more_before=frozenset(["k"])))

    more = [node.href for node in view.nodes if node.kind == "more"]
    assert more == [
        "lineage?uri=s3%3A%2F%2Fmodels%2Fvisits.skops&digest=sha256%3A" + "cd" * 32,
        "run?dag_id=training&run_id=r1",
    ]
    assert view.is_cut


HOSTILE = (
    "</title></svg><script>alert(1)</script>",
    'x" onload="alert(1)',
    "<img src=x onerror=alert(1)>",
    "a\u202egnp.exe",
    "zero\u200bwidth\x1b[31m",
    "javascript:alert(1)",
)


@pytest.mark.parametrize(
    "name", HOSTILE, ids=["script", "attribute", "image", "bidi", "invisible", "scheme"]
)
def test_a_hostile_name_stays_text(name):
    work = Work(
        key="k", dag=name, run=name, task=name, map_index=-1, number=1, ti="ti",
        event="ee:1", at_ms=0, is_try=True,
    )  # fmt: skip
    data = Version(uri=name, digest=DIGEST)

    html = picture(
        lineage(
            starts=(data,), versions=(data, MODEL), works=(Ended(work=work, result="ok"),),
            links=(link(data, "k", READ), link("k", MODEL, WROTE)),
        )
    )  # fmt: skip

    assert "<script" not in html
    assert "<img" not in html
    assert ' onload="' not in html
    assert 'href="javascript' not in html
    assert not {"\u202e", "\u200b", "\x1b"} & set(html)


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ("scheduled__2026-11-27T02:00:00+00:00", "2026-11-27 02:00"),
        ("manual__2026-11-27T09:12:44.123456+00:00_x7", "2026-11-27 09:12"),
        ("scheduled__day-05", "scheduled__day-05"),
        ("\u202emanual", "\\u202emanual"),
    ],
    ids=["scheduled", "manual", "a name of somebody's", "hostile"],
)
def test_a_run_is_told_by_its_time(run, shown):
    assert short_run(run) == shown


def test_a_hidden_address_has_no_name_to_show():
    hidden = Version(uri="", digest=DIGEST)

    view = draw(lineage(versions=(hidden,), starts=(hidden,), works=(), links=()))

    assert view.nodes[0].lines == ("hidden address", "ababab…ababab")


@pytest.mark.parametrize(
    ("digest", "shown"),
    [(DIGEST, "sha256 ababab…ababab"), ("", "no digest recorded"), ("x", "no digest recorded")],
    ids=["digest", "none", "no digest"],
)
def test_a_digest_is_cut_in_the_middle(digest, shown):
    assert short_digest(digest) == shown


def test_the_page_of_nothing_says_what_would_be_there():
    empty = lineage(versions=(DATA,), works=(), links=())

    html = fragment(
        "lineage", page="Objects", pages=(), scope_whole=True, ignores_dags=False,
        graph=draw(empty), label="visits.csv",
        uri=DATA.uri, shown_digest="", way="", ways=[], object_href="object", versions=[],
    )  # fmt: skip

    assert "Nothing is known of where it comes from" in html
