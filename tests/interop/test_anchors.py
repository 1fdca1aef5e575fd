"""Checkpoints locked in a real store, and whoever has the log's key, its store and the bucket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.anchors import S3Anchors, chosen
from airflow_secure_ml.adapters.aws.s3.prefix import Found
from airflow_secure_ml.adapters.relay import SqliteBook
from airflow_secure_ml.errors import AuditLogError, ServiceRefusedError
from airflow_secure_ml.services.anchoring import EVERY_MS, AnchorJob, hold_against, read_anchors
from airflow_secure_ml.services.kept_outside import kept_outside
from tests.interop.test_witnesses import grow, log, log_keys, signed, size_of  # noqa: F401 - fixture
from tests.servers.s3_proxy import DropHeaders, SetHeaders
from tests.services.audit.conftest import chain, site  # noqa: F401 - a fixture

DAYS = 30
OTHER = "cc" * 16


def anchors(client, bucket, **more):
    objects = S3Objects(lambda name: client)
    return S3Anchors(f"s3://{bucket}/trail/log", objects.place, days=DAYS, **more)


class Anchored:
    """A log, a bucket with object lock, and a relay's job between them."""

    def __init__(self, log, s3):  # noqa: F811 - the fixture's name
        self.log, self.client = log, s3.client()
        self.bucket = s3.new_bucket(locked=True)
        self.store = anchors(self.client, self.bucket)
        self.book = SqliteBook(log.path / "book.db")
        self.now_ms = time.time_ns() // 1_000_000

    def job(self, *, store=None, book=None):
        return AnchorJob(
            store=store or self.store, reader=self.log.reader(), book=book or self.book,
            log_keys=lambda: log_keys(self.log), now_ms=lambda: self.now_ms,
        )  # fmt: skip

    def sizes(self):
        return [each.size for each in self.book.anchors(9)]

    def key(self, size):
        return f"trail/log/{size:016d}.note"

    def verify(self):
        held = read_anchors(self.store, log_keys(self.log), self.log.origin)
        with self.log.reader().whole() as whole:
            return hold_against(self.log.verify(), whole, held)


@pytest.fixture
def anchored(log, s3):  # noqa: F811 - the fixture
    return Anchored(log, s3)


def keep(log):  # noqa: F811 - the fixture's name
    """Copy the store and the signer's record, as an operator may."""
    log.close()
    for name in ("trail.db", "signer/last"):
        shutil.copy(log.path / name, log.path / (name.replace("/", "_") + ".old"))
    log.start()


def roll_back(log):  # noqa: F811 - the fixture's name
    log.close()
    shutil.copy(log.path / "trail.db.old", log.database)
    shutil.copy(log.path / "signer_last.old", log.signer_path / "last")


def test_the_first_checkpoint_and_one_each_hour_are_locked(anchored):
    first = size_of(anchored.log.reader().checkpoint())
    anchored.job().step()
    second = size_of(grow(anchored.log))
    anchored.job().step()
    before = anchored.sizes()
    anchored.now_ms += EVERY_MS

    anchored.job().step()
    anchored.job().step()

    assert (before, anchored.sizes()) == ([first], [second, first])
    kept = anchored.book.anchors(1)[0]
    assert kept.uri == f"s3://{anchored.bucket}/{anchored.key(second)}"
    head = anchored.client.head_object(Bucket=anchored.bucket, Key=anchored.key(second))
    assert (head["ObjectLockMode"], head["VersionId"]) == ("COMPLIANCE", kept.version)
    assert head["ObjectLockRetainUntilDate"].timestamp() * 1000 == kept.until_ms
    assert head["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=DAYS - 1)
    assert anchored.verify().status == 0
    (told,) = kept_outside(
        anchored.book, anchor=f"s3://me@{anchored.bucket}/trail/log", stamper=lambda: None,
        log_keys=(), origin="",
    )  # fmt: skip
    assert f"up to {second} events, since 20" in told


def test_a_relay_that_was_cut_off_finds_its_own_anchor(anchored):
    anchored.job().step()
    lost = SqliteBook(anchored.log.path / "another.db")

    anchored.job(book=lost).step()

    assert lost.anchors(9)[0].version == anchored.book.anchors(9)[0].version


def test_a_log_rolled_back_with_its_signer_is_tampered(anchored):
    keep(anchored.log)
    size = size_of(grow(anchored.log))
    anchored.job().step()
    roll_back(anchored.log)

    report = anchored.verify()

    assert anchored.log.verify().status == 0
    assert (report.status, report.first_bad) == (1, report.size)
    assert f"{size} leaves are anchored" in report.problem
    with pytest.raises(AuditLogError, match="rolled back"):
        anchored.job().step()


def test_another_history_that_grew_past_the_anchor_is_tampered(anchored):
    anchored.job().step()
    early = anchored.sizes()[0]
    keep(anchored.log)
    size = size_of(grow(anchored.log))
    anchored.now_ms += EVERY_MS
    anchored.job().step()
    roll_back(anchored.log)
    anchored.log.put(OTHER, 0, chain(OTHER, 20))
    anchored.log.start()
    assert size_of(anchored.log.run()) > size

    report = anchored.verify()

    assert anchored.log.verify().status == 0
    assert (report.status, report.first_bad) == (1, early)
    assert f"the anchored checkpoint over {size} leaves has another root" in report.problem


def test_another_note_at_its_name_is_an_alarm(anchored):
    size = size_of(anchored.log.reader().checkpoint())
    other = signed(anchored.log, size, b"\x07" * 32)
    anchored.store.put(f"{size:016d}.note", other.encode())

    with pytest.raises(AuditLogError, match="another note lies there"):
        anchored.job().step()

    assert anchored.sizes() == []
    assert anchored.verify().status == 1


@pytest.mark.parametrize("hide", ["deleted", "replaced"])
def test_an_anchor_that_somebody_hid_is_found(anchored, hide):
    keep(anchored.log)
    size = size_of(grow(anchored.log))
    anchored.job().step()
    roll_back(anchored.log)
    where = {"Bucket": anchored.bucket, "Key": anchored.key(size)}
    if hide == "deleted":
        anchored.client.delete_object(**where)
    else:
        anchored.client.put_object(**where, Body=anchored.log.reader().checkpoint().encode())

    assert anchored.verify().status == 1


def test_what_is_no_anchor_of_this_log_leaves_it_open(anchored):
    assert anchored.verify().status == 5
    anchored.job().step()
    assert anchored.verify().status == 0
    anchored.client.put_object(
        Bucket=anchored.bucket, Key=anchored.key(10**15), Body=b"not a checkpoint"
    )

    report = anchored.verify()

    assert report.status == 5
    assert "no checkpoints of this log" in report.problem


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "plain"])
def test_a_bucket_without_lock_is_refused(anchored, s3, versioned):
    bucket = s3.new_bucket(versioned=versioned)

    with pytest.raises(ServiceRefusedError):
        anchored.job(store=anchors(anchored.client, bucket)).step()

    assert anchored.sizes() == []


@pytest.mark.parametrize(
    "lie",
    [
        DropHeaders(method="HEAD", prefixes=("x-amz-object-lock",), times=9),
        SetHeaders(method="HEAD", headers={"x-amz-object-lock-mode": "GOVERNANCE"}, times=9),
        SetHeaders(
            method="HEAD",
            headers={"x-amz-object-lock-retain-until-date": "2001-01-01T00:00:00Z"},
            times=9,
        ),
    ],
    ids=["no lock", "governance", "too short"],
)
def test_a_lock_that_the_store_does_not_confirm_is_refused(anchored, s3, s3_proxy, lie):
    s3_proxy.will(lie)
    client = s3.client(endpoint_url=s3_proxy.url)

    with pytest.raises(ServiceRefusedError, match="to confirm a lock"):
        anchored.job(store=anchors(client, anchored.bucket)).step()

    assert anchored.sizes() == []


def found(day, second, name):
    at = datetime(2026, 11, day, tzinfo=UTC) + timedelta(seconds=second)
    return Found(name=name, version_id="v", etag='"e"', size_bytes=9, modified=at, is_latest=True)


def test_many_later_anchors_displace_none_of_the_days_before():
    honest = [found(day, 3600 * hour, f"{day}-{hour}") for day in (1, 2, 3) for hour in range(24)]
    flood = [found(4, 40_000 + at, f"9{at}") for at in range(5_000)]
    flood += [found(3, 86_390, f"8{at}") for at in range(5_000)]

    names = [each.name for each in chosen([*flood, *honest])]

    assert names[:2] == ["1-0", "2-0"]
    assert {f"3-{hour}" for hour in range(24)} < set(names)
    assert len(names) == 202


def test_the_program_anchors_and_the_command_reads_back(anchored, s3, tmp_path):
    anchored.log.spool.chmod(0o700)
    connection = {
        "conn_type": "aws", "login": s3.access_key, "password": str(s3.secret_key),
        "extra": {"endpoint_url": s3.url, "verify": str(s3.ca), "region_name": "us-east-1"},
    }  # fmt: skip
    places = {
        "AUDIT_DIR": anchored.log.path, "AUDIT_SIGNER_DIR": anchored.log.signer_path,
        "AUDIT_LOG_KEYS": log_keys(anchored.log)[0].line(),
        "AUDIT_ANCHOR": f"s3://{anchored.bucket}/trail/log", "AWS_CONN_ID": "store",
        "AUDIT_RULES_OFF": "all",
    }  # fmt: skip
    environment = {f"AIRFLOW__SECURE_ML__{name}": str(value) for name, value in places.items()}
    environment |= {"AIRFLOW_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    environment |= {"AIRFLOW_CONN_STORE": json.dumps(connection)}

    def run(*words):
        command = [sys.executable, "-I", "-m", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = run("airflow_secure_ml.relay", "--once")
    shown = run("airflow_secure_ml.cli", "audit", "verify", "--anchor")

    assert (done.returncode, done.stdout) == (0, "READY 1 jobs\n"), done.stderr
    assert shown.returncode == 0, shown.stderr
    assert "held against 1 anchored checkpoints" in shown.stdout
    assert f"anchored at s3://{anchored.bucket}/trail/log up to " in shown.stdout
