"""Large sealed values in an object store: provider common.io below the sealing back end."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.errors import IntegrityError, SecureMLError

CANARY = "canary-77aa01"
LARGE = {"text": CANARY * 500}


@pytest.fixture
def stored(tmp_path):
    return tmp_path / "xcom"


@pytest.fixture
def bench(make_bench, monkeypatch, stored):
    from airflow.providers.common.io.xcom import backend as common_io

    from airflow_secure_ml.xcom.object_storage import SealedObjectStorageXComBackend

    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{stored}")
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "3000")
    caches = [common_io._get_base_path, common_io._get_threshold, common_io._get_compression]
    for cache in caches:
        cache.cache_clear()
    yield make_bench(SealedObjectStorageXComBackend)
    for cache in caches:
        cache.cache_clear()


def files(stored):
    return [path for path in stored.rglob("*") if path.is_file()]


def test_a_large_value_lies_sealed_in_the_store_and_comes_back(bench, stored):
    at = bench.put(LARGE)

    (file,) = files(stored)
    assert bench.rows[at] == f"file://{file}"
    assert set(json.loads(file.read_text())) == {"secure_ml_xcom", "sealed"}
    assert CANARY not in file.read_text()
    assert bench.get() == LARGE


def test_a_small_value_stays_in_the_database(bench, stored):
    at = bench.put("small")

    assert set(bench.rows[at]) == {"secure_ml_xcom", "sealed"}
    assert files(stored) == []
    assert bench.get() == "small"


def test_what_the_scheduler_reads_is_never_put_away(bench, stored):
    names = [f"task_{number}" for number in range(1000)]

    at = bench.put({"skipped": names}, key="skipmixin_key")

    assert bench.rows[at] == {"skipped": names}
    assert files(stored) == []


def test_deleting_the_value_removes_the_object(bench, stored):
    bench.put(LARGE)

    bench.backend.delete(key="return_value", task_id="train", dag_id="churn", run_id="manual__1")

    assert (files(stored), bench.rows) == ([], {})


def test_an_object_moved_to_another_place_is_refused(bench, stored):
    mine, theirs = bench.put(LARGE), bench.put({"text": "theirs" * 900}, task="evaluate")
    bench.rows[mine] = bench.rows[theirs]

    with pytest.raises(SecureMLError) as caught:
        bench.get()

    assert caught.value.why == "context_differs"


def test_an_altered_object_is_refused(bench, stored):
    bench.put(LARGE)
    (file,) = files(stored)
    text = json.loads(file.read_text())
    middle = len(text["sealed"]) // 2
    flipped = "B" if text["sealed"][middle] == "A" else "A"
    text["sealed"] = text["sealed"][:middle] + flipped + text["sealed"][middle + 1 :]
    file.write_text(json.dumps(text))

    with pytest.raises(IntegrityError):
        bench.get()


def test_an_object_that_is_gone_is_an_error_and_not_its_address(bench, stored):
    bench.put(LARGE)
    files(stored)[0].unlink()

    with pytest.raises(IntegrityError, match="expected an object at its address"):
        bench.get()

    assert bench.facts[-1].result == "refused"


@pytest.mark.parametrize("text", ["", "no JSON", "[" * 100_000], ids=["empty", "word", "deep"])
def test_an_object_that_is_no_value_is_an_error(bench, stored, text):
    bench.put(LARGE)
    files(stored)[0].write_text(text)

    with pytest.raises(IntegrityError, match="expected an object at its address"):
        bench.get()


def test_no_address_leads_out_of_the_store(bench, stored):
    outside = stored.parent / "outside.json"
    outside.write_text('"of somebody else"')
    at = bench.put(LARGE)
    bench.rows[at] = f"file://{stored}/../outside.json"

    with pytest.raises(IntegrityError, match="leads out of"):
        bench.get()
    with pytest.raises(IntegrityError, match="leads out of"):
        bench.backend.delete(
            key="return_value", task_id="train", dag_id="churn", run_id="manual__1"
        )

    assert outside.exists()


def test_nothing_is_made_of_an_object_that_is_not_sealed(make_bench, bench, stored, serde):
    at = bench.put(LARGE)
    files(stored)[0].write_text(json.dumps(serde.tuple))
    strict = make_bench(bench.backend, xcom_read_unsealed="false")
    strict.rows[at] = bench.rows[at]

    with pytest.raises(SecureMLError) as caught:
        strict.get()

    assert caught.value.why == "not_sealed"
    assert serde.made == []


def test_values_that_the_official_back_end_stored_are_read(bench, stored):
    from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

    for task, value in (("small", {"a": 1}), ("large", LARGE)):
        XComObjectStorageBackend.set(
            "return_value", value, dag_id="churn", task_id=task, run_id="manual__1"
        )

    assert [bench.get(task="small"), bench.get(task="large")] == [{"a": 1}, LARGE]
    assert bench.facts[-1].more["because"] == "unsealed"
