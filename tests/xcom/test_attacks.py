"""Whoever may write the database or the keys' folder: what they can make a task believe.

That an older value of the very same place was put back is not noticed; it is said in the docs and
shown here.
"""

from __future__ import annotations

import base64

import pytest

from airflow_secure_ml.core.sealed_xcom import key_folder
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
)
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealed_values import seal_value

CANARY = "canary-90ab12"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"dag": "other"},
        {"run": "manual__2"},
        {"task": "evaluate"},
        {"key": "model"},
        {"at": 0},
    ],
    ids=["dag", "run", "task", "key", "map index"],
)
def test_a_value_moved_elsewhere_is_refused(bench, elsewhere):
    here = bench.put("mine")
    there = bench.put("theirs", **elsewhere)
    bench.rows[there], bench.rows[here] = bench.rows[here], bench.rows[there]

    with pytest.raises(SecureMLError) as moved:
        bench.get(**elsewhere)
    with pytest.raises(SecureMLError):
        bench.get()

    assert moved.value.why in ("context_differs", "key_missing")
    assert (bench.facts[-1].act, bench.facts[-1].result) == ("xcom.read", "refused")


def test_an_older_value_of_the_same_place_is_not_noticed(bench):
    at = bench.put("older")
    older = bench.rows[at]
    bench.put("newer")
    bench.rows[at] = older

    assert bench.get() == "older"


def test_every_flipped_bit_is_refused_without_the_value(bench):
    at = bench.put(CANARY)
    sealed = base64.b64decode(bench.rows[at]["sealed"])

    for position in range(0, len(sealed), 7):
        flipped = bytearray(sealed)
        flipped[position] ^= 1
        bench.rows[at] = {
            "secure_ml_xcom": 1,
            "sealed": base64.b64encode(bytes(flipped)).decode(),
        }
        with pytest.raises(SecureMLError) as caught:
            bench.get()
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 16, 100, 600], ids="cut={}".format)
def test_a_value_cut_short_is_refused(bench, cut):
    at = bench.put(CANARY)
    sealed = base64.b64decode(bench.rows[at]["sealed"])[:-cut]
    bench.rows[at] = {"secure_ml_xcom": 1, "sealed": base64.b64encode(sealed).decode()}

    with pytest.raises((CiphertextError, FormatError)):
        bench.get()


@pytest.mark.parametrize(
    "broken",
    [
        {"secure_ml_xcom": 2, "sealed": ""},
        {"secure_ml_xcom": True, "sealed": ""},
        {"secure_ml_xcom": 1},
        {"secure_ml_xcom": 1, "sealed": 3},
        {"secure_ml_xcom": 1, "sealed": "not base64!"},
        {"secure_ml_xcom": 1, "sealed": "", "more": 1},
        {"secure_ml_xcom": 1, "sealed": ""},
    ],
    ids=["version", "bool", "no bytes", "number", "base64", "more", "empty"],
)
def test_a_broken_envelope_is_no_plain_value(bench, broken):
    at = bench.put("hello")
    bench.rows[at] = broken

    with pytest.raises(FormatError):
        bench.get()


def test_values_of_a_mapped_task_cannot_be_exchanged(bench):
    first, second = bench.put("first", at=0), bench.put("second", at=1)
    bench.rows[first], bench.rows[second] = bench.rows[second], bench.rows[first]

    with pytest.raises(IntegrityError, match="copied or exchanged"):
        bench.get_all()
    with pytest.raises(IntegrityError, match="copied or exchanged"):
        bench.sequence()[0]
    with pytest.raises(IntegrityError, match="copied or exchanged"):
        bench.sequence()[0:2]
    with pytest.raises(PolicyError):
        bench.get(at=0)


def test_a_value_of_a_mapped_task_cannot_stand_in_for_another(bench):
    first, second = bench.put("first", at=0), bench.put("second", at=1)
    bench.rows[first] = bench.rows[second]

    with pytest.raises(IntegrityError, match="copied or exchanged"):
        bench.sequence()[0]
    with pytest.raises(IntegrityError, match="copied or exchanged"):
        bench.get_all()


def test_another_tasks_sequence_is_refused(bench):
    mine, theirs = bench.put("mine", at=0), bench.put("theirs", task="evaluate", at=0)
    bench.rows[mine] = bench.rows[theirs]

    with pytest.raises(PolicyError) as caught:
        list(bench.sequence())

    assert caught.value.why == "context_differs"


def test_gaps_in_a_mapped_task_are_no_attack(bench):
    for at in (0, 3, 7):
        bench.put(at, at=at)

    sequence = bench.sequence()

    assert list(sequence) == [0, 3, 7]
    assert (sequence[1], sequence[-1], sequence[-2]) == (3, 7, 3)
    assert (list(sequence[1:]), list(sequence[::-1])) == ([3, 7], [7, 3, 0])


def test_a_part_of_a_sequence_is_held_to_its_positions(bench):
    rows = [bench.put(at, at=at) for at in range(4)]
    first, second, third = (bench.rows[row] for row in rows[:3])
    bench.rows.update(zip(rows, (second, third, first), strict=False))

    for part in (slice(0, 2), slice(0, 1), slice(1, 2), slice(None, 2), slice(-4, -2)):
        with pytest.raises(IntegrityError, match="copied or exchanged"):
            bench.sequence()[part]


def test_a_mapped_task_with_a_gap_is_not_read_whole_for_each_value(bench):
    for at in range(1, 30):
        bench.put(at, at=at)
    before = len(bench.facts)

    assert list(bench.sequence()) == list(range(1, 30))

    intents = [f for f in bench.facts[before:] if f.phase == "intent"]
    assert len(intents) == 29 + 1 + 1


def test_values_from_before_within_a_mapped_task_are_no_attack(bench):
    rows = [bench.put(at, at=at) for at in (0, 2, 4)]
    bench.rows[rows[0]] = "before"

    sequence = bench.sequence()

    assert list(sequence) == ["before", 2, 4]
    assert (sequence[-1], sequence[0:2], sequence[-2:]) == (4, ["before", 2], [2, 4])


def test_the_end_of_a_sequence_is_an_index_error_and_no_failure(bench):
    bench.put("one", at=0)

    with pytest.raises(IndexError):
        bench.sequence()[1]

    assert [(f.phase, f.result, f.more.get("because")) for f in bench.facts[-2:]] == [
        ("intent", None, None),
        ("outcome", "ok", "absent"),
    ]


def test_sequences_of_another_back_end_are_left_alone(make_bench):
    from airflow.sdk.bases.xcom import BaseXCom

    bench = make_bench(BaseXCom)
    bench.put("plain", at=0)

    assert list(bench.sequence()) == ["plain"]
    assert bench.facts == []


@pytest.mark.parametrize("key", ["return_value", "skipmixin_key"])
def test_nothing_is_made_of_what_is_not_sealed(make_bench, serde, key):
    bench = make_bench(xcom_read_unsealed="false")
    bench.rows["churn", "manual__1", "train", key, -1] = serde.tuple

    with pytest.raises(FormatError, match="found an unsealed value"):
        bench.get(key=key)

    assert serde.made == []


@pytest.mark.parametrize("forged", ["run anything", {"skipped": "all"}, {"other": []}], ids=str)
def test_only_names_of_tasks_are_read_unsealed_under_the_schedulers_key(make_bench, forged):
    bench = make_bench(xcom_read_unsealed="false")
    bench.rows["churn", "manual__1", "train", "skipmixin_key", -1] = forged

    with pytest.raises(FormatError, match="found an unsealed value"):
        bench.get(key="skipmixin_key")


def test_a_class_that_airflow_does_not_allow_is_not_made_of_a_sealed_value_either(bench):
    from tests.xcom.test_backend import Point

    bench.put(Point(1, 2))

    with pytest.raises(ImportError, match="allow list"):
        bench.get()

    assert (bench.facts[-1].result, bench.facts[-1].why) == ("failed", "misconfigured")


def test_a_data_sets_key_of_the_same_dag_seals_no_xcom(bench):
    # Who may have a data set sealed in the DAG's name could otherwise make values for its tasks.
    root = bench.here.canonical(str(bench.here.settings.xcom_keys_dir))
    made = create_dataset_key(
        bench.here.objects,
        bench.here.objects.child(root, key_folder("churn")),
        keys=[bench.here.keys.wrapper("data")],
        context={"dag_id": "churn", "object": "file:///lake/table"},
    )
    context = {"dag_id": "churn", "object": "file:///lake/table"}
    sealed = seal_value(b'"forged"', key=made, context=context)
    bench.rows["churn", "manual__1", "train", "return_value", -1] = {
        "secure_ml_xcom": 1,
        "sealed": base64.b64encode(sealed).decode(),
    }

    with pytest.raises(PolicyError) as caught:
        bench.get()

    assert caught.value.why == "context_differs"


def test_another_dags_key_in_a_dags_folder_is_refused(bench):
    objects = bench.here.objects
    bench.put("theirs", dag="other")
    root = bench.here.canonical(str(bench.here.settings.xcom_keys_dir))
    theirs, mine = (f"{root}/{key_folder(dag)}/" for dag in ("other", "churn"))
    for address, data in list(objects.objects.items()):
        if address.startswith(theirs):
            objects.put(mine + address.removeprefix(theirs), data)

    with pytest.raises(PolicyError) as caught:
        bench.put("mine")

    assert caught.value.why == "context_differs"
    assert len(bench.rows) == 1


def test_a_lost_key_is_an_error_that_says_so(make_bench):
    bench = make_bench()
    bench.put("hello")
    rows = dict(bench.rows)

    elsewhere = make_bench()
    elsewhere.rows.update(rows)
    with pytest.raises(PolicyError) as caught:
        elsewhere.get()

    assert caught.value.why == "key_missing"


def test_a_pointer_to_nowhere_begins_no_second_key_in_silence(bench):
    bench.put("hello")
    objects = bench.here.objects
    name = next(address for address in objects.objects if address.endswith(".asmk"))
    objects.delete(name)
    bench.forget_keys()

    with pytest.raises(ConfigurationError, match="header is gone; restore it"):
        bench.put("again")


@pytest.mark.parametrize("dag", ["..", "../../etc", "a/b", ".", "ü" * 200, "x" * 250], ids=ascii)
def test_a_dags_name_never_leads_out_of_the_keys_folder(bench, dag):
    bench.put("hello", dag=dag)

    root = bench.here.canonical(str(bench.here.settings.xcom_keys_dir))
    folders = {
        address.removeprefix(root + "/").split("/")[0] for address in bench.here.objects.objects
    }
    assert folders == {key_folder(dag)}
    assert bench.get(dag=dag) == "hello"
    assert len(key_folder(dag).encode()) <= 255
