"""Whatever breaks between us and S3: the whole object is there or none, and the error says why."""

from __future__ import annotations

import io
import random
import signal
import time

import pytest
from botocore.config import Config

from airflow_secure_ml.adapters.aws.s3 import S3Objects, place
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.errors import (
    CiphertextError,
    IntegrityError,
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.rewrapping_below import rewrap_below
from airflow_secure_ml.services.sealing import open_object, seal_object
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryKeySystem, MemoryTransit
from tests.servers.proxy import Cut, CutRequest, Hang, Lose
from tests.servers.s3_proxy import FlipByte, SetHeaders, s3_error

MIB = 1 << 20
PARTS, DEADLINE_S = 3, 60
LONG = pytest.mark.long
DATA = random.Random(11).randbytes(2 * PART_BYTES + 5)
SMALL = DATA[:1000]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    # Only the pause between two tries, which is seconds else.
    monkeypatch.setattr(place, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def bucket(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture
def client(s3, s3_proxy):
    once = Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=20
    )
    return s3.client(endpoint_url=s3_proxy.url, config=once)


@pytest.fixture
def uri(bucket):
    return f"s3://{bucket}/x"


@pytest.fixture
def beside(s3):
    """The store without the proxy."""
    client = s3.client()
    return S3Objects(lambda bucket: client)


def whole(store, uri):
    with store.open(uri) as pinned:
        data = pinned.read_at(0, pinned.size_bytes)
        pinned.check_unchanged()
    return data


def versions(s3, bucket):
    return s3.client().list_object_versions(Bucket=bucket).get("Versions", [])


def open_uploads(s3, bucket):
    return s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])


FAULTS = {
    "connection lost": lambda **where: Lose(**where),
    "cut in the request": lambda **where: CutRequest(after_bytes=100_000, **where),
    "cut in the answer": lambda **where: Cut(**where),
    "slow down": lambda **where: s3_error("SlowDown", **where),
    "unavailable": lambda **where: s3_error("ServiceUnavailable", **where),
    "internal error": lambda **where: s3_error("InternalError", **where),
    "arrived damaged": lambda **where: s3_error("BadDigest", **where),
}


# What differs in what the store has done by then.
MAIN_FAULTS = ("connection lost", "cut in the answer", "slow down")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(
    "part", [pytest.param(1, marks=LONG), 2, pytest.param(PARTS, marks=LONG)], ids="part={}".format
)
def test_a_part_that_fails_once_is_sent_again(s3, s3_proxy, put, beside, bucket, uri, fault, part):
    s3_proxy.will(fault(method="PUT", has=f"partNumber={part}"))

    put(uri, DATA)

    assert whole(beside, uri) == DATA
    assert s3_proxy.count(method="PUT", has=f"partNumber={part}") == 2
    assert len(versions(s3, bucket)) == 1
    assert open_uploads(s3, bucket) == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(each, id=name, marks=() if name in MAIN_FAULTS else LONG)
        for name, each in FAULTS.items()
    ],
)
@pytest.mark.parametrize("method", ["uploads", "uploadId"], ids=["begin", "join"])
def test_beginning_and_joining_are_tried_again(
    s3, s3_proxy, put, beside, bucket, uri, fault, method
):
    s3_proxy.will(fault(method="POST", has=method))

    version = put(uri, DATA)

    assert whole(beside, uri) == DATA
    assert [each["VersionId"] for each in versions(s3, bucket)] == [version]
    if method == "uploadId":
        assert open_uploads(s3, bucket) == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_small_object_is_put_again_and_is_there_once(
    s3, s3_proxy, put, beside, bucket, uri, fault
):
    s3_proxy.will(fault(method="PUT"))

    version = put(uri, SMALL)

    assert whole(beside, uri) == SMALL
    # A put whose answer was lost is refused the second time, since it is there; and it is ours.
    assert [each["VersionId"] for each in versions(s3, bucket)] == [version]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("SlowDown", ServiceUnavailableError),
        ("InternalError", ServiceUnavailableError),
        ("ExpiredToken", ServiceRefusedError),
        ("AccessDenied", ServiceRefusedError),
    ],
)
@pytest.mark.parametrize("part", [1, PARTS], ids=["first", "last"])
def test_a_part_that_always_fails_leaves_nothing(
    s3, s3_proxy, put, beside, bucket, uri, code, error, part
):
    s3_proxy.will(s3_error(code, method="PUT", has=f"partNumber={part}", times=99))

    with pytest.raises(error, match=code):
        put(uri, DATA)

    assert versions(s3, bucket) == []
    assert open_uploads(s3, bucket) == []


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["small", "parts"])
def test_where_something_else_lies_a_lost_answer_is_no_success(
    s3, s3_proxy, put, beside, uri, data
):
    put(uri, b"theirs")
    method = "PUT" if data is SMALL else "POST"
    s3_proxy.will(Lose(method=method, has="" if data is SMALL else "uploadId"))

    with pytest.raises(PolicyError):
        put(uri, data)

    assert whole(beside, uri) == b"theirs"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, TimeoutError])
def test_an_interruption_leaves_nothing(s3, store, bucket, uri, error):
    def interrupted():
        with store.create(uri) as writer:
            writer.write_at(0, DATA)
            raise error

    with pytest.raises(error):
        interrupted()

    assert versions(s3, bucket) == []
    assert open_uploads(s3, bucket) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_interruption_before_an_uploads_id_is_known_leaves_nothing(
    s3, store, client, bucket, uri, error
):
    def strike(**_):
        raise error

    client.meta.events.register("after-call.s3.CreateMultipartUpload", strike)

    def interrupted():
        with store.create(uri) as writer:
            writer.write_at(0, DATA)

    with pytest.raises(error):
        interrupted()

    assert versions(s3, bucket) == []
    assert open_uploads(s3, bucket) == []


def test_a_timer_that_strikes_while_a_part_hangs_leaves_nothing(s3, s3_proxy, store, bucket, uri):
    class TimeIsUpError(BaseException):
        pass

    def strike(number, frame):
        raise TimeIsUpError

    def write():
        with store.create(uri) as writer:
            for offset in range(0, 8 * len(DATA), len(DATA)):
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                writer.write_at(offset, DATA)

    # Each part hangs for longer than the timer waits, so writing has to wait for them.
    s3_proxy.will(Hang(seconds=2, method="PUT", times=99))
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with pytest.raises(TimeIsUpError):
            write()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert versions(s3, bucket) == []
    # The store may still be at a request that nobody waits for: the next writers look again.
    deadline = time.monotonic() + DEADLINE_S
    while open_uploads(s3, bucket):
        assert time.monotonic() < deadline
        with store.create(uri):
            pass


def test_an_upload_is_aborted_again_behind_the_last_part_on_its_way(
    s3, s3_proxy, store, client, bucket, uri
):
    """A store may take a part in that was on its way when its upload was aborted."""
    order = []
    events = client.meta.events
    events.register("response-received.s3.UploadPart", lambda **_: order.append("part"))
    events.register("before-call.s3.AbortMultipartUpload", lambda **_: order.append("abort"))
    first = {"method": "PUT", "has": "partNumber=1"}
    s3_proxy.will(Hang(seconds=1.0, **first))

    with store.create(uri) as writer:
        writer.write_at(0, DATA)
        deadline = time.monotonic() + DEADLINE_S
        while not s3_proxy.count(**first):
            assert time.monotonic() < deadline

    assert order.count("abort") == 2
    assert "part" in order
    assert order[-1] == "abort"
    assert open_uploads(s3, bucket) == []


def test_an_abort_that_fails_is_made_up_for_by_the_next_writer(s3, s3_proxy, store, bucket, uri):
    s3_proxy.will(s3_error("SlowDown", method="DELETE", times=99))
    with store.create(uri) as writer:
        writer.write_at(0, DATA)
    assert len(open_uploads(s3, bucket)) == 1
    s3_proxy.behave()

    with store.create(uri):
        pass

    assert open_uploads(s3, bucket) == []


def test_an_upload_of_a_living_writer_is_left_alone(store, s3, bucket, uri):
    with store.create(uri) as one:
        one.write_at(0, DATA)
        with store.create(uri) as two:
            two.write_at(0, DATA)
            assert len(open_uploads(s3, bucket)) == 2
        one.commit(replace=False)

    assert len(versions(s3, bucket)) == 1


@pytest.fixture
def stored(beside, uri):
    with beside.create(uri) as writer:
        writer.write_at(0, DATA)
        writer.commit(replace=False)
    return uri


READ_FAULTS = {
    "connection lost": lambda **where: Lose(**where),
    "cut at once": lambda **where: Cut(after_bytes=0, **where),
    "cut in the middle": lambda **where: Cut(after_bytes=300_001, **where),
    "slow down": lambda **where: s3_error("SlowDown", **where),
}


@pytest.mark.parametrize("fault", READ_FAULTS.values(), ids=READ_FAULTS)
@pytest.mark.parametrize(
    "request_",
    [0, 1, *(pytest.param(each, marks=LONG) for each in (2, 3))],
    ids="request={}".format,
)
def test_a_read_that_breaks_off_goes_on_where_it_was(s3_proxy, store, stored, fault, request_):
    s3_proxy.will(fault(method="GET", skip=request_))

    assert whole(store, stored) == DATA


def test_a_read_that_always_breaks_off_ends(s3_proxy, store, stored):
    with store.open(stored) as pinned:
        s3_proxy.will(Cut(after_bytes=0, method="GET", times=99))

        with pytest.raises(ServiceUnavailableError, match="broke off"):
            pinned.read_at(MIB, MIB)


def test_credentials_that_end_between_reads_are_named(s3_proxy, store, stored):
    with store.open(stored) as pinned:
        s3_proxy.will(s3_error("ExpiredToken", method="GET", times=99))

        with pytest.raises(ServiceRefusedError, match="ExpiredToken"):
            pinned.read_at(MIB, MIB)


@pytest.mark.parametrize("at", [0, 500, -1], ids="at={}".format)
def test_a_flipped_byte_of_a_small_object_is_never_handed_out(s3_proxy, store, put, uri, at):
    put(uri, SMALL)
    s3_proxy.will(FlipByte(method="GET", at=at))

    with pytest.raises(IntegrityError, match="checksum"):
        store.open(uri)


@pytest.mark.parametrize("request_", range(4), ids="request={}".format)
def test_a_flipped_byte_of_a_large_object_is_found_before_it_counts(
    s3_proxy, store, stored, request_
):
    s3_proxy.will(FlipByte(method="GET", skip=request_))

    with store.open(stored) as pinned:
        for offset in range(0, pinned.size_bytes, MIB):
            pinned.read_at(offset, MIB)

        with pytest.raises(IntegrityError, match="checksum"):
            pinned.check_unchanged()


@pytest.mark.parametrize("request_", range(5), ids="request={}".format)
def test_a_flipped_byte_of_a_sealed_object_gives_no_plaintext(s3_proxy, store, uri, request_):
    ref = KeyRef(system="local", name="team", version="3")
    kek = KekWrapper(bytes(range(32)), slot_id="team/3", ref=ref)
    with store.create(uri) as writer:
        seal_object(io.BytesIO(DATA), writer, keys=[kek], context={"a": "b"})
        writer.commit(replace=False)
    # Behind the header of the first answer: in it a flip is another error.
    s3_proxy.will(FlipByte(method="GET", skip=request_, at=20 if request_ else 9_000))
    opened = io.BytesIO()

    with store.open(uri) as pinned, pytest.raises(CiphertextError):
        open_object(pinned, opened, keys=[kek], expect={"a": "b"})

    assert DATA.startswith(opened.getvalue())


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"another"'},
        {"Content-Range": f"bytes 0-1048575/{len(DATA)}"},
        {"Content-Range": f"bytes 1048576-2097151/{len(DATA) + 1}"},
    ],
    ids=["etag", "range", "length"],
)
def test_an_answer_for_another_object_or_range_is_refused(s3_proxy, store, stored, headers):
    with store.open(stored) as pinned:
        s3_proxy.will(SetHeaders(headers=headers, method="GET"))

        with pytest.raises(IntegrityError, match="another one, or another range"):
            pinned.read_at(MIB, MIB)


def test_what_goes_wrong_names_no_secret(s3, s3_proxy, put, uri):
    s3_proxy.will(s3_error("AccessDenied", method="PUT", times=99))

    with pytest.raises(ServiceRefusedError) as caught:
        put(uri, SMALL)

    told = f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"
    assert str(s3.secret_key) not in told
    assert s3.access_key not in told


@pytest.mark.parametrize("keys", [MemoryTransit, MemoryKeySystem], ids=["blind", "as a reader"])
def test_a_byte_flipped_on_the_way_is_not_rewrapped_into_the_object(
    s3_proxy, store, beside, bucket, uri, keys
):
    keys, audit, data = keys(), MemoryAudit(), DATA[: 2 * MIB]
    with store.create(uri) as writer:
        seal_object(io.BytesIO(data), writer, keys=[keys.wrapper("data")], context={"a": "b"})
        writer.commit(replace=False)
    keys.rotate("data")
    # Of the payload: the first answer has the header, too.
    s3_proxy.will(FlipByte(method="GET", path=f"{bucket}/x", skip=1, at=20))

    trail = Journal(audit, None, lambda line: None)
    tally = rewrap_below(store, uri, keys=keys, name="data", trail=trail)

    outcomes = [(fact.result, fact.why) for fact in audit.facts if fact.phase == "outcome"]
    assert outcomes == [("refused", "digest_differs"), ("ok", None)]
    assert (tally.rewrapped, tally.failed) == (1, 0)
    opened = io.BytesIO()
    with beside.open(uri) as pinned:
        open_object(pinned, opened, keys=keys.unwrappers(), expect={"a": "b"})
    assert opened.getvalue() == data
