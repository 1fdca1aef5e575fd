"""A whole deployment in a temporary folder: real keyring, files, spool, scratch and guardian."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from airflow_secure_ml.core.canonical import decode
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.run_plan import Input, Output, Plan
from airflow_secure_ml.services.secured_run import Ending
from airflow_secure_ml.settings import parse_settings

ROOT = Path(__file__).resolve().parents[3]
ROWS = "age,name\n41,ada\n17,alan\n"


class Bench(Deployment):
    """A deployment that a test can break.

    Attributes:
        folder: Everything but scratch lies below it.
        keyring: Its keys: data (wrap) and pipeline (sign) at first.
        data: Where a test's objects go.
        change: From the desk of each run to the one it gets instead.
        told: Lines for the task's own log.
    """

    def __init__(self, folder, shm, **options):
        self.folder, self.shm = folder, shm
        self.keyring = LocalKeyring(folder / "keyring.json")
        self.data = folder / "data"
        self.audit_dir = folder / "audit"
        self.change = lambda desk: desk
        self.told, self._sinks = [], []
        self.configure(**options)

    @classmethod
    def make(cls, folder, shm):
        """A new one; another process may go on with it (`Bench(folder, shm)`)."""
        made = cls(folder, shm)
        made.keyring.init()
        made.data.mkdir()
        return made

    def configure(self, **options):
        """Take settings; what was made of the ones before is forgotten."""
        for name in ("keys", "rules", "local_objects", "checker"):
            self.__dict__.pop(name, None)
        defaults = {
            "key_system": f"local://{self.keyring.path}",
            "scratch_dirs": str(self.shm),
            "audit_dir": str(self.audit_dir),
            "audit_signer_dir": str(self.folder / "signer"),
        }
        super().__init__(parse_settings(defaults | options))

    def allow(self, text):
        """Put these rules in force."""
        path = self.folder / "policy.toml"
        path.write_text('version = "1"\n' + text)
        self.configure(policy_file=str(path))

    def uri(self, name):
        return self.canonical(str(self.data / name))

    def path(self, name):
        return self.data / name

    def sink(self, **options):
        """An emitter of its own, as each task process is one."""
        spool = Spool(
            self.audit_dir,
            "task",
            on_unavailable=self.settings.audit_unavailable,
            **options,
        )
        self._sinks.append(spool)
        return spool

    def _desk(self, run, still_ours):
        return self.change(super()._desk(run, still_ours))

    def secured(self, plan, *, sink=None, still_ours=lambda: None, run=None):
        """A run that has not begun."""
        run = run or RunRef(
            dag=plan.dag_id, run=plan.run_id, task=plan.task_id, map_index=plan.map_index
        )
        return self.secured_run(
            lambda: plan,
            reads=[one.name for one in plan.inputs],
            writes=[one.name for one in plan.outputs],
            operator="Test",
            sink=sink or self.sink(),
            run=run,
            still_ours=still_ours,
            tell=self.told.append,
        )

    def run(self, plan, body=lambda bound: None, **options):
        """Run a body as a wrapped task does; returns the references."""
        with self.secured(plan, **options) as run:
            bound = run.open()
            try:
                body(bound)
            except BaseException as error:
                run.end(Ending.RAISED, error)
                raise
            return run.publish()

    def put(self, name, content=ROWS, **plan):
        """Have a task seal and sign an object; returns its reference."""
        output = Output(name="out", uri=self.uri(name), **plan.pop("output", {}))
        made = a_plan(outputs=[output], **{"task_id": "put", **plan})
        return self.run(made, lambda bound: bound["out"].write_text(content))["out"]

    def events(self):
        """Every event that lies in the spool, by emitter and number."""
        found = []
        for segment in sorted((self.audit_dir / "spool").glob("*.seg")):
            scan = read_frames(segment.read_bytes(), HEADER_BYTES)
            found += [decode(one.payload) for one in scan.frames if one.kind == EVENT]
        return sorted(found, key=lambda event: (event["time"], event["emitter"], event["seq"]))

    def acts(self, emitter=None):
        """Act, phase, result and why of what was recorded."""
        return [
            (event["act"], event["phase"], event.get("result"), event.get("why"))
            for event in self.events()
            if emitter in (None, event["emitter"])
        ]

    def refusal(self, plan, body=None, *, error=SecureMLError, **options):
        """What a run that must fail raised and recorded; nothing of it may be left.

        Returns:
            The error, and the pairs of act and why that its outcomes carry.
        """
        ran = []

        def noticing(bound):
            ran.append(bound)
            if body is not None:
                body(bound)

        sink = options.pop("sink", None) or self.sink()
        before = self.published()
        with pytest.raises(error) as caught:
            self.run(plan, noticing, sink=sink, **options)
        assert bool(ran) == (body is not None), "the body ran, or did not"
        assert self.published() == before
        assert self.left_in_scratch() == []
        emitter = sink.emitter
        recorded = [event for event in self.events() if event["emitter"] == emitter]
        open_intents = {
            f"{emitter}:{event['seq']}" for event in recorded if event["phase"] == "intent"
        } - {event.get("of") for event in recorded}
        assert open_intents == set(), "an intent without an outcome"
        said = [
            (event["act"], event["why"])
            for event in recorded
            if event.get("result") in ("refused", "failed")
        ]
        return caught.value, said

    def published(self):
        """Bytes of every object, statements apart."""
        return {
            str(path.relative_to(self.data)): path.read_bytes()
            for path in sorted(self.data.rglob("*"))
            if path.is_file() and ".sig" not in str(path)
        }

    def left_in_scratch(self):
        return sorted(path.name for path in self.shm.iterdir())

    def read(self, name, **how):
        """Open an object as another task would; returns its text."""
        found = []
        item = Input(name="table", uri=self.uri(name), **how)
        self.run(
            a_plan(inputs=[item], task_id="read"),
            lambda bound: found.append(bound["table"].read_text()),
        )
        return found[0]

    def close(self):
        for sink in self._sinks:
            with contextlib.suppress(SecureMLError):
                sink.close()


def a_plan(*, inputs=(), outputs=(), **where):
    """A plan of one task of one DAG."""
    names = [one.name for one in inputs]
    return Plan(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        listed=frozenset(name for name in names if names.count(name) > 1),
        **{"dag_id": "churn", "task_id": "train", "run_id": "r1", **where},
    )


def replaced(desk, **parts):
    return dataclasses.replace(desk, **parts)


@pytest.fixture
def shm():
    path = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bench(tmp_path, shm):
    made = Bench.make(tmp_path, shm)
    yield made
    made.close()


@pytest.fixture
def plan():
    return a_plan


@pytest.fixture
def with_parts():
    """`dataclasses.replace` for desks."""
    return replaced


@pytest.fixture
def suite(tmp_path):
    """Adults only, as a suite file."""

    def write(column="age", name="adults.json"):
        kwargs = {"column": column, "min_value": 18}
        one = {
            "type": "expect_column_values_to_be_between",
            "kwargs": kwargs,
            "severity": "critical",
        }
        path = tmp_path / name
        path.write_text(json.dumps({"name": "adults", "expectations": [one]}))
        return path

    return write


@pytest.fixture
def leasing_place(vault, vault_database):
    """Where a task leases: a Vault, an AppRole with what a task needs, and a path."""
    return _leasing_place(vault, vault_database, token_ttl="15s")


@pytest.fixture
def lasting_place(vault, vault_database):
    """The same, and its tokens outlive any test: what they leased does not end with them."""
    return _leasing_place(vault, vault_database, token_ttl="10m")


def _leasing_place(vault, vault_database, *, token_ttl):
    from tests.servers import vault_setup

    text = (ROOT / "docker/vault/task-leases.hcl").read_text().replace("creds/reader", "creds/+")
    policy = vault_setup.policy(vault, "secured-runs", text)
    role_id, secret_id = vault_setup.approle(
        vault,
        f"secured-runs-{token_ttl}",
        policy,
        token_ttl=token_ttl,
        token_no_default_policy=True,
    )
    return {
        "url": vault.url,
        "ca": str(vault.ca),
        "role_id": role_id,
        "secret_id": secret_id,
        "path": vault_database.make_role("secured-runs", "60s", "120s"),
    }


@pytest.fixture(autouse=True)
def no_child_is_left():
    before = children()
    yield
    assert children() - before == set()


def children():
    """Process ids of this process's children, whichever thread started them."""
    found = set()
    for each in Path("/proc/self/task").glob("*/children"):
        # A thread may end meanwhile; its children are the others' then.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.update(each.read_text().split())
    return found
