"""Directories in S3: whole or not at all, whoever writes, and nothing that is not listed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.sealed_walk import addresses_below, objects_below

FILES = {"a.csv": b"first a", "b/c.csv": b"first c", "gone.csv": b"first gone"}
NEXT = {"a.csv": b"next a", "b/c.csv": b"next c", "new.csv": b"next new"}


@pytest.fixture
def client(s3):
    # A body that the client itself cuts into chunks leaves the server's connection out of step.
    return s3.client(
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        )
    )


@pytest.fixture
def versioned(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture
def unversioned(s3):
    return s3.new_bucket()


@pytest.fixture
def write(store):
    def write(uri, files, *, replace=False):
        with store.create_directory(uri) as builder:
            _fill(builder, files)
            return builder.commit(replace=replace)

    return write


@pytest.fixture
def read(store):
    def read(uri):
        with store.open_directory(uri) as directory:
            return {name: _bytes_of(directory, name) for name in directory.names()}

    return read


def _fill(builder, files):
    for name, data in files.items():
        with builder.create(name) as writer:
            writer.write_at(0, data)
            writer.commit(replace=False)


def _bytes_of(directory, name):
    with directory.open(name) as pinned:
        return pinned.read_at(0, pinned.size_bytes)


def _listing(client, bucket, root="d"):
    return json.load(client.get_object(Bucket=bucket, Key=f"{root}/_asml/listing")["Body"])


def _forge(client, bucket, change, root="d"):
    record = _listing(client, bucket, root)
    change(record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    client.put_object(Bucket=bucket, Key=f"{root}/_asml/listing", Body=text.encode())


def _versions(client, bucket):
    """Key and VersionId of every version of a file that is there; keys of directories apart."""
    page = client.list_object_versions(Bucket=bucket)
    found = {(each["Key"], each["VersionId"]) for each in page.get("Versions", [])}
    return {one for one in found if not one[0].endswith("_asml/listing")}


def test_files_lie_at_their_own_keys_for_other_programs(write, client, bucket):
    write(f"s3://{bucket}/d", FILES)

    keys = {each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {"d/a.csv", "d/b/c.csv", "d/gone.csv", "d/_asml/listing"}
    assert client.get_object(Bucket=bucket, Key="d/a.csv")["Body"].read() == b"first a"


def test_readers_have_the_old_directory_until_the_new_one_is_whole(
    store, write, read, client, versioned
):
    uri = f"s3://{versioned}/d"
    write(uri, FILES)
    with store.open_directory(uri) as before, store.create_directory(uri) as builder:
        _fill(builder, NEXT)

        assert read(uri) == FILES
        builder.commit(replace=True)
        assert read(uri) == NEXT
        assert {name: _bytes_of(before, name) for name in before.names()} == FILES

    keys = {each["Key"] for each in client.list_objects_v2(Bucket=versioned)["Contents"]}
    assert "d/gone.csv" not in keys


def test_an_aborted_replacement_leaves_everything_as_it_was(store, write, read, client, versioned):
    uri = f"s3://{versioned}/d"
    version = write(uri, FILES)
    before = _versions(client, versioned)
    with store.create_directory(uri) as builder:
        _fill(builder, NEXT)

    assert read(uri) == FILES
    assert _versions(client, versioned) == before
    with store.open_directory(uri) as directory:
        assert directory.version == version


def test_an_aborted_first_write_leaves_no_object(store, client, bucket):
    with store.create_directory(f"s3://{bucket}/d") as builder:
        _fill(builder, FILES)

    assert client.list_objects_v2(Bucket=bucket).get("KeyCount") == 0
    assert client.list_object_versions(Bucket=bucket).get("Versions", []) == []


@pytest.mark.parametrize("order", ["later first", "earlier first"])
def test_of_two_writers_the_later_is_whole_and_the_other_is_fenced_off(
    store, read, client, versioned, order
):
    uri = f"s3://{versioned}/d"
    with store.create_directory(uri) as early:
        _fill(early, FILES)
        with store.create_directory(uri) as late:
            _fill(late, NEXT)
            _fill(early, {"late.csv": b"of the early one"})
            if order == "later first":
                late.commit(replace=False)
            with pytest.raises(PolicyError) as caught:
                early.commit(replace=False)
            if order == "earlier first":
                late.commit(replace=False)

    assert caught.value.why == "address_taken"
    assert read(uri) == NEXT
    names = {key for key, _ in _versions(client, versioned)}
    assert names == {f"d/{name}" for name in NEXT}


def test_without_versions_the_later_writer_is_whole_too(store, read, unversioned):
    uri = f"s3://{unversioned}/d"
    with store.create_directory(uri) as early:
        _fill(early, FILES)
        with store.create_directory(uri) as late:
            _fill(early, {"new.csv": b"of the early one", "x": b"of the early one"})
            _fill(late, NEXT)
            with pytest.raises(PolicyError):
                early.commit(replace=False)
            late.commit(replace=False)

    assert read(uri) == NEXT


def test_many_writers_at_once_leave_one_whole_directory(store, read, versioned):
    uri = f"s3://{versioned}/d"
    together = threading.Barrier(6)

    def write(number):
        together.wait(30)
        try:
            with store.create_directory(uri) as builder:
                _fill(builder, dict.fromkeys(("a", "b", "c"), b"%d" % number))
                builder.commit(replace=True)
        except SecureMLError as error:
            return error
        return None

    with ThreadPoolExecutor(6) as pool:
        errors = list(pool.map(write, range(6)))

    assert len(set(read(uri).values())) == 1
    assert errors.count(None) >= 1
    assert all(error is None or error.why == "address_taken" for error in errors)


def test_a_directory_without_versions_is_written_once(store, write, read, unversioned):
    uri = f"s3://{unversioned}/d"
    write(uri, FILES)

    with store.create_directory(uri) as builder:
        with pytest.raises(ConfigurationError, match="bucket with versioning"):
            builder.create("a.csv")
        with pytest.raises(PolicyError) as caught:
            builder.commit(replace=False)
        assert caught.value.why == "address_taken"
    with (
        store.create_directory(uri) as builder,
        pytest.raises(ConfigurationError, match="bucket with versioning"),
    ):
        builder.commit(replace=True)

    assert read(uri) == FILES
    store.delete(uri)
    assert store.info(uri) is None
    write(uri, NEXT)
    assert read(uri) == NEXT


def test_a_file_overwritten_after_the_commit_is_read_as_it_was_listed(
    write, read, client, versioned
):
    write(f"s3://{versioned}/d", FILES)
    client.put_object(Bucket=versioned, Key="d/a.csv", Body=b"evil")
    client.put_object(Bucket=versioned, Key="d/more.csv", Body=b"evil")
    client.delete_object(Bucket=versioned, Key="d/b/c.csv")

    assert read(f"s3://{versioned}/d") == FILES


@pytest.mark.parametrize("evil", [b"evil", b"first b"], ids=["longer", "as long"])
def test_without_versions_a_file_overwritten_is_refused(store, write, client, unversioned, evil):
    write(f"s3://{unversioned}/d", FILES)
    client.put_object(Bucket=unversioned, Key="d/a.csv", Body=evil)

    with store.open_directory(f"s3://{unversioned}/d") as directory:
        with pytest.raises(IntegrityError):
            directory.open("a.csv")
        assert _bytes_of(directory, "b/c.csv") == b"first c"


@pytest.mark.parametrize(
    "names",
    [["../e/secret"], ["_asml/listing"], ["a/../../e/secret"], ["/e/secret"], ["A", "a"]],
    ids=lambda names: names[0],
)
def test_a_forged_listing_names_nothing_outside(store, write, client, versioned, names):
    client.put_object(Bucket=versioned, Key="e/secret", Body=b"secret")
    write(f"s3://{versioned}/d", FILES)

    def change(record):
        record["files"] = dict.fromkeys(names, record["files"]["a.csv"])

    _forge(client, versioned, change)

    with pytest.raises(FormatError):
        store.open_directory(f"s3://{versioned}/d")
    with pytest.raises(FormatError):
        store.walk(f"s3://{versioned}/d")
    with pytest.raises(FormatError):
        store.create_directory(f"s3://{versioned}/d")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("version", "another key's"),
        ("version", "01JAAAAAAAAAAAAAAAAAAAAAAA"),
        ("version", None),
        ("etag", "0cc175b9c0f1b6a831c399e269772661"),
        ("bytes", 6),
        ("bytes", 5 << 40),
    ],
)
def test_a_listing_that_does_not_fit_the_file_is_refused(
    store, write, client, versioned, member, value
):
    write(f"s3://{versioned}/d", FILES)
    client.put_object(Bucket=versioned, Key="d/a.csv", Body=b"newer")
    if value == "another key's":
        value = _listing(client, versioned)["files"]["b/c.csv"]["version"]
    _forge(client, versioned, lambda record: record["files"]["a.csv"].update({member: value}))

    with (
        store.open_directory(f"s3://{versioned}/d") as directory,
        pytest.raises((SecureMLError, FileNotFoundError)),
    ):
        directory.open("a.csv")


def test_a_listing_that_is_not_one_is_refused_before_it_is_read_whole(
    store, write, client, versioned, monkeypatch
):
    write(f"s3://{versioned}/d", FILES)
    monkeypatch.setattr("airflow_secure_ml.adapters.aws.s3.listing_object.MAX_LISTING_BYTES", 1000)
    client.put_object(Bucket=versioned, Key="d/_asml/listing", Body=b"[" * 1001)

    with pytest.raises(FormatError, match="1001 bytes are no listing"):
        store.open_directory(f"s3://{versioned}/d")


def test_a_prefix_without_a_listing_is_read_as_it_lies(store, read, client, bucket):
    for name, data in FILES.items():
        client.put_object(Bucket=bucket, Key=f"d/{name}", Body=data)
    # What consoles make when somebody asks for a folder.
    client.put_object(Bucket=bucket, Key="d/empty/", Body=b"")
    client.put_object(Bucket=bucket, Key="d2/x", Body=b"beside")

    assert read(f"s3://{bucket}/d") == FILES
    with store.open_directory(f"s3://{bucket}/d") as directory:
        client.put_object(Bucket=bucket, Key="d/a.csv", Body=b"later a")
        assert directory.version == ""
        with pytest.raises(IntegrityError):
            directory.open("a.csv")


def test_a_sweep_takes_what_the_ended_writer_left_and_nothing_of_other_programs(
    store, write, read, client, versioned
):
    uri = f"s3://{versioned}/d"
    write(uri, FILES)
    before = _versions(client, versioned)
    # As one that was killed: it neither commits nor aborts.
    ended = store.create_directory(uri)
    _fill(ended, NEXT)
    left = _versions(client, versioned) - before
    theirs = client.put_object(Bucket=versioned, Key="d/theirs.csv", Body=b"another program's")

    write(uri, NEXT, replace=True)

    there = _versions(client, versioned)
    assert len(left) == len(NEXT)
    assert not left & there
    assert ("d/theirs.csv", theirs["VersionId"]) in there
    assert read(uri) == NEXT


def test_somebody_elses_prefix_stays_as_it_is_while_it_is_replaced(store, read, client, versioned):
    uri = f"s3://{versioned}/d"
    for name, data in FILES.items():
        client.put_object(Bucket=versioned, Key=f"d/{name}", Body=data)
    before = _versions(client, versioned)
    with store.create_directory(uri) as builder:
        _fill(builder, NEXT)
        assert read(uri) == FILES
        with pytest.raises(PolicyError):
            builder.commit(replace=False)

    assert (read(uri), _versions(client, versioned)) == (FILES, before)
    with store.create_directory(uri) as builder:
        _fill(builder, NEXT)
        builder.commit(replace=True)
    assert read(uri) == NEXT
    assert before <= _versions(client, versioned)


def test_without_versions_somebody_elses_prefix_is_not_touched(store, read, client, unversioned):
    uri = f"s3://{unversioned}/d"
    for name, data in FILES.items():
        client.put_object(Bucket=unversioned, Key=f"d/{name}", Body=data)

    with store.create_directory(uri) as builder, pytest.raises(ConfigurationError):
        builder.create("a.csv")

    assert read(uri) == FILES
    with pytest.raises(ClientError):
        _listing(client, unversioned)


def test_a_directory_below_a_prefix_speaks_for_itself(store, write, read, client, versioned):
    write(f"s3://{versioned}/top/d", FILES)
    with store.create_directory(f"s3://{versioned}/top/half") as builder:
        _fill(builder, NEXT)
        client.put_object(Bucket=versioned, Key="top/d/unlisted", Body=b"evil")
        client.put_object(Bucket=versioned, Key="top/d/a.csv", Body=b"evil")
        client.put_object(Bucket=versioned, Key="top/plain", Body=b"plain")

        found = read(f"s3://{versioned}/top")

    assert found == {"plain": b"plain"} | {f"d/{name}": data for name, data in FILES.items()}


def test_keys_of_a_directory_are_found_and_not_listed(store, write, client, bucket):
    uri = f"s3://{bucket}/d"
    write(uri, {**FILES, "_asml/k.asmk": b"key"})

    assert list(store.walk(uri)) == sorted(FILES)
    assert list(store.walk(f"{uri}/_asml")) == ["k.asmk"]
    assert "_asml/k.asmk" not in _listing(client, bucket)["files"]
    with store.open(f"{uri}/_asml/k.asmk") as pinned:
        assert pinned.read_at(0, 9) == b"key"


@pytest.mark.parametrize("name", ["_asml/listing", "_asml/a/b", "_asml/"])
def test_the_listings_own_name_is_nobodys(store, bucket, name):
    with store.create_directory(f"s3://{bucket}/d") as builder, pytest.raises(FormatError):
        builder.create(name)


def test_a_removed_directory_is_gone_at_once_and_its_versions_stay(store, write, client, versioned):
    uri = f"s3://{versioned}/d"
    write(uri, {**FILES, "_asml/k.asmk": b"key"})
    before = _versions(client, versioned)

    store.delete(uri)

    assert store.info(uri) is None
    assert client.list_objects_v2(Bucket=versioned).get("KeyCount") == 0
    assert _versions(client, versioned) == before


def test_a_writer_is_fenced_off_when_its_directory_is_removed(store, write, versioned):
    uri = f"s3://{versioned}/d"
    write(uri, FILES)
    with store.create_directory(uri) as builder:
        _fill(builder, NEXT)
        store.delete(uri)

        with pytest.raises(PolicyError):
            builder.commit(replace=True)

    assert store.info(uri) is None


def test_a_file_costs_one_request_to_write_and_one_to_read(store, read, requests, versioned):
    uri = f"s3://{versioned}/d"
    files = {f"{number:02}": b"x" for number in range(40)}
    with store.create_directory(uri) as builder:
        del requests[:]
        _fill(builder, files)
        assert requests == ["PutObject"] * 40
        builder.commit(replace=False)

    del requests[:]
    assert read(uri) == files
    assert requests == ["GetObject"] * 41


@pytest.fixture
def lose(client, monkeypatch):
    """Lose the answers to the next writes of a listing, once they were carried out."""
    monkeypatch.setattr("airflow_secure_ml.adapters.aws.s3.place._FIRST_WAIT_S", 0.001)
    left = []

    def note(params, context, **kwargs):
        context["is_listing"] = str(params.get("Key", "")).endswith("_asml/listing")

    def strike(context, **kwargs):
        if context.get("is_listing") and left:
            left.pop()()
            raise ConnectionClosedError(endpoint_url="https://s3")

    client.meta.events.register("before-parameter-build.s3.PutObject", note)
    client.meta.events.register("after-call.s3.PutObject", strike)

    def lose(times, meanwhile=lambda: None):
        left[:] = [lambda: None] * (times - 1) + [meanwhile]

    return lose


def test_a_commit_whose_answer_was_lost_is_a_commit(store, read, lose, bucket):
    uri = f"s3://{bucket}/d"
    with store.create_directory(uri) as builder:
        _fill(builder, FILES)
        lose(1)
        version = builder.commit(replace=False)

    assert read(uri) == FILES
    with store.open_directory(uri) as directory:
        assert directory.version == version


@pytest.mark.parametrize("then", ["begins", "commits"])
def test_a_commit_whose_answer_was_lost_keeps_its_files_when_another_writer_follows(
    s3, store, read, client, lose, versioned, then
):
    uri = f"s3://{versioned}/d"
    other_client = s3.client()
    other = S3Objects(lambda bucket: other_client)
    builders = []

    def follow():
        builders.append(other.create_directory(uri))
        if then == "commits":
            _fill(builders[0], NEXT)
            builders[0].commit(replace=True)

    with store.create_directory(uri) as builder:
        _fill(builder, FILES)
        lose(1, follow)
        builder.commit(replace=False)

    assert read(uri) == (NEXT if then == "commits" else FILES)
    kept = {key for key, _ in _versions(client, versioned)}
    assert {f"d/{name}" for name in FILES} <= kept
    builders[0].abort()


def test_a_commit_without_any_answer_takes_nothing_back(store, read, lose, client, versioned):
    uri = f"s3://{versioned}/d"
    with store.create_directory(uri) as builder:
        _fill(builder, FILES)
        before = _versions(client, versioned)
        lose(1000)
        with pytest.raises(ServiceUnavailableError):
            builder.commit(replace=False)

    assert _versions(client, versioned) == before
    assert read(uri) == FILES


def test_a_begin_whose_answer_was_lost_is_a_begin(store, read, lose, versioned):
    uri = f"s3://{versioned}/d"
    lose(1)
    with store.create_directory(uri) as builder:
        _fill(builder, FILES)
        builder.commit(replace=False)

    assert read(uri) == FILES


def test_rotation_finds_every_listed_file_and_the_keys(store, write, client, bucket):
    uri = f"s3://{bucket}/d"
    write(uri, {**FILES, "_asml/k.asmk": b"key"})
    client.put_object(Bucket=bucket, Key="d/unlisted", Body=b"evil")

    found = list(addresses_below(store, uri))

    assert found == [f"{uri}/{name}" for name in sorted(FILES)] + [f"{uri}/_asml/k.asmk"]


@pytest.mark.parametrize("above", ["", "/.."], ids=["itself", "above"])
def test_what_counts_keys_and_suites_sees_what_readers_see(store, write, client, versioned, above):
    write(f"s3://{versioned}/top/d", FILES)
    for name in FILES:
        client.put_object(Bucket=versioned, Key=f"top/d/{name}", Body=b"newer, and not listed")

    found = {}
    for each in objects_below(store, f"s3://{versioned}/top" + ("" if above else "/d")):
        with each.open() as pinned:
            found[each.uri.partition("/d/")[2]] = pinned.read_at(0, 99)

    assert found == FILES


def test_an_overtaken_writer_stays_fenced_off_when_the_other_one_gives_up(store, bucket):
    """What it uploaded is swept by then."""
    uri = f"s3://{bucket}/d"
    first = store.create_directory(uri)
    with first.create("a.csv") as writer:
        writer.write_at(0, b"first")
        writer.commit(replace=False)
    store.create_directory(uri).abort()

    with pytest.raises(PolicyError) as caught:
        first.commit(replace=False)

    assert caught.value.why == "address_taken"
    assert store.info(uri) is None
