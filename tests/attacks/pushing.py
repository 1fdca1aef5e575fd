"""Who hands events over in these attacks: a worker without a pause, a guardian of a scratch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.audit_ports import push_target
from airflow_secure_ml.core.audit.event import Fact

DEADLINE_S = 60.0
# It names what it was told is durable.
WORKER = """
import json, sys
from airflow_secure_ml.audit_ports import push_lines
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.event import Fact
lines = push_lines(json.loads(sys.argv[1]))
while True:
    sink = EmitterSink("task", lines)
    for n in range(7):
        name = sink.record(Fact(act="xcom.write", phase="intent", more={"name": f"value {n}"}))
        sink.settle()
        print(name, flush=True)
    sink.close()
"""


def fact(name):
    return Fact(act="xcom.write", phase="intent", more={"name": name})


def start_worker(**target):
    """A process that hands over for good, to where `push_lines` is told."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(target)], stdout=subprocess.PIPE, text=True
    )


def told(worker, count):
    """The next names that the worker said."""
    return [worker.stdout.readline().strip() for _ in range(count)]


def kill(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def kill_worker(worker):
    """Kill it; returns what else it had said."""
    kill(worker)
    rest = [line.strip() for line in worker.stdout if line.endswith("\n")]
    worker.stdout.close()
    return rest


def guard(scratch, site, settings):
    """A guardian does its work for a task that is over; what it said is in the site's log."""
    audit = GuardianAudit(audit_dir=site.path / "audit", push=push_target(settings))
    guardian = Guardian.start(scratch=[scratch.root], audit=audit)
    guardian.ready()
    guardian.finish()
    guardian.leave()
    deadline = time.monotonic() + DEADLINE_S
    site.start()
    while not site.events("emitter.close") and time.monotonic() < deadline:
        site.run()
        time.sleep(0.1)
