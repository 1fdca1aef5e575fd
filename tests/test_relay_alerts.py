"""The relay as a program that raises alerts: killed again and again, started with the trail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook
from airflow_secure_ml.core.audit.siem import parse_cursor
from tests.adapters.receivers import make_certificate, web_hook
from tests.services.audit.conftest import ALICE, BOB, chain, site  # noqa: F401 - a fixture
from tests.services.audit.test_pruning import prune

BAD = {"result": "refused", "why": "digest_differs"}
DEADLINE_S = 90.0
KINDS = 12
# The fixture's events are of a day that a rule may look back to.
RULE = """\
title: An object that differs
name: differs
level: high
correlation:
    type: event_count
    rules: [differing]
    group-by: [object.uri]
    timespan: 1h
    condition:
        gte: 1
---
title: It differs
name: differing
logsource:
    product: airflow_secure_ml
detection:
    s:
        why: digest_differs
    condition: s
"""


def environment(log, tmp_path, **options):
    rules = tmp_path / "rules"
    rules.mkdir(exist_ok=True)
    (rules / "differs.yml").write_text(RULE)
    section = {
        "AUDIT_DIR": str(log.path),
        "AUDIT_SIGNER_DIR": str(tmp_path / "nowhere"),
        "AUDIT_RULES_DIR": str(rules),
        **{name.upper(): str(value) for name, value in options.items()},
    }
    names = {f"AIRFLOW__SECURE_ML__{name}": value for name, value in section.items()}
    return {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "home")} | names


def start(log, tmp_path, *words, **options):
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "airflow_secure_ml.relay", *words],
        env=environment(log, tmp_path, **options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def row(log):
    text = SqliteBook(log.path / BOOK_FILE).cursor("alerts")
    return {} if text is None else json.loads(text)


def fill(log):
    """Reasons for one alert each, at a time that rules look back to."""
    log.spool.chmod(0o700)
    log.times.now = time.time_ns() // 1_000_000
    for n in range(KINDS):
        emitter = f"{n:032x}"
        events = chain(emitter, 4, object={"uri": f"s3://lake/{n}"}, time=log.times.now, **BAD)
        log.put(emitter, 0, events)
    log.run()


def subjects(log):
    found = log.events("alert.raise")
    return sorted(e["more"]["subject"] for e in found if e["more"]["about"] == "rule.differs")


def until(is_so, what):
    due = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < due, what
        time.sleep(0.002)


def watched(log):
    """What changes while it works."""
    return (json.dumps(row(log)), sorted(path.name for path in log.spool.glob("*.seg")))


def looked_at_all(log):
    """Whether everything that is in the log was looked at, and every alert of it recorded."""
    found = row(log)
    if not found or found["outbox"]:
        return False
    return parse_cursor(found["cursor"]).next == log.reader().size()


def is_at_rest(log):
    """The same, and nothing that was recorded waits to be sequenced."""
    return looked_at_all(log) and not list(log.spool.glob("*.seg"))


def kill_after(log, relay, changes):
    """Kill a relay as soon as so many changes were seen, or where it has no more to do.

    Two changes that come together are seen as one, and what it recorded is not sequenced yet.
    """
    before, seen = watched(log), 0

    def is_due():
        nonlocal before, seen
        now = watched(log)
        seen, before = seen + (now != before), now
        return seen >= changes or looked_at_all(log) or relay.poll() is not None

    until(is_due, "it does something")
    relay.send_signal(signal.SIGKILL)
    relay.communicate(timeout=DEADLINE_S)


def test_killed_again_and_again_each_alert_is_there_once(site, tmp_path):  # noqa: F811
    fill(site)
    for changes in (1, 2, 3, 4):
        kill_after(site, start(site, tmp_path), changes)
        site.run()

    relay = start(site, tmp_path)
    assert relay.stdout.readline() == "READY 1 jobs\n"
    until(lambda: site.run() and is_at_rest(site), "it comes to rest")
    relay.terminate()
    _, errors = relay.communicate(timeout=DEADLINE_S)
    site.run()

    assert relay.returncode == 0, errors
    assert subjects(site) == sorted(f"s3://lake/{n}" for n in range(KINDS))


def end(log, relay):
    """Have what it records sequenced until it has nothing more to do."""
    until(lambda: log.run() and relay.poll() is not None, "it ends")
    relay.communicate(timeout=DEADLINE_S)


def test_started_again_it_raises_nothing_again(site, tmp_path):  # noqa: F811
    fill(site)

    for _ in range(2):
        # What it records makes the log grow, once it is sequenced: it has more to do.
        end(site, start(site, tmp_path, "--idle-s", "2"))

    assert subjects(site) == sorted(f"s3://lake/{n}" for n in range(KINDS))


def test_a_rule_that_cannot_be_read_stops_the_rules_alone(site, tmp_path):  # noqa: F811
    fill(site)
    ca, both = make_certificate(tmp_path)
    wrong = tmp_path / "rules" / "wrong.yml"
    wrong.parent.mkdir()
    wrong.write_text(RULE.replace("differ", "other").replace("why:", "more.nothing:"))
    with web_hook(both) as (hook, url):
        relay = start(site, tmp_path, "--once", siem_url=url, siem_ca=ca)
        _, errors = relay.communicate(timeout=DEADLINE_S)

    assert relay.returncode == 1
    assert "wrong.yml" in errors
    assert hook.indices()
    site.run()
    (alert,) = site.events("alert.raise")
    assert alert["more"]["about"] == "alerts"
    assert "'more.nothing'" in alert["more"]["because"]


def test_what_was_pruned_before_it_was_looked_at_is_said_in_its_log(site, tmp_path):  # noqa: F811
    site.put(ALICE, 0, chain(ALICE, 4))
    site.run()
    start(site, tmp_path, "--once").communicate(timeout=DEADLINE_S)
    site.put(BOB, 0, chain(BOB, 700))
    site.run()
    prune(site, 512)

    relay = start(site, tmp_path, "--once")
    _, errors = relay.communicate(timeout=DEADLINE_S)

    assert "WARNING alerts: leaves 7 to 511 were pruned before they were held" in errors
    assert parse_cursor(row(site)["cursor"]).next == 512


def test_receivers_may_get_alerts_alone(site, tmp_path):  # noqa: F811
    site.put(ALICE, 0, chain(ALICE, 300))
    site.put(BOB, 0, chain(BOB, 3, act="alert.raise", more={"about": "spool"}))
    site.run()
    ca, both = make_certificate(tmp_path)
    options = {"siem_ca": ca, "siem_events": "alerts", "audit_rules_off": "all"}
    with web_hook(both) as (hook, url):
        for _ in range(2):
            relay = start(site, tmp_path, "--idle-s", "0", siem_url=url, **options)
            relay.communicate(timeout=DEADLINE_S)

    ((_, body),) = hook.requests
    (finding,) = [json.loads(line) for line in body.splitlines()]
    assert finding["activity_name"] == "alert.raise"


def test_where_its_lock_is_gone_with_the_directory_it_ends(site, tmp_path):  # noqa: F811
    fill(site)
    relay = start(site, tmp_path)
    until(lambda: row(site) != {}, "it works")
    (site.path / "relay.lock").unlink()

    relay.communicate(timeout=DEADLINE_S)

    assert relay.returncode == 0


@pytest.mark.parametrize(("off", "is_there"), [("", True), ("all", False)], ids=["on", "off"])
def test_it_is_started_with_the_trail_wherever_rules_are_on(tmp_path, off, is_there):
    from airflow_secure_ml.settings import parse_settings

    settings = parse_settings(
        {"key_system": "local:///k", "audit_dir": str(tmp_path), "audit_rules_off": off}
    )

    assert settings.has_relay_work is is_there
    assert Path(settings.audit_dir) == tmp_path
