"""Runs that write and read directories in S3, on a real server."""

from __future__ import annotations

import json

import pytest
from botocore.config import Config

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.errors import PolicyError, SecureMLError
from airflow_secure_ml.services.run_plan import Input, Output, Pin

pytestmark = pytest.mark.s3
FILES = {"a.csv": "first a", "b/c.csv": "first c"}
NEXT = {"a.csv": "next a", "b/c.csv": "next c", "d.csv": "next d"}


@pytest.fixture
def client(s3):
    return s3.client(
        config=Config(
            s3={"addressing_style": "path"},
            max_pool_connections=32,
            request_checksum_calculation="when_required",
        )
    )


@pytest.fixture
def uri(s3):
    return f"s3://{s3.new_bucket(versioned=True)}/sets/day"


@pytest.fixture
def bench(bench, client):
    bench.__dict__["s3_objects"] = S3Objects(lambda bucket: client)
    return bench


@pytest.fixture
def write(bench, plan, uri):
    def write(files, **where):
        def body(bound):
            for name, text in files.items():
                path = bound["day"] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

        made = plan(outputs=[Output(name="day", uri=uri)], **{"task_id": "put", **where})
        return bench.run(made, body)["day"]

    return write


@pytest.fixture
def read(bench, plan, uri):
    def read(**how):
        found = {}

        def body(bound):
            root = bound["day"]
            found.update(
                {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}
            )

        bench.run(plan(inputs=[Input(name="day", uri=uri, **how)], task_id="read"), body)
        return found

    return read


def _pin(reference):
    return Pin(digest=reference["digest"], by="reference", dag_id="churn", run_id="r1")


def _listing(client, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    where = {"Bucket": bucket, "Key": f"{key}/_asml/listing"}
    return where, client.get_object(**where)["Body"].read()


def _forge(client, uri, change):
    where, data = _listing(client, uri)
    record = json.loads(data)
    change(record["files"])
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    client.put_object(**where, Body=text.encode())


def test_a_directory_is_read_by_its_reference_and_by_its_address(write, read, client, uri):
    reference = write(FILES)

    assert reference["uri"] == uri
    assert read(pin=_pin(reference)) == FILES
    assert read() == FILES
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    stored = client.get_object(Bucket=bucket, Key=f"{key}/a.csv")["Body"].read()
    assert stored.startswith(b"\x89ASML")
    assert b"first" not in stored


def test_the_same_task_replaces_its_directory_and_another_does_not(write, read, bench):
    first = write(FILES)
    second = write(NEXT, run_id="r2")

    assert second["digest"] != first["digest"]
    assert read() == NEXT
    with pytest.raises(PolicyError) as caught:
        write(FILES, task_id="somebody")
    assert caught.value.why == "address_taken"
    assert read() == NEXT


def test_a_retry_goes_on_where_a_killed_try_left_off(write, read, bench, client, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    killed = bench.s3_objects.create_directory(uri)
    for name in ("a.csv", "left.csv"):
        with killed.create(name) as writer:
            writer.write_at(0, b"half")
            writer.commit(replace=False)

    write(FILES)

    assert read() == FILES
    versions = client.list_object_versions(Bucket=bucket, Prefix=f"{key}/")["Versions"]
    names = sorted(each["Key"].removeprefix(f"{key}/") for each in versions)
    assert [name for name in names if "_asml" not in name] == ["a.csv", "b/c.csv"]
    assert sum(name.endswith(".asmk") for name in names) == 1


def test_a_refused_run_leaves_the_directory_that_was_there(write, read, bench, plan, uri):
    write(FILES)
    other = Output(name="day", uri=uri)

    def body(bound):
        bound["day"].mkdir()
        (bound["day"] / "a.csv").write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        bench.run(plan(outputs=[other], task_id="put"), body)

    assert read() == FILES


def test_a_listing_rolled_back_is_refused_where_a_reference_pins_the_newer(
    write, read, client, uri
):
    write(FILES)
    where, old = _listing(client, uri)
    newer = write(NEXT)
    client.put_object(**where, Body=old)

    with pytest.raises(SecureMLError) as caught:
        read(pin=_pin(newer))
    assert caught.value.why == "digest_differs"


@pytest.mark.parametrize("how", ["mixed", "swapped", "fewer", "more"])
def test_a_forged_listing_ends_in_a_refusal(write, read, client, uri, how):
    write(FILES)
    _, old = _listing(client, uri)
    write({name: f"{text}!" for name, text in FILES.items()})
    old = json.loads(old)["files"]

    def change(files):
        if how == "mixed":
            files["a.csv"] = old["a.csv"]
        elif how == "swapped":
            files["a.csv"], files["b/c.csv"] = files["b/c.csv"], files["a.csv"]
        elif how == "fewer":
            del files["a.csv"]
        else:
            files["copy.csv"] = files["a.csv"]

    _forge(client, uri, change)

    with pytest.raises(SecureMLError):
        read()


def test_what_strangers_put_there_is_not_read(write, read, client, uri):
    write(FILES)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client.put_object(Bucket=bucket, Key=f"{key}/a.csv", Body=b"evil")
    client.put_object(Bucket=bucket, Key=f"{key}/more.csv", Body=b"evil")

    assert read() == FILES


@pytest.mark.parametrize("count", [5000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_small_files_cost_a_few_requests_each(write, read, client, uri, count):
    made = []
    client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    files = {f"{number % 16:02}/{number:06}": str(number) for number in range(count)}

    write(files)
    written = made.copy()
    made.clear()
    found = read()

    assert found == files
    # Each file one upload; the rest is listing, key, statement and looks.
    assert written.count("PutObject") <= count + 6
    assert len(written) <= count + 40
    # Once for its header, once to be opened; the listing and the statement, which grow with their
    # number, come in pieces of some MiB.
    assert made.count("GetObject") <= 2 * count + 20 + count // 2000
    assert len(made) <= 2 * count + 40 + count // 2000
