"""Real file systems without room: for the target, for what is opened, for the trail."""

from __future__ import annotations

import os
import subprocess

import pytest

from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.services.run_plan import Input, Output

DATA = os.urandom(200_000)


@pytest.fixture
def small(tmp_path):
    """Mounts a file system of so many KiB; needs the right to mount."""
    mounted = []

    def mount(path, kib):
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
def test_a_target_without_room_gets_nothing(bench, plan, small, directory):
    target = small(bench.data / "small", 100)

    def body(bound):
        if directory:
            bound["out"].mkdir()
        (bound["out"] / "part" if directory else bound["out"]).write_bytes(DATA)

    error, said = bench.refusal(
        plan(outputs=[Output(name="out", uri=bench.uri("small/out"))]), body
    )

    assert isinstance(error, ServiceUnavailableError)
    assert "No space left on device" in str(error)
    assert said == [("object.seal", "service_unavailable"), ("task.secure", "service_unavailable")]
    assert list(target.iterdir()) == []


def test_a_target_without_room_for_the_statement_gets_no_object(bench, plan, small):
    target = small(bench.data / "small", 12)

    def body(bound):
        bound["out"].write_bytes(DATA[:3000])
        # All but the one page that the object itself takes.
        while True:
            try:
                (target / f"filler-{len(list(target.iterdir()))}").write_bytes(b"x" * 4096)
            except OSError:
                break
        sorted(target.iterdir())[0].unlink()

    with pytest.raises(SecureMLError):
        bench.run(plan(outputs=[Output(name="out", uri=bench.uri("small/out"))]), body)

    assert not (target / "out").exists()
    assert bench.left_in_scratch() == []


def test_scratch_without_room_opens_nothing_and_names_its_size(bench, plan, small, tmp_path):
    bench.run(
        plan(outputs=[Output(name="out", uri=bench.uri("x"))], task_id="put"),
        lambda bound: bound["out"].write_bytes(DATA),
    )
    scratch = small(tmp_path / "scratch", 100)
    bench.configure(scratch_dirs=str(scratch))

    error, said = bench.refusal(plan(inputs=[Input(name="table", uri=bench.uri("x"))]))

    assert said == [("task.secure", "misconfigured")]
    assert "0.2 MiB needed" in str(error)
    assert list(scratch.iterdir()) == []


def test_a_trail_without_room_refuses_before_any_key_is_used(bench, plan, small):
    small(bench.audit_dir, 64)

    with pytest.raises(ServiceUnavailableError) as caught:
        bench.run(
            plan(outputs=[Output(name="out", uri=bench.uri("x"))]),
            lambda _: pytest.fail("the body ran"),
        )

    assert caught.value.why == "audit_unavailable"
    assert bench.published() == {}
