"""The relay as a program, and its jobs one by one: witnesses that are there, gone, or alarmed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.relay import SqliteBook
from airflow_secure_ml.adapters.relay.process import RelayLock, ensure_relay, is_relaying
from airflow_secure_ml.core.audit.checkpoint import parse_checkpoint, parse_note
from airflow_secure_ml.core.audit.cosignature import CosignerKey, Witness, cosigners
from airflow_secure_ml.errors import AuditLogError, FormatError, ServiceUnavailableError
from airflow_secure_ml.services.relaying import TOLD_AFTER_MS, JobRunner, Rest
from airflow_secure_ml.services.standing import witnessed
from tests.interop.test_witnesses import ask, log, log_keys, signed, size_of  # noqa: F401 - a fixture
from tests.interop.witnesses import our_witness, until
from tests.services.audit.conftest import site  # noqa: F401 - a fixture


class Planned:
    """A job that does what it is told."""

    name, about = "witness w", "witness"

    def __init__(self, *answers):
        self.answers = list(answers)

    def step(self):
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


DONE = Rest(seconds=5.0, is_done=True)


def gone():
    return ServiceUnavailableError(service="witness w", action="ask", reason="refused")


class Runs:
    def __init__(self, path, *answers):
        self.facts, self.now, self.told = [], 1_000_000, []
        self.book = SqliteBook(path / "relay.db")
        self.runner = JobRunner(
            Planned(*answers),
            self.book,
            tell=self.tell,
            now_ms=lambda: self.now,
            on_trouble=lambda name, error: self.told.append(str(error)),
        )

    def tell(self, fact):
        self.facts.append((fact.act, fact.why))
        return True


def test_an_alarm_is_told_once_and_closed_when_it_is_over(tmp_path):
    # An alert makes the log grow, and so the next message: it must not be a new alert.
    run = Runs(tmp_path, AuditLogError("10 leaves"), AuditLogError("11 leaves"), DONE, DONE)

    for _ in range(4):
        run.runner.once()

    assert run.facts == [("alert.raise", "digest_differs"), ("alert.close", None)]
    assert run.book.troubles() == []


def test_a_receiver_is_told_to_be_away_only_after_a_while(tmp_path):
    run = Runs(tmp_path, gone(), gone(), gone(), DONE)
    run.runner.once()
    before = list(run.facts)
    run.now += TOLD_AFTER_MS

    for _ in range(3):
        run.runner.once()

    assert before == []
    assert run.facts == [("alert.raise", "service_unavailable"), ("alert.close", None)]


def test_an_alarm_is_told_though_an_absence_was(tmp_path):
    run = Runs(tmp_path, gone(), gone(), AuditLogError("another log"))
    run.runner.once()
    run.now += TOLD_AFTER_MS

    run.runner.once()
    run.runner.once()

    assert [why for _, why in run.facts] == ["service_unavailable", "digest_differs"]


def test_waits_grow_with_each_failure_and_end_with_a_success(tmp_path):
    run = Runs(tmp_path, *[gone() for _ in range(12)], DONE, gone())

    waits = [run.runner.once() for _ in range(14)]

    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[11:] == [300.0, 5.0, 1.0]


def test_the_book_is_private_and_of_one_format(tmp_path):
    book = SqliteBook(tmp_path / "relay.db")
    assert book.cursor("x") is None
    book.move("x", "7")

    assert os.stat(tmp_path / "relay.db").st_mode & 0o777 == 0o600
    assert book.cursor("x") == "7"

    with sqlite3.connect(tmp_path / "relay.db") as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(FormatError, match="format 2"):
        book.cursor("x")


def test_a_book_whose_maker_was_killed_at_once_is_empty(tmp_path):
    (tmp_path / "relay.db").touch(0o600)
    book = SqliteBook(tmp_path / "relay.db")

    assert book.cursor("x") is None
    assert book.troubles() == []
    book.move("x", "7")
    assert book.cursor("x") == "7"


def test_only_one_relay_works_on_a_log(tmp_path):
    first, second = RelayLock(tmp_path), RelayLock(tmp_path)

    assert first.acquire()
    assert not second.acquire()
    assert is_relaying(tmp_path)
    first.close()
    assert not is_relaying(tmp_path)
    assert second.acquire()
    second.close()


def relay(log, tmp_path, witnesses, *words):  # noqa: F811 - the fixture
    """The relay's program, over a log whose key it cannot reach."""
    return run("airflow_secure_ml.relay", log, tmp_path, witnesses, *words)


def cli(log, tmp_path, witnesses, *words):  # noqa: F811 - the fixture
    done = run("airflow_secure_ml.cli", log, tmp_path, witnesses, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(module, log, tmp_path, witnesses, *words):  # noqa: F811 - the fixture
    section = {
        "AUDIT_DIR": str(log.path),
        "AUDIT_SIGNER_DIR": str(tmp_path / "nowhere"),
        "AUDIT_RULES_OFF": "all",
        "AUDIT_LOG_KEYS": "".join(key.line() for key in log_keys(log)),
        "AUDIT_WITNESSES": "\n".join(witnesses),
    }
    names = {f"AIRFLOW__SECURE_ML__{name}": value for name, value in section.items()}
    return subprocess.run(
        [sys.executable, "-I", "-m", module, *words],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "home")} | names,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_dead_witness_keeps_no_other_from_cosigning(log, tmp_path):  # noqa: F811
    dead = CosignerKey(name="witness.example/dead", public_key=b"\x11" * 32)
    vkeys = [key.vkey() for key in log_keys(log)]
    with our_witness(tmp_path / "witness", vkeys) as witness:
        lines = [f"{dead.vkey()} http://127.0.0.1:1", f"{witness.key.vkey()} {witness.url}"]

        done = relay(log, tmp_path, lines, "--once")

    assert (done.returncode, done.stdout) == (1, "READY 2 jobs\n"), done.stderr
    book = SqliteBook(log.path / "relay.db")
    size = size_of(log.reader().checkpoint())
    assert [each.witness for each in book.cosigned(size)] == [witness.key.vkey()]
    assert [each.job for each in book.troubles()] == ["witness witness.example/dead"]
    both = [Witness(key=key, url="https://w") for key in (dead, witness.key)]
    one = witnessed(log.reader(), book, log_keys(log), both, 1)
    two = witnessed(log.reader(), book, log_keys(log), both, 2)
    assert (one.size, two.size) == (size, None)
    assert one.text.startswith("witnessed by 1 of 2 (1 needed)")
    assert two.text.startswith("local signature only")


def test_another_history_is_an_alert_in_the_spool(log, tmp_path):  # noqa: F811
    vkeys = [key.vkey() for key in log_keys(log)]
    with our_witness(tmp_path / "witness", vkeys) as witness:
        line = f"{witness.key.vkey()} {witness.url}"
        size = size_of(log.reader().checkpoint())
        ask(witness, 0, (), signed(log, size, b"\x07" * 32))
        log.spool.chmod(0o700)

        done = relay(log, tmp_path, [line], "--once")

    assert done.returncode == 1, done.stderr
    spooled = b"".join(path.read_bytes() for path in Path(log.spool).glob("*.seg"))
    assert b'"act":"alert.raise"' in spooled
    assert b'"why":"digest_differs"' in spooled


def test_an_edited_book_is_not_believed(log, tmp_path):  # noqa: F811
    vkeys = [key.vkey() for key in log_keys(log)]
    with our_witness(tmp_path / "witness", vkeys) as witness:
        relay(log, tmp_path, [f"{witness.key.vkey()} {witness.url}"], "--once")
    book = SqliteBook(log.path / "relay.db")
    kept = book.last_cosigned(witness.key.vkey())
    packed = bytearray(kept.line.encode())
    packed[-20] ^= 1
    book.keep_cosigned(replace(kept, line=packed.decode()))

    asked = [Witness(key=witness.key, url="https://w")]
    found = witnessed(log.reader(), book, log_keys(log), asked, 1)

    assert found.size is None
    assert found.problem
    assert parse_checkpoint(parse_note(log.reader().checkpoint()).text).size == kept.size


def test_the_commands_show_who_stands_behind_the_log(log, tmp_path):  # noqa: F811
    vkeys = [key.vkey() for key in log_keys(log)]
    log.spool.chmod(0o700)
    with our_witness(tmp_path / "witness", vkeys) as witness:
        lines = [f"{witness.key.vkey()} {witness.url}"]
        relay(log, tmp_path, lines, "--once")
        size = size_of(log.reader().checkpoint())

        shown = cli(log, tmp_path, lines, "audit", "checkpoint")
        verified = cli(log, tmp_path, lines, "audit", "verify")

    assert size_of(shown) == size
    assert cosigners(shown, [witness.key]).keys() == {witness.key.vkey()}
    assert f"level in force: witnessed by 1 of 1 (1 needed) up to {size} events" in verified


@pytest.mark.parametrize(
    "note",
    ["example.org/asml-trail/0\n\x9b2J9\nx\n\n", "none", "a\nb\n"],
    ids=["signs", "word", "lines"],
)
def test_a_checkpoint_that_does_not_hold_is_not_given_out_to_be_kept(log, tmp_path, note):  # noqa: F811
    log.spool.chmod(0o700)
    with sqlite3.connect(log.database) as database:
        database.execute("UPDATE checkpoint SET note = ?", (note,))

    done = run("airflow_secure_ml.cli", log, tmp_path, [], "audit", "checkpoint")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_it_starts_in_the_background_and_ends_when_nothing_is_left(log, tmp_path, monkeypatch):  # noqa: F811
    vkeys = [key.vkey() for key in log_keys(log)]
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW__SECURE_ML__AUDIT_DIR", str(log.path))
    monkeypatch.setenv("AIRFLOW__SECURE_ML__AUDIT_LOG_KEYS", log_keys(log)[0].line())
    with our_witness(tmp_path / "witness", vkeys) as witness:
        line = f"{witness.key.vkey()} {witness.url}"
        monkeypatch.setenv("AIRFLOW__SECURE_ML__AUDIT_WITNESSES", line)
        book = SqliteBook(log.path / "relay.db")

        assert ensure_relay(log.path, idle_s=1.0)
        until(lambda: book.last_cosigned(witness.key.vkey()), "the relay asks")
        until(lambda: not is_relaying(log.path), "the relay ends")
