"""Lineage: from a model back to its data and on again, and what it keeps to itself."""

from __future__ import annotations

import pytest

from airflow_secure_ml.services.lineage import Limits, trace
from airflow_secure_ml.services.lineage_ends import ends_of
from airflow_secure_ml.services.lineage_graph import SAME
from tests.plugin.generator import LAKE, TRAINING, digest, fill, run_id
from tests.services.lineage.conftest import version

A, B, C, D = (f"s3://lake/{name}.csv" for name in "abcd")


def uris(found):
    return {one.uri for one in found.versions}


def tasks(found):
    return {ended.work.task for ended in found.works}


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """The log of three days of the generator's hospital."""
    from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader

    folder = tmp_path_factory.mktemp("week")
    (folder / "audit").mkdir()
    fill(folder / "audit", folder / "signer", days=3, end_ms=1_795_316_400_000)
    return SqliteAuditReader(folder / "audit" / LOG_FILE)


MODEL = "file:///srv/models/visits-01.skops"
DROP, RAW = "file:///srv/drop/visits-01.csv", f"{LAKE}/raw-01.csv"
FEATURES = f"{LAKE}/features-01.csv"


def test_a_model_leads_back_to_its_raw_data(week):
    found = trace(week, [version(MODEL, MODEL)], dags=None, down=False)

    assert uris(found) == {DROP, RAW, FEATURES, MODEL}
    assert tasks(found) == {"ingest", "features", "train"}
    assert {ended.work.run for ended in found.works} == {run_id(1)}
    assert not found.is_cut


def test_raw_data_leads_on_to_the_model_and_the_runs_between(week):
    found = trace(week, [version(DROP)], dags=None, up=False)

    [made] = ends_of(found)
    works = {ended.work.key: ended.work for ended in found.works}
    assert made.version == version(MODEL, MODEL)
    assert {works[key].task for key in made.works} == {"ingest", "features", "train"}
    assert {works[key].dag for key in made.works} == {TRAINING}


def test_both_directions_meet_in_the_middle(week):
    found = trace(week, [version(FEATURES, FEATURES)], dags=None)

    assert uris(found) == {DROP, RAW, FEATURES, MODEL}
    assert tasks(found) == {"ingest", "features", "train", "score"}


def test_other_bytes_at_the_address_are_another_version(told):
    told.task("d", "first", writes=[(A, "old")])
    told.task("d", "uses_old", reads=[(A, "old")], writes=[(B, "b")])
    told.task("d", "second", writes=[(A, "new")], run="r2")
    told.task("d", "uses_new", reads=[(A, "new")], writes=[(C, "c")], run="r2")

    found = trace(told.store(), [version(C, "c")], dags=None)

    assert tasks(found) == {"second", "uses_new"}
    assert version(A, "old") not in found.versions


def test_who_was_refused_has_not_used_it(told):
    told.task("d", "makes", writes=[(A, "a")])
    told.task("d", "denied", refused=[(A, "a")])

    found = trace(told.store(), [version(A, "a")], dags=None)

    assert tasks(found) == {"makes"}


def test_what_was_refused_went_into_nothing(told):
    told.task("d", "makes", writes=[(A, "a")])
    told.task("d", "tries", reads=[(B, "b")], refused=[(A, "wrong")], writes=[(C, "c")])

    found = trace(told.store(), [version(C, "c")], dags=None)

    assert uris(found) == {B, C}


def test_of_two_writes_the_last_before_the_read_counts(told):
    told.task("d", "early", writes=[(A, "a")])
    told.task("d", "late", writes=[(A, "a")])
    told.task("d", "reads", reads=[(A, "a")], writes=[(B, "b")])
    told.task("d", "too_late", writes=[(A, "a")])

    found = trace(told.store(), [version(B, "b")], dags=None, down=False)

    assert tasks(found) == {"late", "reads"}


def test_each_try_stands_for_itself(told):
    told.task("d", "mapped", reads=[(A, "a")], writes=[(C, "c")], map_index=0)
    told.task("d", "mapped", reads=[(B, "b")], writes=[(D, "d")], map_index=1)

    found = trace(told.store(), [version(D, "d")], dags=None)

    assert uris(found) == {B, D}


def test_a_plain_input_is_followed_by_its_address_and_said_to_be(told):
    told.task("d", "makes", writes=[(A, "a")])
    told.task("d", "reads", plain=[A], writes=[(B, "b")])

    found = trace(told.store(), [version(B, "b")], dags=None)

    assert tasks(found) == {"makes", "reads"}
    unsure = [link for link in found.links if not link.is_sure]
    assert len(unsure) == 2
    assert {one for link in unsure for one in (link.source, link.target)} >= {version(A)}


def test_the_same_bytes_elsewhere_are_said_to_be_that(told):
    told.task("d", "makes", writes=[(A, "a")])
    told.task("d", "reads", reads=[(B, "a")], writes=[(C, "c")])
    store = told.store()

    up = trace(store, [version(C, "c")], dags=None, down=False)
    down = trace(store, [version(A, "a")], dags=None, up=False)

    for found in (up, down):
        [same] = [link for link in found.links if link.kind == SAME]
        assert (same.source, same.target) == (version(A, "a"), version(B, "a"))
        assert version(C, "c") in found.versions


def test_bytes_that_two_tasks_made_alike_do_not_join_them(told):
    told.task("d", "one", writes=[(A, "empty")])
    told.task("d", "other", writes=[(B, "empty")])
    told.task("d", "reads", reads=[(B, "empty")], writes=[(C, "c")])

    found = trace(told.store(), [version(A, "empty")], dags=None)

    assert uris(found) == {A}


def test_sealing_anew_leads_from_the_old_bytes_to_the_new(told):
    told.task("d", "makes", writes=[(A, "old")])
    told.act(A, "new", replaced=digest("old"))
    told.act(B, "other", replaced=digest("other before"))

    found = trace(told.store(), [version(A, "new")], dags=None)

    assert set(found.versions) == {version(A, "new"), version(A, "old")}
    assert tasks(found) == {"makes", ""}


def test_a_circle_ends(told):
    told.task("d", "stamps", reads=[(A, "a")], writes=[(A, "a"), (B, "b")])
    told.task("d", "returns", reads=[(B, "b")], writes=[(A, "a")])

    found = trace(told.store(), [version(A, "a")], dags=None)

    assert tasks(found) == {"stamps", "returns"}
    assert uris(found) == {A, B}


def test_more_readers_than_are_shown_are_said_to_be_there(told):
    told.task("d", "makes", writes=[(A, "a")])
    for number in range(4):
        told.task("d", f"reads_{number}", reads=[(A, "a")])

    found = trace(told.store(), [version(A, "a")], dags=None, limits=Limits(fan=3))

    assert found.more_after == {version(A, "a")}
    assert len(found.works) == 4


def test_a_way_that_goes_on_is_said_to(told):
    told.task("d", "one", writes=[(A, "a")])
    told.task("d", "two", reads=[(A, "a")], writes=[(B, "b")])
    told.task("d", "three", reads=[(B, "b")], writes=[(C, "c")])
    store = told.store()

    up = trace(store, [version(C, "c")], dags=None, down=False, limits=Limits(steps=1))
    down = trace(store, [version(A, "a")], dags=None, up=False, limits=Limits(steps=1))

    assert (uris(up), up.more_before) == ({B, C}, {version(B, "b")})
    assert (uris(down), down.more_after) == ({A, B}, {version(B, "b")})


def test_a_graph_has_no_more_nodes_than_it_may(told):
    told.task("d", "makes", writes=[(A, "a")])
    for number in range(6):
        told.task("d", f"t{number}", reads=[(A, "a")], writes=[(f"{B}{number}", f"b{number}")])

    found = trace(told.store(), [version(A, "a")], dags=None, limits=Limits(nodes=6))

    assert len(found.versions) + len(found.works) == 6
    assert found.is_cut


@pytest.fixture
def two_teams(told):
    """Health makes A; billing makes B of it; health makes C of that."""
    told.task("health", "makes", writes=[(A, "a")])
    told.task("billing", "bills", reads=[(A, "a")], writes=[(B, "b")])
    told.task("health", "learns", reads=[(B, "b")], writes=[(C, "c")])
    return told


def test_what_another_dag_did_to_the_same_data_does_not_show(two_teams):
    """A reader could have a task of theirs name anything, and see who else knows it."""
    found = trace(two_teams.store(), [version(B, "b")], dags=("billing",))
    for number in range(3):
        two_teams.task("health", f"more_{number}", reads=[(B, "b")], writes=[(D, str(number))])
    two_teams.task("health", "copies", writes=[(D, "b")])

    after = trace(two_teams.store(), [version(B, "b")], dags=("billing",))

    assert {ended.work.dag for ended in found.works} == {"billing"}
    assert uris(found) == {A, B}
    assert after == found


def test_of_what_no_event_of_theirs_names_a_reader_learns_nothing(two_teams):
    store = two_teams.store()

    found = trace(store, [version(C, "c")], dags=("billing",))
    absent = trace(store, [version("s3://lake/never.csv", "never")], dags=("billing",))

    assert found == absent
    assert not found.versions


def test_a_plain_input_of_another_dag_is_told_to_nobody_else(told):
    told.task("health", "reads", plain=[A], writes=[(B, "b")])

    found = trace(told.store(), [version(A)], dags=("billing",))

    assert not found.versions


def test_a_forged_task_instance_does_not_join_two_dags(told):
    ti = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"
    from airflow_secure_ml.core.audit.event import Fact, RunRef
    from tests.services.lineage.conftest import of

    for dag, act, place in (("d", "object.open", (A, "a")), ("e", "object.publish", (B, "b"))):
        ref = RunRef(dag=dag, run="r", task="t", try_number=1, ti=ti)
        spool = told.story.spool("task", ref)
        asked = spool.record(Fact(act="task.secure", phase="intent", more={"operator": "x"}))
        fact = Fact(act=act, phase="outcome", result="ok", of=asked, object=of(*place))
        spool.record(fact)
        spool.settle()
        spool.close()

    found = trace(told.store(), [version(A, "a")], dags=None)

    assert uris(found) == {A}
