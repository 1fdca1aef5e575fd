"""The log of Vault's file audit device, honest and hostile."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.vault.audit_device import MAX_LINE_BYTES, AuditDeviceLog
from airflow_secure_ml.adapters.vault.audit_entry import time_ms, use_of
from airflow_secure_ml.errors import ConfigurationError

AT = "2026-11-28T06:12:43.735926548Z"
AT_MS = 1_795_846_363_735


def entry(path="transit/decrypt/data", kind="response", **changes):
    request = {
        "id": "r1",
        "operation": "update",
        "path": path,
        "mount_point": path.partition("/")[0] + "/",
        "mount_type": {"database": "database", "kv": "kv", "sys": "system"}.get(
            path.partition("/")[0], "transit"
        ),
        "namespace": {"id": "root"},
        "remote_address": "10.1.2.3",
        **changes.pop("request", {}),
    }
    auth = {"accessor": "hmac-sha256:aa", "display_name": "approle"}
    return {"type": kind, "time": AT, "request": request, "auth": auth, **changes}


def used(**changes):
    found = use_of(entry(**changes), AT_MS)
    return None if found is None else (found.kind, found.about)


def read(tmp_path, *lines, name="vault.log", **more):
    """The uses in a file of these lines, and the tally."""
    data = b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
    )
    (tmp_path / name).write_bytes(data)
    log = AuditDeviceLog(paths=[tmp_path / name], **more)
    return list(log.uses()), log.tally


@pytest.mark.parametrize(
    ("path", "operation", "expected"),
    [
        ("transit/encrypt/data", "update", ("encrypt", "transit/data")),
        ("transit/encrypt/data", "create", ("encrypt", "transit/data")),
        ("transit/rewrap/data", "update", ("rewrap", "transit/data")),
        ("transit/sign/sig/sha2-256", "update", ("sign", "transit/sig")),
        ("transit/verify/sig", "update", ("verify", "transit/sig")),
        ("transit/datakey/plaintext/data", "update", ("datakey", "transit/data")),
        ("transit/export/encryption-key/data/1", "read", ("export", "transit/data")),
        ("transit/backup/data", "read", ("backup", "transit/data")),
        ("transit/keys/data/rotate", "update", ("rotate", "transit/data")),
        ("transit/keys/data/config", "update", ("configure", "transit/data")),
        ("transit/keys/data/trim", "update", ("trim", "transit/data")),
        ("transit/keys/data", "delete", ("delete", "transit/data")),
        ("transit/keys/data", "update", ("create", "transit/data")),
        ("transit/keys/data", "read", None),
        ("transit/keys", "list", None),
        ("transit/random/32", "update", None),
        ("transit/what-comes-later/data", "update", ("what-comes-later", "transit/data")),
        ("database/creds/reader", "read", ("grant", "database/creds/reader")),
        ("kv/data/pipelines/api", "read", ("read", "kv/data/pipelines/api")),
        ("kv/metadata/pipelines/api", "read", None),
        ("kv/data/pipelines/api", "update", None),
        ("sys/leases/renew", "update", ("renew", "")),
        ("sys/leases/revoke", "update", ("revoke", "")),
        ("sys/mounts", "read", None),
    ],
)
def test_what_an_entry_tells_of(path, operation, expected):
    assert used(path=path, request={"operation": operation}) == expected


def test_a_mount_of_several_parts_is_told_from_the_key():
    request = {"mount_point": "team/a/transit/", "path": "team/a/transit/decrypt/data"}

    assert used(request=request) == ("decrypt", "team/a/transit/data")


def test_a_use_has_what_the_log_tells_of_it():
    found = use_of(entry(response={"data": {"key_version": 3}}), AT_MS)

    assert (found.request, found.accessor, found.display_name) == (
        "r1",
        "hmac-sha256:aa",
        "approle",
    )
    assert (found.remote, found.version, found.time_ms, found.units) == ("10.1.2.3", "3", AT_MS, 1)


def test_a_lease_is_told_by_the_digest_of_its_id():
    lease = "database/creds/reader/abc"
    digest = "sha256:" + hashlib.sha256(lease.encode()).hexdigest()
    answer = {"secret": {"lease_id": lease}}
    data = {"lease_id": "hmac-sha256:bb"}

    renewed = use_of(entry("sys/leases/renew", request={"data": data}, response=answer), AT_MS)
    revoked = use_of(entry("sys/leases/revoke", request={"data": data}), AT_MS)

    assert (renewed.about, renewed.lease) == ("database/creds/reader", digest)
    assert (renewed.hashed, renewed.names_lease) == ("hmac-sha256:bb", True)
    assert (revoked.lease, revoked.hashed, revoked.names_lease) == ("", "hmac-sha256:bb", False)
    assert lease not in repr(renewed)


@pytest.mark.parametrize(
    "changes",
    [{"error": "permission denied"}, {"response": {"data": {"error": "hmac-sha256:cc"}}}],
    ids=["denied", "answered with an error"],
)
def test_what_vault_refused_is_no_use(changes):
    assert use_of(entry(**changes), AT_MS).state == "refused"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (AT, AT_MS),
        ("2026-11-28T06:12:43Z", AT_MS - 735),
        ("2026-11-28T07:12:43.7+01:00", AT_MS - 35),
        ("2026-13-28T06:12:43Z", None),
        ("yesterday", None),
        (17, None),
    ],
    ids=["nanoseconds", "seconds", "a zone", "no such month", "no time", "a number"],
)
def test_times_are_read_to_the_millisecond(text, expected):
    assert time_ms({"time": text}) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.data())
def test_no_part_of_an_entry_is_believed(data):
    found = entry(request={"data": data.draw(JSON)}, response={"data": data.draw(JSON)})
    part = data.draw(st.sampled_from(["auth", "response", "error"]))
    found[part] = data.draw(JSON)
    name = data.draw(st.sampled_from(sorted(found["request"])))
    found["request"][name] = data.draw(JSON)

    use = use_of(found, AT_MS)

    assert use is None or use.units >= 1


def test_an_endless_line_is_counted_and_not_kept(tmp_path):
    path = tmp_path / "vault.log"
    with path.open("wb") as file:
        file.truncate(1 << 27)
        file.seek(1 << 27)
        file.write(b"\n" + json.dumps(entry()).encode() + b"\n")
    log = AuditDeviceLog(paths=[path])

    tracemalloc.start()
    found = list(log.uses())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (len(found), log.tally.entries, log.tally.unreadable) == (1, 1, 1)
    assert log.tally.first_unreadable == f"{path}, line 1"
    assert peak < 4 * MAX_LINE_BYTES


@pytest.mark.parametrize(
    "line",
    [
        b"\x1b]0;owned\x07\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"\n",
        b"1" * 10_000 + b"\n",
        b"null\n",
        b'{"type": "response"}\n',
        b'{"type": "response", "time": 5}\n',
        b"\xff\xfe\n",
        b"\x00\n",
    ],
    ids=["control", "deep", "deeper", "digits", "null", "no time", "number", "no UTF-8", "nul"],
)
def test_a_line_that_is_no_entry_is_counted(tmp_path, line):
    found, tally = read(tmp_path, entry(), line, entry())

    assert (len(found), tally.entries, tally.unreadable) == (2, 2, 1)


def test_a_last_line_that_is_being_written_is_told_and_not_counted(tmp_path):
    found, tally = read(tmp_path, entry(), b'{"type": "resp')

    assert (len(found), tally.unreadable, tally.is_cut) == (1, 0, True)


def test_a_file_before_the_last_does_not_end_within_a_line(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b'{"type": "resp')
    second.write_bytes(json.dumps(entry()).encode() + b"\n")
    log = AuditDeviceLog(paths=[first, second])

    assert len(list(log.uses())) == 1
    assert (log.tally.unreadable, log.tally.is_cut) == (1, False)


def test_a_compressed_file_that_was_cut_is_counted(tmp_path):
    lines = b"".join(
        json.dumps(entry(request={"id": os.urandom(16).hex()})).encode() + b"\n"
        for _ in range(2000)
    )
    data = gzip.compress(lines)

    found, tally = read(tmp_path, data[: len(data) // 2], name="vault.log.gz")

    assert 0 < len(found) < 2000
    assert tally.unreadable == 1


def test_a_request_without_its_answer_is_a_use_of_which_nobody_knows(tmp_path):
    found, tally = read(tmp_path, entry(kind="request"))

    assert [each.state for each in found] == ["unanswered"]
    assert tally.unpaired == 0


def test_an_answer_without_its_request_is_counted(tmp_path):
    found, tally = read(tmp_path, entry())

    assert [each.state for each in found] == ["used"]
    assert tally.unpaired == 1


def test_another_namespace_is_counted_and_not_read(tmp_path):
    elsewhere = entry(request={"namespace": {"id": "x", "path": "team/"}})

    assert read(tmp_path, elsewhere)[0] == []
    assert read(tmp_path, elsewhere)[1].elsewhere == 1
    assert len(read(tmp_path, elsewhere, namespace="team")[0]) == 1


def test_a_pipe_or_a_folder_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigurationError, match="expected a file"):
            list(AuditDeviceLog(paths=[path]).uses())
