"""Uploads that nobody will complete are aborted, and nobody else's."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects, uploads
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from tests.servers.s3_proxy import s3_error


@pytest.fixture
def marks(tmp_path, monkeypatch):
    """The folder of marks, of the test's own."""
    monkeypatch.setattr(uploads.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"airflow-secure-ml-uploads-{os.geteuid()}"


@pytest.fixture
def bucket(s3):
    return s3.new_bucket()


@pytest.fixture
def place(store, bucket):
    return store.place(f"s3://{bucket}/x")


@pytest.fixture
def begun(client, bucket):
    """Begin an upload as another machine does: without a mark here."""

    def begun(key="x"):
        return client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]

    yield begun
    for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])


@pytest.fixture
def there(client, bucket):
    def there():
        found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return {each["UploadId"] for each in found}

    return there


def dead_mark(place, upload_id=None):
    mark = uploads.Mark(place)
    if upload_id is not None:
        mark.name(upload_id)
    mark.release(is_over=False)


def test_an_upload_whose_mark_was_left_is_aborted(marks, place, begun, there):
    left, other = begun(), begun()
    dead_mark(place, left)

    uploads.sweep_own(place)

    assert there() == {other}
    # Looked at again, in case something of it was on its way; a minute later it is forgotten.
    (mark,) = marks.iterdir()
    assert mark.name.endswith(".swept")
    os.utime(mark, (0, 0))
    uploads.sweep_own(place)
    assert os.listdir(marks) == []


def test_an_upload_whose_mark_is_held_is_left_alone(marks, place, begun, there):
    living = begun()
    mark = uploads.Mark(place)
    mark.name(living)

    uploads.sweep_own(place)
    uploads.sweep_abandoned(place, datetime.now(UTC) + timedelta(days=9))

    assert there() == {living}
    mark.release(is_over=True)
    assert os.listdir(marks) == []


def test_a_process_that_ended_before_it_knew_the_id_leaves_nothing(marks, place, begun, there):
    living, unknown = begun(), begun()
    mark = uploads.Mark(place)
    mark.name(living)
    dead_mark(place)

    uploads.sweep_own(place)

    assert unknown not in there()
    assert there() == {living}
    mark.release(is_over=True)


def test_a_live_writer_of_another_machine_keeps_its_upload(
    marks, place, begun, there, client, bucket
):
    # Begun at the same time as that of a process here which ended before it knew the id.
    theirs, _ = begun(), begun()
    client.upload_part(Bucket=bucket, Key="x", UploadId=theirs, PartNumber=1, Body=b"x")
    dead_mark(place)

    uploads.sweep_own(place)

    assert there() == {theirs}


def test_a_lost_answer_costs_no_other_machine_its_upload(
    marks, place, begun, there, client, bucket
):
    theirs, _ = begun(), begun()
    client.upload_part(Bucket=bucket, Key="x", UploadId=theirs, PartNumber=1, Body=b"x")
    again = client.create_multipart_upload(Bucket=bucket, Key="x")

    uploads.sweep_lost(place, again, timedelta(minutes=1))

    assert there() == {theirs, again["UploadId"]}


def test_only_uploads_to_this_very_key_are_looked_at(marks, place, begun, there):
    beside = {begun("xy"), begun("x/y")}
    dead_mark(place)

    uploads.sweep_own(place)
    uploads.sweep_abandoned(place, datetime.now(UTC) + timedelta(days=9))

    assert there() == beside


def test_without_a_mark_no_request_is_made(marks, place, requests):
    uploads.sweep_own(place)

    assert requests == []


@pytest.mark.parametrize(
    ("later", "is_there"), [(timedelta(hours=23), True), (timedelta(hours=25), False)]
)
def test_another_machines_upload_is_abandoned_after_a_day(
    marks, place, begun, there, client, bucket, requests, later, is_there
):
    upload = begun()
    client.upload_part(Bucket=bucket, Key="x", UploadId=upload, PartNumber=1, Body=b"x")

    uploads.sweep_abandoned(place, datetime.now(UTC) + later)

    assert ("AbortMultipartUpload" in requests) is not is_there
    assert there() == ({upload} if is_there else set())


def test_the_next_writer_ends_what_another_machine_abandoned(
    marks, store, bucket, begun, there, monkeypatch
):
    upload = begun()
    # As if it were long ago, whatever the clocks of both say.
    monkeypatch.setattr(uploads, "ABANDONED", timedelta(hours=-1))

    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, bytes(PART_BYTES + 1))
        writer.commit(replace=False)

    assert upload not in there()
    assert store.info(f"s3://{bucket}/x").size_bytes == PART_BYTES + 1


@pytest.mark.parametrize("mode", [0o777, 0o750], ids=["for all", "for a group"])
def test_marks_that_others_could_write_are_not_believed(marks, place, begun, there, mode):
    upload = begun()
    dead_mark(place, upload)
    marks.chmod(mode)

    uploads.sweep_own(place)

    assert there() == {upload}


def test_a_link_in_the_folders_place_is_not_followed(marks, tmp_path, place, begun, there):
    upload = begun()
    dead_mark(place, upload)
    marks.rename(tmp_path / "elsewhere")
    marks.symlink_to(tmp_path / "elsewhere")

    uploads.sweep_own(place)

    assert there() == {upload}


@pytest.mark.parametrize("text", ["", "no time\n", "2020-01-01T00:00:00+00:00\nhalf", "\xff"])
def test_a_mark_that_is_none_aborts_nothing_of_another_time(marks, place, begun, there, text):
    upload = begun()
    dead_mark(place)
    (name,) = os.listdir(marks)
    (marks / name).write_text(text, encoding="latin-1")

    uploads.sweep_own(place)

    assert there() == {upload}


def test_a_mark_is_private(marks, place):
    mark = uploads.Mark(place)
    (name,) = os.listdir(marks)

    assert marks.stat().st_mode & 0o777 == 0o700
    assert (marks / name).stat().st_mode & 0o777 == 0o600
    mark.release(is_over=True)


@pytest.mark.parametrize("is_left", [False, True], ids=["nothing left", "a killed process before"])
def test_a_writer_needs_no_right_to_list_uploads(marks, s3, s3_proxy, bucket, is_left):
    client = s3.client(endpoint_url=s3_proxy.url)
    store = S3Objects(lambda _: client)
    if is_left:
        dead_mark(store.place(f"s3://{bucket}/x"))
    s3_proxy.will(s3_error("AccessDenied", method="GET", has="uploads", times=9))

    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, bytes(PART_BYTES + 1))
        writer.commit(replace=False)

    assert store.info(f"s3://{bucket}/x").size_bytes == PART_BYTES + 1
    assert len(os.listdir(marks)) == is_left
