"""Objects and keys in words: leave, versions, runs, leases."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.plugin import keys_view, objects_view, principals_view
from airflow_secure_ml.services.lease_lives import life_of

LAKE = "file:///srv/lake/health"
RAW = f"{LAKE}/raw-01.csv"


@pytest.fixture
def store(trail):
    return trail.store


def leaf(act, seq=1, **fields):
    event = {"act": act, "phase": "outcome", "result": "ok", "emitter": "ee", "seq": seq, "time": 9}
    return Leaf(index=seq, data=b"{}", hash=b"", event=event | fields)


def test_an_access_names_the_rule_the_key_and_the_signer(store):
    leaves = store.page(EventQuery(uri=RAW, acts=("object.open", "object.verify")), limit=50)

    [access] = objects_view.accesses(leaves, store, None)

    assert (access.rule, access.key, access.signer) == ("allowed by health", "data/3", "pipeline/2")
    assert access.run_href == "run?dag_id=secure_training&run_id=scheduled__day-01"


def test_a_refusal_is_an_access_that_was_tried(store):
    uri = f"{LAKE}/refused/plain_file.csv"

    found = objects_view.accesses(store.page(EventQuery(uri=uri, acts=("object.",))), store, None)

    assert [access.row.sentence for access in found] == ["refused to open table: it is not sealed"]


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"object": {"uri": "u/x"}, "more": {"action": "read"}}, "allowed by r"),
        ({"more": {"action": "read", "prefix": "u/"}}, "allowed by r"),
        ({"more": {"action": "read", "prefix": "other/"}}, ""),
        ({"object": {"uri": "u/y"}, "more": {"action": "read", "prefix": "u/"}}, ""),
        ({"object": {"uri": "u/x"}, "more": {"action": "write"}}, ""),
    ],
    ids=["the object", "its folder", "another folder", "another object", "for writing"],
)
def test_a_rule_counts_if_it_speaks_of_the_object(decision, said):
    rule = {"rule": {"id": "r", "decision": "allow"}, **decision}

    assert objects_view.rule_of({"object": {"uri": "u/x"}}, [rule]) == said


def test_a_version_says_who_wrote_it_and_with_which_keys(store):
    leaves = store.page(EventQuery(uri=RAW, acts=objects_view.LIFE), limit=50)

    [version] = objects_view.versions(leaves, RAW, "")

    assert (version.by, version.key, version.signer) == (
        "secure_training.ingest", "data/3", "pipeline/2",
    )  # fmt: skip
    assert (version.size, version.rows) == ("3.2 MB", "20,190")


def test_the_runs_that_used_a_key_are_told_once_each(store):
    leaves = store.page(EventQuery(key="models"), limit=500)

    uses = keys_view.run_uses(leaves, "models", "3")

    assert [(use.run, use.tasks, use.uses) for use in uses] == [
        (f"scheduled__day-{day:02d}", "train", "sealed 1") for day in (2, 1, 0)
    ]


def test_a_use_that_failed_is_counted_apart():
    run = {"dag": "d", "run": "r", "task": "t"}
    bad = leaf("object.open", run=run, result="refused", why="key_disabled", key={"name": "k"})

    [use] = keys_view.run_uses([bad, leaf("object.open", run=run, key={"name": "k"})], "k", "")

    assert (use.uses, use.refused) == ("opened 1", 1)


@pytest.mark.parametrize("run", [None, "x", {"dag": 7}], ids=["none", "text", "number"])
def test_a_use_outside_of_a_run_leads_to_its_event(run):
    [use] = keys_view.run_uses([leaf("object.seal", run=run, key={"name": "k"})], "k", "")

    assert (use.dag, use.href) == ("", "event?name=ee%3A1")


def test_versions_are_told_from_the_highest_down():
    names = ("9", "10", "2")
    leaves = [leaf("object.open", key={"name": "k", "version": name}) for name in names]

    assert keys_view.versions_in(leaves) == ["10", "9", "2"]


def test_a_lease_that_may_be_alive_is_red_and_says_so():
    grant = leaf("lease.grant", lease={"path": "p", "id": "sha256:" + "0" * 64, "ttl_s": 900}).event

    row = keys_view.lease_row(life_of(grant, [], now_ms=10))

    assert (row.mark.tone, row.mark.word) == ("bad", "not revoked, may be alive")
    assert row.lives == "15 min"


def test_what_a_dag_did_is_told_with_links(store):
    query = EventQuery(dag="secure_training")

    view = principals_view.tell(store, query, principals_view.DAG, "secure_training")

    tallies = {tally.title: {row.label for row in tally.rows} for tally in view.tallies}
    assert tallies["Keys"] == {"data", "models", "pipeline"}
    assert "raw-01.csv" in tallies["Wrote"]
    assert tallies["Tasks"] == {"ingest", "features", "train", "score"}


def test_workers_are_told_with_their_programs(store):
    opened = store.page(EventQuery(acts=("emitter.open",)), limit=1000)

    [worker] = principals_view.workers(opened)

    assert {"task", "secure-ml"} <= set(worker.programs.split(", "))


def test_a_machine_whose_name_is_hidden_is_not_told():
    hidden = leaf("emitter.open", more={"host": {"h": "00", "n": 3}})

    assert principals_view.workers([hidden]) == []
