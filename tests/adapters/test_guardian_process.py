"""What the guardian does for a task that is told, closed, killed or broken."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.scratch.making import Scratch, make_scratch, sweep
from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from airflow_secure_ml.errors import PolicyError

ROOT = Path(__file__).resolve().parents[2]
RUN = RunRef(dag="churn", run="manual__1", task="train", try_number=1, ti="019ab2c4-7d10-7b3e")
DEADLINE_S = 60.0

# A task in small: takes scratch and a guardian, writes plaintext, says how far it is, and ends.
TASK = """
import os, sys, time, signal, subprocess
from pathlib import Path
sys.path.insert(0, {root!r})
from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.scratch.making import make_scratch
from airflow_secure_ml.core.audit.event import RunRef

scratch = make_scratch([Path({shm!r})], 1)
print(scratch.root, flush=True)
run = RunRef(dag="churn", run="manual__1", task="train", try_number=1, ti="019ab2c4-7d10-7b3e")
audit = GuardianAudit(audit_dir=Path({audit!r}))
guardian = Guardian.start(scratch=[scratch.root], run=run, audit=audit)
print(guardian.pid, flush=True)
guardian.ready()
path = scratch.path_for("table", "customers.csv")
path.write_text("plaintext")
print("written", flush=True)
{end}
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.002)


def is_gone(root: Path) -> bool:
    return not root.exists() and not root.with_name(root.name + ".gone").exists()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def recorded(audit_dir: Path) -> list[dict[str, object]]:
    events = []
    for segment in sorted(audit_dir.rglob("*.seg")):
        frames = read_frames(segment.read_bytes(), HEADER_BYTES).frames
        events += [json.loads(found.payload) for found in frames if found.kind == EVENT]
    return events


def shreds(audit_dir: Path) -> list[dict[str, object]]:
    return [event for event in recorded(audit_dir) if event["act"] == "scratch.shred"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory that no other test sweeps."""
    made = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start_task(tmp_path: Path, place: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    tasks: list[subprocess.Popen[str]] = []

    def start(end: str) -> subprocess.Popen[str]:
        program = TASK.format(root=str(ROOT), shm=str(place), audit=str(tmp_path), end=end)
        tasks.append(
            subprocess.Popen(
                [sys.executable, "-S", "-c", program],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return tasks[-1]

    yield start
    for task in tasks:
        if task.poll() is None:
            os.killpg(task.pid, signal.SIGKILL)
        task.wait()
        assert task.stdout is not None
        task.stdout.close()


@pytest.fixture
def scratch(place: Path) -> Iterator[Scratch]:
    with make_scratch([place], 1) as made:
        yield made


def line(task: subprocess.Popen[str]) -> str:
    assert task.stdout is not None
    return task.stdout.readline().strip()


ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "_exit": "os._exit(0)",
    "system exit": "raise SystemExit(3)",
    "exception": "raise RuntimeError('x')",
    "segfault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "line closed": "os.closerange(3, 256); time.sleep(600)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_whatever_ends_a_task_its_scratch_is_shredded_and_recorded(start_task, tmp_path, end):
    task = start_task(end)
    root, guardian = Path(line(task)), int(line(task))
    assert line(task) == "written"

    wait_for(lambda: is_gone(root), "scratch is still there")
    wait_for(lambda: not is_running(guardian), "the guardian is still running")

    (event,) = shreds(tmp_path)
    assert event["result"] == "ok"
    assert event["run"] == {
        "dag": "churn", "map": -1, "run": "manual__1", "task": "train", "ti": RUN.ti, "try": 1,
    }  # fmt: skip
    because = "line_closed" if "closerange" in end else "task_died"
    assert event["more"] == {"because": because, "path": root.name}


def test_a_group_told_to_end_and_then_killed_leaves_nothing(start_task, tmp_path):
    task = start_task("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    root, guardian = Path(line(task)), int(line(task))
    assert line(task) == "written"

    os.killpg(task.pid, signal.SIGTERM)
    os.kill(guardian, signal.SIGTERM)
    os.killpg(task.pid, signal.SIGKILL)

    wait_for(lambda: is_gone(root), "scratch is still there")
    wait_for(lambda: not is_running(guardian), "the guardian is still running")
    assert len(shreds(tmp_path)) == 1


def swept(place: Path, root: Path) -> bool:
    sweep([place])
    return is_gone(root)


def test_a_task_killed_at_any_moment_leaves_nothing(start_task, tmp_path, place):
    moments = random.Random(20261122)

    # A moment after it has scratch, after the guardian was started, after it wrote.
    for lines in moments.sample([1, 2, 3] * 14, 42):
        task = start_task("time.sleep(600)")
        root, *rest = [line(task) for _ in range(lines)]
        root = Path(root)
        time.sleep(moments.uniform(0, 0.05))
        os.killpg(task.pid, signal.SIGKILL)
        task.wait()
        rest += task.stdout.read().split()
        if not rest:
            # Killed before any plaintext; it had no guardian, or one that has just begun.
            assert [name for *_, names in os.walk(place) for name in names] in ([], [".owner"])
            wait_for(lambda root=root: swept(place, root), f"{root} is still there")
            continue
        wait_for(lambda root=root: is_gone(root), f"{root} is still there")
        wait_for(lambda pid=int(rest[0]): not is_running(pid), "the guardian is still running")

    assert len(shreds(tmp_path)) >= 14
    assert all(event["result"] == "ok" for event in shreds(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_guardian_is_deaf_to_what_ends_a_task(scratch, number):
    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()

    os.kill(guardian.pid, number)
    report = guardian.finish()

    assert report.answered
    assert report.shredded == (scratch.root,)
    guardian.bye()


def test_told_to_finish_it_shreds_and_leaves_the_record_to_the_task(scratch, tmp_path):
    scratch.path_for("table", "t.csv").write_text("plaintext")
    guardian = Guardian.start(
        scratch=[scratch.root], run=RUN, audit=GuardianAudit(audit_dir=tmp_path)
    )
    guardian.ready()

    report = guardian.finish()
    guardian.bye()

    assert (report.answered, report.shredded, report.left) == (True, (scratch.root,), ())
    assert is_gone(scratch.root)
    assert recorded(tmp_path) == []
    assert not is_running(guardian.pid)


def test_finished_but_not_released_it_records_itself(scratch, tmp_path):
    guardian = Guardian.start(
        scratch=[scratch.root], run=RUN, audit=GuardianAudit(audit_dir=tmp_path)
    )
    guardian.ready()

    guardian.finish()
    guardian.leave()

    assert [event["act"] for event in recorded(tmp_path)] == [
        "emitter.open", "scratch.shred", "emitter.close",
    ]  # fmt: skip
    assert recorded(tmp_path)[0]["more"]["program"] == "guardian"


def test_scratch_added_later_is_shredded_too(scratch):
    guardian = Guardian.start()
    guardian.ready()

    guardian.add_scratch(scratch.root)
    report = guardian.finish()

    assert report.shredded == (scratch.root,)
    guardian.bye()


def test_finishing_twice_tells_the_same(scratch):
    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()

    first, second = guardian.finish(), guardian.finish()

    assert first == second
    guardian.bye()


def test_a_guardian_that_cannot_be_started_is_a_refusal(scratch):
    with pytest.raises(PolicyError, match="guardian process is not available") as caught:
        Guardian.start(scratch=[scratch.root], python="/nonexistent/python")

    assert caught.value.why == "guardian_unavailable"


@pytest.mark.parametrize("python", ["/bin/true", "/bin/false", "/bin/cat"])
def test_a_guardian_that_does_not_answer_is_a_refusal(scratch, python):
    guardian = Guardian.start(scratch=[scratch.root], python=python)

    with pytest.raises(PolicyError, match="did not answer") as caught:
        guardian.ready(deadline_s=2)

    assert caught.value.why == "guardian_unavailable"
    guardian.leave()


def test_scratch_that_is_not_there_is_a_refusal(tmp_path):
    guardian = Guardian.start(scratch=[tmp_path / "asml-missing"])

    with pytest.raises(PolicyError, match="FileNotFoundError"):
        guardian.ready()

    guardian.leave()


def test_being_ready_is_asked_before_every_plaintext(scratch):
    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()
    guardian.ready()
    os.kill(guardian.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(guardian.pid), "the guardian is still running")

    with pytest.raises(PolicyError, match="ended with status -9"):
        guardian.ready()

    guardian.leave()


def test_a_full_trail_does_not_keep_scratch(scratch, tmp_path):
    (tmp_path / "no-directory").write_text("")
    audit = GuardianAudit(audit_dir=tmp_path / "no-directory", spare_dir=tmp_path / "spare")
    guardian = Guardian.start(scratch=[scratch.root], run=RUN, audit=audit)
    guardian.ready()

    guardian.leave()

    assert is_gone(scratch.root)
    assert len(shreds(tmp_path / "spare")) == 1


def test_what_is_hidden_is_hidden_by_the_guardian_too(scratch, tmp_path):
    audit = GuardianAudit(audit_dir=tmp_path, hide=("run.task",))
    guardian = Guardian.start(scratch=[scratch.root], run=RUN, audit=audit)
    guardian.ready()

    guardian.leave()

    (event,) = shreds(tmp_path)
    assert event["run"]["task"]["n"] == len("train")


def test_what_the_task_shredded_itself_is_not_recorded_again(scratch, tmp_path):
    audit = GuardianAudit(audit_dir=tmp_path)
    guardian = Guardian.start(scratch=[scratch.root], run=RUN, audit=audit)
    guardian.ready()

    scratch.shred()
    guardian.bye()

    assert recorded(tmp_path) == []


def test_bye_with_plaintext_left_is_not_believed(scratch, tmp_path):
    audit = GuardianAudit(audit_dir=tmp_path)
    guardian = Guardian.start(scratch=[scratch.root], run=RUN, audit=audit)
    guardian.ready()

    guardian.bye()

    assert is_gone(scratch.root)
    assert [event["more"]["because"] for event in shreds(tmp_path)] == ["left_over"]


def test_a_call_cut_off_by_a_signal_does_not_answer_the_next(scratch, monkeypatch):
    guardian = Guardian.start()
    guardian.ready()
    wait_for_answer = guardian._answer

    def strike(*_):
        raise TimeoutError("execution_timeout")

    def sent(*arguments):
        # Only now: what strikes before there is a question needs no answer.
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return wait_for_answer(*arguments)

    before = signal.signal(signal.SIGALRM, strike)
    try:
        os.kill(guardian.pid, signal.SIGSTOP)
        monkeypatch.setattr(guardian, "_answer", sent)
        with pytest.raises((TimeoutError, PolicyError)):
            guardian.add_scratch(scratch.root, deadline_s=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.kill(guardian.pid, signal.SIGCONT)
        monkeypatch.undo()
    report = guardian.finish()

    assert report.shredded == (scratch.root,)
    guardian.bye()


def test_a_guardian_killed_meanwhile_leaves_shredding_to_the_task(scratch):
    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()
    os.kill(guardian.pid, signal.SIGKILL)

    report = guardian.finish()

    assert not report.answered
    with pytest.raises(PolicyError):
        guardian.add_scratch(scratch.root)
    guardian.leave()
    scratch.shred()
    assert is_gone(scratch.root)


def test_a_forked_child_cannot_have_its_parents_scratch_shredded(scratch):
    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()

    child = os.fork()
    if child == 0:
        # Nor would it end the leases itself.
        is_alone = guardian.finish().is_alone
        guardian.leave()
        scratch.shred()
        os._exit(0 if is_alone else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert scratch.root.is_dir()
    assert guardian.finish().shredded == (scratch.root,)
    guardian.bye()


def test_a_child_that_goes_on_writing_does_not_keep_scratch(start_task, tmp_path):
    writer = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "print(flush=True)\n"
        "count = 0\n"
        "while True:\n"
        "    count += 1\n"
        "    try: open(str(count % 50), 'w').write('plaintext')\n"
        "    except FileNotFoundError: break\n"
    )
    task = start_task(
        f"command = [sys.executable, '-S', '-c', {writer!r}, str(path.parent)]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root, guardian = Path(line(task)), int(line(task))
    assert line(task) == "written"
    child = int(line(task))

    wait_for(lambda: is_gone(root), "scratch is still there")
    wait_for(lambda: not is_running(guardian), "the guardian is still running")
    wait_for(lambda: not is_running(child), "the child found somewhere to write to")

    assert [event["result"] for event in shreds(tmp_path)] == ["ok"]


def test_what_the_guardian_is_given_holds_no_secret(scratch, monkeypatch):
    monkeypatch.setenv("CANARY_SECRET", "canary-6f1d")

    guardian = Guardian.start(scratch=[scratch.root])
    guardian.ready()

    environment = Path(f"/proc/{guardian.pid}/environ").read_bytes()
    command = Path(f"/proc/{guardian.pid}/cmdline").read_bytes()
    assert b"canary" not in environment + command
    assert {part.partition(b"=")[0] for part in environment.split(b"\0") if part} <= {
        b"LD_LIBRARY_PATH", b"LC_CTYPE",
    }  # fmt: skip
    limits = Path(f"/proc/{guardian.pid}/limits").read_text().splitlines()
    assert [row.split()[4] for row in limits if row.startswith("Max core")] == ["0"]
    assert os.getsid(guardian.pid) == guardian.pid
    guardian.finish()
    guardian.bye()
