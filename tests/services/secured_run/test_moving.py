"""An artifact goes from address to address piece by piece, and becomes visible whole or never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_secure_ml.core.sealed_file.header import MAGIC
from airflow_secure_ml.errors import (
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.run_plan import Input, Output, Pin

MIB = 1 << 20
CANARY = b"canary-4711 of a patient\n"
HERE = Path(__file__).parent


@pytest.fixture
def move(bench, plan, with_parts):
    """Move one artifact as the operators do; scratch is never asked for."""

    def no_scratch(need_bytes):
        raise AssertionError("something was opened into scratch")

    def call(source, target, *, sealed=True, seals=True, **options):
        how = options.pop("how", {})
        made = plan(
            inputs=[Input(name="source", uri=bench.uri(source), sealed=sealed, **how)],
            outputs=[Output(name="target", uri=bench.uri(target), sealed=seals)],
            task_id="move",
        )
        before, bench.change = (
            bench.change,
            lambda desk: with_parts(before(desk), make_scratch=no_scratch),
        )
        try:
            with bench.secured(made, **options) as run:
                return run.move()["target"]
        finally:
            bench.change = before

    return call


@pytest.fixture
def refusal(bench, move):
    """What a move that must fail raised, and what its last outcomes say; nothing new is there."""

    def call(source, target, error=SecureMLError, **options):
        before = bench.published()
        sink = options.setdefault("sink", bench.sink())
        with pytest.raises(error) as raised:
            move(source, target, **options)
        assert bench.published() == before
        said = [
            (event["act"], event["why"])
            for event in bench.events()
            if event["emitter"] == sink.emitter and event.get("result") in ("refused", "failed")
        ]
        return raised.value, said

    return call


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# Around a segment, a pipe and a buffer of each kind.
SIZES = [0, 1, 65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17]


@pytest.mark.parametrize("size", SIZES)
def test_what_comes_out_is_what_went_in(bench, move, size):
    data = (CANARY * (size // len(CANARY) + 1))[:size]
    bench.path("plain").write_bytes(data)

    move("plain", "sealed", sealed=False)
    move("sealed", "again")
    reference = move("again", "delivered", seals=False)

    assert bench.path("sealed").read_bytes().startswith(MAGIC)
    assert bench.path("again").read_bytes().startswith(MAGIC)
    assert bench.path("delivered").read_bytes() == data
    assert reference["bytes"] == size


def test_a_directory_goes_file_by_file(bench, move):
    for name in ("a", "b/c", "b/d e%20"):
        bench.path(f"plain/{name}").parent.mkdir(parents=True, exist_ok=True)
        bench.path(f"plain/{name}").write_bytes(CANARY + name.encode())

    move("plain", "sealed", sealed=False)
    move("sealed", "again")
    move("again", "delivered", seals=False)

    found = {
        str(path.relative_to(bench.path("delivered"))): path.read_bytes()
        for path in bench.path("delivered").rglob("*")
        if path.is_file()
    }
    assert found == {name: CANARY + name.encode() for name in ("a", "b/c", "b/d e%20")}
    assert CANARY not in b"".join(
        body for name, body in bench.published().items() if name.startswith(("sealed", "again"))
    )


def test_what_was_moved_is_verified_like_anything_else(bench, move):
    bench.put("table", CANARY.decode())

    move("table", "moved")

    assert bench.read("moved") == CANARY.decode()
    acts = [act for act, phase, _, _ in bench.acts() if phase == "outcome"]
    assert acts.count("object.open") == 2
    assert acts.count("object.publish") == 2


@pytest.mark.parametrize("seals", [True, False], ids=["promoted", "delivered"])
@pytest.mark.parametrize("at", [-1, MIB + 500, 200], ids=["last", "middle", "early"])
def test_an_altered_source_is_not_made_visible(bench, move, refusal, seals, at):
    bench.path("plain").write_bytes(CANARY * 100_000)
    move("plain", "sealed", sealed=False)
    with bench.path("sealed").open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        (old,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old ^ 1]))

    _, said = refusal("sealed", "out", seals=seals)

    assert said[0][0] in ("object.open", "object.verify")
    assert not bench.path("out").exists()


@pytest.mark.parametrize("seals", [True, False], ids=["promoted", "delivered"])
def test_an_older_object_under_the_newer_ones_statement_is_refused(bench, move, refusal, seals):
    bench.put("table", "old\n", task_id="put")
    old = bench.path("table").read_bytes()
    statements = bench.path("table.sig")
    for each in list(statements.iterdir()):
        each.unlink()
    bench.put("other", "new\n", task_id="put")
    for each in bench.path("other.sig").iterdir():
        each.rename(statements / each.name)
    bench.path("table").write_bytes(old)

    _, said = refusal("table", "out", seals=seals)

    assert said[0][0] in ("object.open", "object.verify")


def test_a_plain_source_must_have_the_digest_that_pins_it(bench, move, refusal):
    bench.path("plain").write_bytes(CANARY)
    wrong = Pin(digest="sha256:" + "0" * 64, by="author")

    _, said = refusal("plain", "out", sealed=False, how={"pin": wrong})

    assert said[0][0] == "object.verify"


def test_parquet_with_column_keys_is_refused_and_a_way_told(bench, plan, refusal):
    import pandas as pd

    bench.keyring.create("pii", "wrap")
    output = Output(name="out", uri=bench.uri("people"), columns={"ssn": "pii"})
    frame = pd.DataFrame({"id": [1], "ssn": ["123-45-6789"]})
    bench.run(plan(outputs=[output]), lambda bound: frame.to_parquet(bound["out"]))

    error, said = refusal("people", "out")

    assert "read it with Reads" in str(error)
    assert said[0] == ("object.open", "misconfigured")


class Failing:
    """A store of which one kind of call fails after so many bytes."""

    def __init__(self, store, call, error, after):
        self._store, self._call, self._error, self._after = store, call, error, after

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in ("open", "create"):
            return found
        return lambda uri: _Counting(found(uri), self)

    def count(self, name, offset):
        if name == self._call and offset >= self._after:
            raise self._error


class _Counting:
    def __init__(self, inner, of):
        self._inner, self._of = inner, of

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __enter__(self):
        self._inner.__enter__()
        return self

    def __exit__(self, *exception):
        return self._inner.__exit__(*exception)

    def readinto_at(self, offset, buffer):
        self._of.count("read", offset)
        return self._inner.readinto_at(offset, buffer)

    def read_at(self, offset, length):
        self._of.count("read", offset)
        return self._inner.read_at(offset, length)

    def write_at(self, offset, data):
        self._of.count("write", offset)
        return self._inner.write_at(offset, data)


LOST = ServiceUnavailableError("s3 did not answer", service="s3", action="x", reason="lost")


@pytest.mark.parametrize("seals", [True, False], ids=["sealed", "delivered"])
@pytest.mark.parametrize("source", ["plain", "sealed"])
@pytest.mark.parametrize("call", ["read", "write"])
def test_a_store_that_fails_half_way_leaves_nothing(
    bench, move, refusal, with_parts, call, source, seals
):
    bench.path("plain").write_bytes(CANARY * 200_000)
    move("plain", "sealed", sealed=False)
    failing = Failing(bench.local_objects, call, LOST, 2 * MIB)
    bench.change = lambda desk: with_parts(desk, store=lambda uri: failing)

    error, said = refusal(
        source, "out", ServiceUnavailableError, sealed=source == "sealed", seals=seals
    )

    assert error is LOST or "did not answer" in str(error)
    reading = "object.open" if source == "sealed" else "object.verify"
    assert said[0] == (reading if call == "read" else "object.seal", "service_unavailable")


def test_a_try_that_was_replaced_publishes_nothing(bench, refusal):
    bench.put("table")

    def replaced():
        raise PolicyError("another try took over", why="try_replaced")

    error, _ = refusal("table", "out", PolicyError, still_ours=replaced)

    assert error.why == "try_replaced"


def test_a_source_that_grows_while_it_is_read_is_refused(bench, move, with_parts):
    bench.path("plain").write_bytes(CANARY * 100_000)

    class Growing(Failing):
        def count(self, name, offset):
            if name == "read" and offset >= MIB:
                with bench.path("plain").open("ab") as file:
                    file.write(CANARY)

    growing = Growing(bench.local_objects, "read", None, MIB)
    bench.change = lambda desk: with_parts(desk, store=lambda uri: growing)

    with pytest.raises(IntegrityError, match="changed"):
        move("plain", "out", sealed=False)

    assert not bench.path("out").exists()


PROGRAM = """
import importlib.util, json, resource, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("bench", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
folder, shm, size_bytes = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
root = sys.argv[5]
bench = module.Bench.make(folder, shm)
with bench.path("plain").open("wb") as file:
    file.truncate(size_bytes)
def move(source, target, *, sealed, seals):
    made = module.a_plan(
        inputs=[module.Input(name="source", uri=bench.canonical(source), sealed=sealed)],
        outputs=[module.Output(name="target", uri=bench.canonical(target), sealed=seals)],
    )
    with bench.secured(made) as run:
        return run.move()["target"]
move(str(bench.path("plain")), f"{root}/sealed", sealed=False, seals=True)
move(f"{root}/sealed", f"{root}/again", sealed=True, seals=True)
done = move(f"{root}/again", f"{root}/delivered", sealed=True, seals=False)
assert done["bytes"] == size_bytes, done
bench.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(folder, shm, size_bytes, root, **environment):
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(HERE / "conftest.py"), str(folder), str(shm)]
    done = subprocess.run(
        [*command, str(size_bytes), root],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def connection(s3):
    return json.dumps(
        {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": str(s3.secret_key),
            "extra": {
                "endpoint_url": s3.url,
                "verify": str(s3.ca),
                "region_name": "us-east-1",
            },
        }
    )


# Threads and their allocator's arenas take more or less from run to run; what is moved takes none.
ALLOWED = 64 * MIB


def grown_bytes(s3, tmp_path, shm, *, small_mib, large_mib):
    """How much more memory a long file takes than one that fills every buffer."""
    bucket = s3.new_bucket()
    given = {"AIRFLOW_CONN_AWS_DEFAULT": connection(s3)}
    small, large = (
        peak_bytes(tmp_path / str(mib), shm, mib * MIB, f"s3://{bucket}/{mib}", **given)
        for mib in (small_mib, large_mib)
    )
    return large - small


def test_memory_is_the_same_at_any_length(s3, tmp_path, shm):
    assert grown_bytes(s3, tmp_path, shm, small_mib=96, large_mib=256) <= ALLOWED


@pytest.mark.long
def test_memory_is_the_same_at_gigabytes(s3, tmp_path, shm):
    assert grown_bytes(s3, tmp_path, shm, small_mib=256, large_mib=1536) <= ALLOWED
