"""`audit compare-vault` as an auditor runs it, on a real Vault's log and attacks on either side."""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import signal
import time
from contextlib import contextmanager
from datetime import datetime

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import sequencer_pid
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, encode_frame, read_frames
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.reconciling.spool import ended_segments
from airflow_secure_ml.services.run_plan import Input, LeaseRequest, Output, Plan
from tests.servers import vault_setup
from tests.servers.vault_deployment import POLICY, VaultDeployment
from tests.test_cli import Home

NAME = "compared"
DATABASE, KV = f"database/creds/{NAME}", f"kv/data/pipelines/{NAME}"
DATA, PIPELINE = f"transit/{NAME}-data", f"transit/{NAME}-pipeline"

WAREHOUSE = LeaseRequest(name="w", path=DATABASE, conn_id="w")


class Story:
    """Two runs on a Vault, the log of it, and an auditor."""

    def __init__(self, deployed, vault, path):
        self.deployed, self.vault, self.path = deployed, vault, path
        self.uri = deployed.here.canonical(str(path / "table.csv"))
        self.home = Home(path)
        self.log = path / "vault.jsonl"
        settings = deployed.here.settings
        init_log(settings.audit_signer_dir, "airflow")
        self.home.audit = settings.audit_dir
        told = {
            "AUDIT_DIR": str(settings.audit_dir),
            "AUDIT_SIGNER_DIR": str(settings.audit_signer_dir),
            "KEY_SYSTEM": settings.key_system,
            "VAULT_CONN_ID": settings.vault_conn_id,
            "DATA_KEY": settings.data_key,
            "SIGNING_KEY": settings.signing_key,
        }
        for name, text in told.items():
            self.home.environment[f"AIRFLOW__SECURE_ML__{name}"] = text
        connection = f"AIRFLOW_CONN_{deployed.conn_id.upper()}"
        self.home.environment[connection] = os.environ[connection]
        self._from, self._until = vault.audit_log.stat().st_size, -1
        # The log begins before the story, by more than the tolerance.
        vault.api("GET", "sys/mounts")
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            time.sleep(0.01)

    def happens(self):
        leases = (WAREHOUSE, LeaseRequest(name="api", path=KV, conn_id="api"))
        output = Output(name="table", uri=self.uri)
        make = Plan(outputs=(output,), leases=leases, dag_id="churn", task_id="make")
        self.deployed.run("make", make, self._writes)
        self.reads("use")

    def reads(self, task):
        use = Plan(inputs=(Input(name="table", uri=self.uri),), leases=(WAREHOUSE,), dag_id="churn")
        self.deployed.run(task, use, lambda bound: bound["table"].read_text())
        self._await_guardians()

    @contextmanager
    def no_sequencing(self):
        """Its sequencer sleeps."""
        until = time.monotonic() + 30
        while not (pid := sequencer_pid(self.home.audit)):
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _await_guardians(self):
        """They end after their tasks, and have recorded by then."""
        spool, until = self.home.audit / "spool", time.monotonic() + 30
        while not {part.name for part in spool.glob("*.seg")} <= ended_segments([spool]):
            assert time.monotonic() < until
            time.sleep(0.02)

    def _writes(self, bound):
        bound["table"].write_text("age\n40\n")
        until = time.monotonic() + 30
        while not any(e["request"]["path"] == "sys/leases/renew" for e in self.entries()):
            assert time.monotonic() < until
            time.sleep(0.05)

    def entries(self):
        """What this story made Vault log."""
        with self.vault.audit_log.open("rb") as log:
            log.seek(self._from)
            length = self._until if self._until < 0 else self._until - self._from
            return [json.loads(line) for line in log.read(length).splitlines()]

    def end(self):
        """What Vault logs from now on is of other stories."""
        self._until = self.vault.audit_log.stat().st_size

    def compare(self, *words, entries=None):
        """The exit status, and what a program gets to read."""
        found = self.entries() if entries is None else entries
        if found:
            self.log.write_text("".join(json.dumps(each) + "\n" for each in found))
        edge = () if "--tolerance-s" in words else ("--tolerance-s", "0.05")
        answer = self.home.run("audit", "compare-vault", self.log, "--json", *edge, *words)
        assert answer.returncode in (0, 4, 5), answer.stderr.decode()
        return answer.returncode, json.loads(answer.stdout)

    def events(self, *acts):
        return self.home.events(*acts)


@contextmanager
def told(vault, vault_database, path, monkeypatch):
    vault_database.make_role(NAME, default_ttl="3s", max_ttl="60s")
    vault_setup.kv(vault, {f"pipelines/{NAME}": {"key": "agreed-secret"}})
    with VaultDeployment.make(vault, NAME, path, monkeypatch) as deployed:
        made = Story(deployed, vault, path)
        made.happens()
        yield made
        made.home.close()


@pytest.fixture
def story(vault, vault_database, tmp_path, monkeypatch):
    """A story that the test goes on with."""
    with told(vault, vault_database, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def finished(vault, vault_database, tmp_path_factory):
    """A story that is over, whose log tests cut to pieces."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, told(vault, vault_database, folder, patch) as made:
        made.end()
        yield made


def path_of(entry):
    return entry["request"]["path"]


def test_an_honest_story_agrees_use_by_use(story):
    status, said = story.compare()

    assert (status, said["verdict"], said["unrecorded"], said["unasked"]) == (0, "agree", [], [])
    assert (said["unknown"], said["doubts"]) == ([], [])
    hours = {(each["kind"], each["about"]): 0 for each in said["hours"]}
    for each in said["hours"]:
        assert each["vault"] == each["trail"]
        hours[each["kind"], each["about"]] += each["vault"]
    renewals = hours.pop(("renew", DATABASE))
    assert renewals >= 1
    assert hours == {
        ("decrypt", DATA): 1,
        ("encrypt", DATA): 1,
        ("grant", DATABASE): 2,
        ("grant", KV): 1,
        ("revoke", ""): 2,
        ("sign", PIPELINE): 1,
    }
    (check,) = story.events("coverage.check")
    assert check["more"] == {
        "source": "vault",
        "since_ms": said["from_ms"],
        "to_ms": said["until_ms"],
        "matched": said["matched"],
        **{"unrecorded": 0, "unasked": 0, "unknown": 0},
    }
    assert not story.events("alert.raise")


def test_a_key_used_with_a_stolen_token_is_named_once(story, vault):
    policy = story.deployed.here.settings.signing_key.replace("-pipeline", "")
    stolen = vault_setup.token(vault, policy)
    order = {
        "plaintext": base64.b64encode(secrets.token_bytes(32)).decode(),
        "context": base64.b64encode(b"c").decode(),
    }
    vault.api("POST", f"transit/encrypt/{NAME}-data", order, token=stolen)
    vault_setup.revoke(vault, stolen)

    status, said = story.compare()

    entry = [each for each in story.entries() if path_of(each) == f"transit/encrypt/{NAME}-data"][
        -1
    ]
    assert status == 4
    (use,) = said["unrecorded"]
    assert (use["kind"], use["about"], use["version"]) == ("encrypt", DATA, "1")
    assert use["request"] == entry["request"]["id"]
    assert (use["accessor"], use["display_name"]) == (entry["auth"]["accessor"], "token")
    assert use["remote"] == "127.0.0.1"
    assert said["unasked"] == []
    (alert,) = story.events("alert.raise")
    assert (alert["more"]["about"], alert["more"]["uses"]) == (
        "vault.unrecorded",
        [entry["request"]["id"]],
    )
    # Who asks again gets the same answer, and nobody is alerted again.
    assert story.compare()[0] == 4
    assert len(story.events("alert.raise")) == 1


def test_a_login_leased_with_a_stolen_token_is_named(story, vault):
    stolen = vault_setup.token(vault, NAME)
    leased = vault.api("GET", DATABASE, token=stolen)["lease_id"]
    vault_setup.revoke(vault, stolen)

    status, said = story.compare()

    assert status == 4
    (use,) = said["unrecorded"]
    assert (use["kind"], use["about"], use["display_name"]) == ("grant", DATABASE, "token")
    assert leased not in json.dumps(said)


def test_an_event_taken_out_of_the_spool_is_named(story):
    # A task's own code can do that: it is faster than the sequencer, and numbers the rest anew.
    with story.no_sequencing():
        story.reads("again")
        cut = forge_without(story.home.audit / "spool", "object.open", "again")

    status, said = story.compare()

    assert cut == 1
    assert status == 4
    assert [(use["kind"], use["about"]) for use in said["unrecorded"]] == [("decrypt", DATA)]
    assert said["unasked"] == []


def test_lines_taken_out_of_vaults_log_are_named(finished):
    opened = [e for e in finished.entries() if path_of(e) == f"transit/decrypt/{NAME}-data"]
    ids = {each["request"]["id"] for each in opened}
    left = [each for each in finished.entries() if each["request"]["id"] not in ids]

    status, said = finished.compare(entries=left)

    assert len(opened) == 2
    assert status == 4
    (act,) = said["unasked"]
    assert (act["act"], act["about"], act["run"]) == ("object.open", DATA, "churn r1 use")
    assert said["unrecorded"] == []
    raised = [each["more"] for each in finished.events("alert.raise")]
    (uses,) = [each["uses"] for each in raised if act["event"] in each["uses"]]
    assert {each["about"] for each in raised} == {"vault.unasked"}
    assert uses == [act["event"]]


def test_an_answer_taken_out_of_vaults_log_is_no_agreement(finished):
    left = [
        each
        for each in finished.entries()
        if (each["type"], path_of(each)) != ("response", f"transit/sign/{NAME}-pipeline")
    ]

    status, said = finished.compare(entries=left)

    assert status == 4
    assert [act["act"] for act in said["unasked"]] == ["object.sign"]
    assert [use["because"] for use in said["unknown"]] == ["the log has no answer to it"]


def test_a_log_that_ends_too_early_cannot_tell(finished):
    entries = finished.entries()
    opened = next(
        at for at, e in enumerate(entries) if path_of(e) == f"transit/decrypt/{NAME}-data"
    )

    status, said = finished.compare(entries=entries[:opened])

    assert status == 5
    assert "later than the log's last entry" in " ".join(said["doubts"])
    assert (said["unrecorded"], said["unasked"]) == ([], [])


def test_a_log_of_another_vault_cannot_tell(finished):
    text = json.dumps(finished.entries()).replace('"transit/', '"keys/').replace(NAME, "else")
    others = json.loads(text)

    status, said = finished.compare(entries=others)

    assert status == 5
    assert "another system's log" in " ".join(said["doubts"])
    assert said["matched"] == 0


def test_a_line_that_cannot_be_read_is_no_agreement(finished):
    lines = [json.dumps(each) for each in finished.entries()]
    finished.log.write_text("\n".join([lines[0], "\x1b[2Jno entry", *lines[1:], '{"type": "requ']))

    status, said = finished.compare(entries=[])

    assert (status, said["unrecorded"], said["unasked"]) == (5, [], [])
    assert (said["log"]["unreadable"], said["log"]["is_cut"]) == (1, True)
    assert said["log"]["first_unreadable"] == f"{finished.log}, line 2"


def test_a_rotated_and_compressed_log_is_one(finished):
    lines = [json.dumps(each).encode() + b"\n" for each in finished.entries()]
    first, half = finished.path / "vault.1.gz", len(lines) // 2
    first.write_bytes(gzip.compress(b"".join(lines[:half])))
    finished.log.write_bytes(b"".join(lines[half:]))

    answer = finished.home.run("audit", "compare-vault", first, finished.log)

    assert answer.returncode == 0, answer.stdout.decode()
    assert answer.stdout.startswith(b"Vault's log and the trail: agree")


def test_a_period_of_both_is_compared_alone(finished):
    (opened,) = [
        each
        for each in finished.entries()
        if (each["type"], path_of(each)) == ("response", f"transit/decrypt/{NAME}-data")
    ]

    status, said = finished.compare("--until", opened["time"])

    kinds = {each["kind"] for each in said["hours"] if each["vault"]}
    assert (said["unrecorded"], said["unasked"], said["doubts"]) == ([], [], [])
    assert status != 4
    assert {"encrypt", "sign"} <= kinds
    assert said["until_ms"] <= round(datetime.fromisoformat(opened["time"]).timestamp() * 1000)


@pytest.mark.parametrize("seconds", ["-1", "nan", "1e9"])
def test_a_tolerance_that_means_nothing_is_refused(finished, seconds):
    finished.compare()

    said = finished.home.refused(
        2, "audit", "compare-vault", finished.log, f"--tolerance-s={seconds}"
    )

    assert "expected 0 to 3600" in said["message"]


def test_a_rotation_and_a_rewrap_of_many_at_once_agree(story, vault):
    more = f"""
path "transit/rewrap/{NAME}-data" {{ capabilities = ["update"] }}
path "transit/keys/{NAME}-data/rotate" {{ capabilities = ["update"] }}
"""
    vault_setup.policy(vault, NAME, POLICY.format(name=NAME) + more)
    folder, key = story.path / "lake", f"{NAME}-data"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (story.path / name).write_text(name)
        story.home.done("seal", story.path / name, folder / name, "--key", key)
    story.home.done("keys", "rotate", key)
    story.home.done("rewrap", "--recursive", folder, "--key", key)
    story.home.done("open", folder / "a", story.path / "again", "--any-context")

    status, said = story.compare()

    counts = {
        each["kind"]: (each["vault"], each["trail"])
        for each in said["hours"]
        if each["about"] == DATA
    }
    rewraps = [e for e in story.entries() if path_of(e) == f"transit/rewrap/{NAME}-data"]
    assert len(rewraps) == 2  # one request, and its answer
    assert (status, said["unrecorded"], said["unasked"], said["unknown"]) == (0, [], [], [])
    assert counts == {"encrypt": (4, 4), "decrypt": (2, 2), "rewrap": (3, 3), "rotate": (1, 1)}


def forge_without(spool, act, task):
    """Take one activity of a task out of its segment; returns how many events that were."""
    cut = 0
    for part in spool.glob("*.seg"):
        data = part.read_bytes()
        frames = read_frames(data[HEADER_BYTES:]).frames
        events = [json.loads(one.payload) for one in frames if one.kind == EVENT]
        kept = [
            one for one in events if (one["act"], one.get("run", {}).get("task")) != (act, task)
        ]
        if len(kept) == len(events):
            continue
        cut += len(events) - len(kept)
        names, out, before = {}, data[:HEADER_BYTES], None
        for seq, one in enumerate(kept):
            names[f"{one['emitter']}:{one['seq']}"] = f"{one['emitter']}:{seq}"
            one["seq"] = seq
            if "of" in one:
                one["of"] = names.get(one["of"], one["of"])
            one.pop("prev", None)
            if before is not None:
                one["prev"] = leaf_hash(before).hex()
            if one["act"] == "emitter.close":
                one["more"]["events"] = len(kept)
            before = canonical.encode(one)
            out += encode_frame(EVENT, before)
        part.write_bytes(out)
    return cut
