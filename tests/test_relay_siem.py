"""The relay as a program that hands events over: killed again and again, beside dead receivers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook
from airflow_secure_ml.adapters.relay.process import LOCK_FILE, is_relaying
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.core.audit.siem import parse_cursor
from tests.adapters.receivers import (
    indices_of,
    make_certificate,
    messages_of,
    syslog_server,
    web_hook,
)
from tests.services.audit.conftest import ALICE, chain, site  # noqa: F401 - a fixture

EVENTS = 500
DEADLINE_S = 60.0
TASK = """
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.recording import close_sink, sink_of_this_process
sink = sink_of_this_process(program="task")
for number in range(50):
    sink.record(Fact(act="trail.view", phase="seen", result="ok", more={"page": "x"}))
    sink.settle()
close_sink()
"""


def start(log, tmp_path, *words, **options):
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "airflow_secure_ml.relay", *words],
        env=environment_of(log, tmp_path, **options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def environment_of(log, tmp_path, **options):
    section = {
        "AUDIT_DIR": str(log.path),
        "AUDIT_SIGNER_DIR": str(tmp_path / "nowhere"),
        "AUDIT_RULES_OFF": "all",
        **{name.upper(): str(value) for name, value in options.items()},
    }
    names = {f"AIRFLOW__SECURE_ML__{name}": value for name, value in section.items()}
    return {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "home")} | names


def cursor_of(log, job):
    text = SqliteBook(log.path / BOOK_FILE).cursor(job)
    return 0 if text is None else parse_cursor(text).next


def until(is_so):
    due = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < due
        time.sleep(0.05)


def filled(site):  # noqa: F811 - the fixture
    site.put(ALICE, 0, chain(ALICE, EVENTS))
    site.run()
    return site.reader().size()


def test_a_relay_killed_in_a_loop_loses_nothing_and_keeps_the_order(site, tmp_path):  # noqa: F811
    size = filled(site)
    ca, both = make_certificate(tmp_path)
    running, kills = [], []
    with web_hook(both) as (hook, url):

        def answer(n, handler):
            # Every second batch: taken, and the relay killed before it hears of that.
            if n % 2 == 0:
                running[-1].send_signal(signal.SIGKILL)
                kills.append(n)
            return 200, {}, b""

        hook.answer = answer
        while cursor_of(site, "siem webhook") < size:
            assert len(running) < 30
            running.append(start(site, tmp_path, "--idle-s", "0", siem_url=url, siem_ca=ca))
            running[-1].communicate(timeout=DEADLINE_S)

    assert len(kills) >= 3
    batches = [indices_of(body) for _, body in hook.requests]
    reached = 0
    for batch in batches:
        assert batch == list(range(batch[0], batch[-1] + 1))
        # Sent again at most; never ahead of what came before.
        assert batch[0] <= reached
        reached = max(reached, batch[-1] + 1)
    assert reached == size
    assert hook.indices() != sorted(set(hook.indices()))


def test_a_dead_receiver_keeps_no_other_from_its_events(site, tmp_path):  # noqa: F811
    size = filled(site)
    ca, both = make_certificate(tmp_path)
    with web_hook(both) as (hook, url), syslog_server(both) as (said, port):
        # It never answers.
        hook.answer = lambda n, handler: handler.rfile.read(1) and None
        options = {"siem_url": url, "siem_ca": ca, "siem_syslog": f"127.0.0.1:{port}"}
        relay = start(site, tmp_path, **options)
        until(lambda: cursor_of(site, "siem syslog") == size)
        relay.terminate()
        _, errors = relay.communicate(timeout=DEADLINE_S)

    assert relay.returncode == 0, errors
    assert len(messages_of(b"".join(said))) == size
    assert cursor_of(site, "siem webhook") == 0


def test_what_a_receiver_never_takes_is_one_alert_in_the_trail(site, tmp_path):  # noqa: F811
    filled(site)
    ca, both = make_certificate(tmp_path)
    Path(site.spool).chmod(0o700)
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("never-in-an-output")
    with web_hook(both) as (hook, url):
        hook.answer = lambda n, handler: (403, {}, b"never-in-an-output"[:0])
        options = {"siem_url": url, "siem_ca": ca, "siem_token_path": token}
        outputs = []
        for _ in range(2):
            done = start(site, tmp_path, "--once", **options)
            outputs += done.communicate(timeout=DEADLINE_S)
            assert done.returncode == 1, outputs

    spooled = b"".join(path.read_bytes() for path in Path(site.spool).glob("*.seg"))
    assert spooled.count(b'"act":"alert.raise"') == 1
    assert b'"about":"siem"' in spooled
    assert all("never-in-an-output" not in text for text in [*outputs, spooled.decode("latin-1")])
    assert {headers["Authorization"] for headers, _ in hook.requests} == {
        "Bearer never-in-an-output"
    }


def test_a_receiver_that_never_answers_keeps_no_task_waiting(site, tmp_path):  # noqa: F811
    Path(site.spool).chmod(0o700)
    ca, both = make_certificate(tmp_path)
    ended, answered, moved = threading.Event(), [], tmp_path / "moved"
    moved.mkdir()
    with web_hook(both) as (hook, url):

        def answer(n, handler):
            ended.wait(DEADLINE_S)
            answered.append(n)

        hook.answer = answer
        environment = environment_of(site, tmp_path, siem_url=url, siem_ca=ca)
        environment["AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR"] = str(site.signer_path)

        def work():
            """A task's process, which also starts whatever takes its events further."""
            return subprocess.run(
                [sys.executable, "-c", TASK], env=environment, capture_output=True, text=True,
                timeout=DEADLINE_S, check=False,
            )  # fmt: skip

        try:
            first = work()
            until(lambda: hook.requests)
            second = work()
            waits = not answered
        finally:
            ended.set()
            stop_sequencer(site.path)
            # A relay whose lock nobody would ask any more ends.
            (site.path / LOCK_FILE).rename(moved / LOCK_FILE)
            until(lambda: not is_relaying(moved))

    assert waits
    for done in (first, second):
        # Neither told, after a while, that something did not start: nothing was waited for.
        assert (done.returncode, done.stderr) == (0, "")
