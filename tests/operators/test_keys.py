"""What each operator of a rotation does; run as a worker would, over ports in memory."""

from __future__ import annotations

import io

import pendulum
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import PolicyError, ServiceUnavailableError
from airflow_secure_ml.operators import (
    FindSealedOperator,
    KeyUsageOperator,
    RewrapArtifactOperator,
    RotateKeyOperator,
)
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.testing.ports import MemoryTransit

TABLE = b"age,visits\n54,3\n41,0\n"


@pytest.fixture
def run(secure_ml):
    """Run one operator in a DAG."""

    def call(make, **options):
        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            made = make()
        return secure_ml.run(made or dag.tasks[0], **options)

    return call


def rotate(key="data"):
    return lambda: RotateKeyOperator(task_id="t", key=key)


def rewrap(prefix="/lake", key="data"):
    return lambda: RewrapArtifactOperator(task_id="t", prefix=prefix, key=key)


def usage(*prefixes, key="data", **options):
    given = list(prefixes) or ["/lake"]
    return lambda: KeyUsageOperator(task_id="t", key=key, prefixes=given, **options)


def recorded(secure_ml, act):
    return [(e.phase, e.outcome, e.why) for e in secure_ml.events if e.act == act]


def states(secure_ml, name="data"):
    return [each.state for each in secure_ml.keys.versions(name)]


def test_rotate_makes_a_version_and_says_which(secure_ml, run):
    done = run(rotate())

    assert done.returned == {"key": "data", "version": 2}
    assert states(secure_ml) == ["retired", "active"]
    assert recorded(secure_ml, "key.rotate") == [("intent", None, None), ("outcome", "ok", None)]
    assert recorded(secure_ml, "task.secure") == [("intent", None, None), ("outcome", "ok", None)]


def test_a_key_that_signs_is_rotated_too(secure_ml, run):
    assert run(rotate("pipeline")).returned == {"key": "pipeline", "version": 2}


def test_the_keys_name_is_a_template(secure_ml, run):
    assert run(rotate("{{ 'da' ~ 'ta' }}")).returned == {"key": "data", "version": 2}


@pytest.mark.parametrize("make", [rotate, lambda key: rewrap(key=key), lambda key: usage(key=key)])
def test_a_missing_key_is_refused_and_not_retried(secure_ml, run, make):
    secure_ml.put("/lake/a.csv", TABLE)

    done = run(make("nokey"))

    assert isinstance(done.error, PolicyError)
    assert isinstance(done.error, AirflowFailException)
    assert done.error.why == "key_missing"
    assert recorded(secure_ml, "task.secure")[-1] == ("outcome", "refused", "key_missing")


def test_rewrap_gives_what_lies_below_the_newest_version_and_its_signature_holds(secure_ml, run):
    secure_ml.put("/lake/a.csv", TABLE)
    secure_ml.put("/lake/b.csv", TABLE, key="other")
    run(rotate())

    done = run(rewrap())

    assert done.returned == {
        "prefix": "file:///lake",
        "key": "data",
        "version": 2,
        "rewrapped": 1,
        "already": 0,
        "others": 1,
    }
    # It demands a signature of this very object.
    assert secure_ml.open("/lake/a.csv") == TABLE
    assert recorded(secure_ml, "object.rewrap") == [("intent", None, None), ("outcome", "ok", None)]


def test_rewrap_is_mapped_over_prefixes(secure_ml, run):
    for folder in ("raw", "features"):
        secure_ml.put(f"/lake/{folder}/a.csv", TABLE)
    run(rotate())

    def mapped():
        prefixes = ["/lake/raw", "/lake/features"]
        return RewrapArtifactOperator.partial(task_id="t", key="data").expand(prefix=prefixes)

    with DAG("m", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        mapped()
    done = [
        secure_ml.run(dag.get_task("t"), prefix=prefix, key="data", map_index=index)
        for index, prefix in enumerate(["/lake/raw", "/lake/features"])
    ]

    assert [each.returned["rewrapped"] for each in done] == [1, 1]


def test_rewrap_fails_at_the_end_when_one_object_is_broken_and_the_others_are_done(secure_ml, run):
    secure_ml.put("/lake/a.csv", TABLE)
    secure_ml.put("/lake/b.csv", TABLE)
    broken = bytearray(deployment().objects.objects["file:///lake/a.csv"])
    broken[9] = 0x77
    deployment().objects.put("file:///lake/a.csv", bytes(broken))
    run(rotate())

    done = run(rewrap())

    assert "1 of 2 sealed objects were not rewrapped" in str(done.error)
    assert isinstance(done.error, AirflowFailException)
    assert [e.outcome for e in secure_ml.events if e.act == "object.rewrap" and e.outcome] == [
        "refused",
        "ok",
    ]


def test_rewrap_is_blind_where_the_key_lies_elsewhere(secure_ml, run, monkeypatch):
    elsewhere = MemoryTransit()
    monkeypatch.setattr(deployment(), "keys", elsewhere)
    with deployment().objects.create("file:///lake/a.csv") as writer:
        keys = [elsewhere.wrapper("data")]
        seal_object(io.BytesIO(TABLE), writer, keys=keys, context={"object": "a"})
        writer.commit(replace=False)

    rotated, rewrapped = run(rotate()), run(rewrap())

    assert rotated.returned == {"key": "data", "version": 2}
    assert (rewrapped.returned["rewrapped"], elsewhere.calls) == (1, [1])


def test_a_key_system_that_does_not_answer_is_retried(secure_ml, run, monkeypatch):
    def silent(name):
        raise ServiceUnavailableError(service="vault", action="rotate", reason="no answer")

    monkeypatch.setattr(deployment().keys, "rotate", silent)

    done = run(rotate())

    assert isinstance(done.error, ServiceUnavailableError)
    assert not isinstance(done.error, AirflowFailException)
    assert recorded(secure_ml, "key.rotate")[-1] == ("outcome", "failed", "service_unavailable")


def test_usage_counts_and_changes_nothing_unless_it_is_asked_to(secure_ml, run):
    secure_ml.put("/lake/a.csv", TABLE)
    run(rotate())
    secure_ml.put("/lake/b.csv", TABLE)

    done = run(usage())

    assert done.returned["versions"] == [
        {"version": 1, "state": "retired", "files": 1},
        {"version": 2, "state": "active", "files": 1},
    ]
    assert done.returned["retired_below"] is None
    assert states(secure_ml) == ["retired", "active"]
    assert recorded(secure_ml, "key.disable") == []


@pytest.mark.parametrize("asked", [True, "true", "{{ True }}"])
def test_versions_are_retired_after_the_rewrap_and_not_before(secure_ml, run, asked):
    secure_ml.put("/lake/a.csv", TABLE)
    run(rotate())

    before = run(usage(retire_unused=asked))
    run(rewrap())
    after = run(usage(retire_unused=asked))

    assert [each.returned["retired_below"] for each in (before, after)] == [None, 2]
    assert states(secure_ml) == ["disabled", "active"]
    assert secure_ml.open("/lake/a.csv") == TABLE


def test_keys_of_sealed_xcom_values_count_where_this_key_wraps_them(secure_ml, run):
    here = deployment()
    folder = here.canonical(str(here.settings.xcom_keys_dir))
    secure_ml.put("/lake/a.csv", TABLE)
    secure_ml.put(f"{folder}/some_dag/value", TABLE)
    run(rotate())
    run(rewrap())

    done = run(usage(retire_unused=True))

    # The values' keys still need version 1, and nobody had to think of them.
    assert done.returned["retired_below"] is None
    assert {place["uri"] for place in done.returned["places"]} == {"file:///lake", folder}
    assert states(secure_ml) == ["retired", "active"]


@pytest.mark.parametrize(
    "make",
    [
        rotate(""),
        rewrap(prefix=""),
        rewrap(prefix="/lake/*"),
        rewrap(prefix=["/lake"]),
        usage(retire_unused="perhaps"),
        lambda: KeyUsageOperator(task_id="t", key="data", prefixes=[]),
        lambda: KeyUsageOperator(task_id="t", key={"key": "data"}, prefixes="/lake"),
    ],
    ids=["no-key", "no-prefix", "glob", "list", "perhaps", "no-prefixes", "record-as-key"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(secure_ml, run, make):
    secure_ml.put("/lake/a.csv", TABLE)

    done = run(make)

    assert isinstance(done.error, AirflowFailException)
    assert done.error.why == "misconfigured"
    assert states(secure_ml) == ["active"]
    assert recorded(secure_ml, "task.secure")[-1] == ("outcome", "refused", "misconfigured")


def test_one_prefix_may_stand_alone_or_come_from_a_template(secure_ml, run):
    secure_ml.put("/lake/2026-01-01/a.csv", TABLE)

    done = run(lambda: KeyUsageOperator(task_id="t", key="data", prefixes="/lake/{{ ds }}"))

    assert done.returned["sealed_files"] == 1


def test_places_to_rewrap_are_addresses_for_a_mapped_task(secure_ml, run):
    secure_ml.put("/lake/notes/a.csv", TABLE)
    secure_ml.put("/lake/others/b.csv", TABLE, key="other")
    run(rotate())
    secure_ml.put("/lake/new/c.csv", TABLE)

    done = run(lambda: FindSealedOperator(task_id="t", prefix="/lake", key="data"))

    assert done.returned == [deployment().canonical("/lake/notes")]
