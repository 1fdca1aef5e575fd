"""The log's keys on the command line: real processes, and a real Vault."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.log_signer import LogSigner, prepare_successors
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from tests.servers.transit_place import TransitPlace

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60


class Desk:
    """A folder where somebody works on the command line."""

    def __init__(self, path, **environment):
        self.path = path
        self.signer = path / "secure_ml" / "signer"
        self.audit = path / "secure_ml" / "audit"
        self.socket = path / "run" / "signer.sock"
        self.socket.parent.mkdir(mode=0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        self.environment = {
            **kept,
            "AIRFLOW_HOME": str(path),
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self.running = []

    def command(self, *words):
        return [sys.executable, "-m", "airflow_secure_ml.cli", *map(str, words)]

    def run(self, *words, **environment):
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            cwd=self.path,
            env=self.environment | environment,
            text=True,
            timeout=DEADLINE_S,
        )

    def done(self, *words, **environment):
        """What a command says to programs."""
        answer = self.run(*words, "--json", **environment)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def refused(self, status, *words, **environment):
        answer = self.run(*words, "--json", **environment)
        assert answer.returncode == status, answer.stderr
        return json.loads(answer.stderr)["message"]

    def verify(self):
        stop_sequencer(self.audit)
        assert self.run("audit", "sequencer", "--once").returncode == 0
        covered, _ = LogSigner(self.signer).last()
        report = self.done("audit", "verify")
        # Its own events may come into the log while it reads.
        assert report["signed_size"] >= covered > 0
        return report

    def start_signer(self):
        process = subprocess.Popen(
            self.command("audit", "signer"),
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        assert process.stdout.readline() == "READY\n"
        return process

    def end(self):
        stop_sequencer(self.audit)
        for process in self.running:
            process.terminate()
            process.wait(DEADLINE_S)
            process.stdout.close()


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    LocalKeyring(tmp_path / "secure_ml" / "keyring.json").init()
    yield made
    made.end()


def lines(desk):
    return (desk.signer / "log_keys").read_text("utf-8").splitlines()


def test_a_rotation_is_on_record_and_the_log_stays_whole(desk):
    desk.done("keys", "init")
    before = lines(desk)

    said = desk.done("audit", "rotate-key")

    assert said["handed_over"]
    assert said["log_keys"] == lines(desk)
    assert len(lines(desk)) == 2
    assert lines(desk)[0].split()[0] == before[0].split()[0]
    assert desk.verify()["verdict"] == "whole"
    shown = desk.done("audit", "show", "--limit", "100", "--act", "trail.key", "--act", "key.")
    events = [each["event"] for each in shown]
    assert [(e["act"], e["phase"]) for e in events] == [
        ("key.rotate", "intent"),
        ("key.rotate", "outcome"),
        ("trail.key", "seen"),
    ]
    old, new = (line.split("+")[1] for line in lines(desk))
    assert (events[0]["key"]["version"], events[1]["key"]["version"]) == (old, new)
    assert events[2]["more"]["vkey"] == lines(desk)[1].split()[0]


def test_the_second_signature_comes_by_a_word_and_is_not_lost_by_its_lack(desk):
    desk.done("keys", "init")
    assert desk.done("audit", "rotate-key", "--post-quantum")["handed_over"]

    assert desk.done("audit", "rotate-key")["handed_over"]

    kinds = [key.algorithm[:1] for key in LogSigner(desk.signer).in_use()]
    assert kinds == [b"\x01", b"\xff"]
    assert len(lines(desk)) == 5
    assert desk.verify()["verdict"] == "whole"


def test_a_log_can_begin_with_both_kinds_of_key(desk):
    desk.done("keys", "init", "--post-quantum")

    assert desk.verify()["verdict"] == "whole"
    note = (desk.signer / "last").read_text("utf-8")
    assert note.count("\n— ") == 2


def test_the_signer_s_user_makes_the_log_s_key_and_no_other(tmp_path):
    desk = Desk(tmp_path)

    made = desk.done("keys", "init", "--log-only")

    assert LogSigner(desk.signer).origin == made["origin"]
    assert [path.name for path in (tmp_path / "secure_ml").iterdir()] == ["signer"]
    assert "never replaced" in desk.refused(2, "keys", "init", "--log-only")


def test_a_rotation_that_was_killed_is_run_again(desk):
    desk.done("keys", "init")
    stop_sequencer(desk.audit)
    [made] = prepare_successors(desk.signer)

    said = desk.done("audit", "rotate-key")

    assert (said["key"], said["handed_over"]) == (made.key_id.hex(), True)
    assert len(lines(desk)) == 2
    assert desk.verify()["verdict"] == "whole"


def test_without_a_log_there_is_nothing_to_rotate(desk):
    assert "keys init" in desk.refused(2, "audit", "rotate-key")


def test_the_signer_runs_by_command_and_the_sequencer_asks_it(desk):
    desk.done("keys", "init")
    desk.verify()
    desk.environment["AIRFLOW__SECURE_ML__AUDIT_SIGNER_SOCKET"] = str(desk.socket)
    desk.start_signer()

    assert desk.done("audit", "rotate-key", "--post-quantum")["handed_over"]
    report = desk.verify()

    assert report["verdict"] == "whole"


def test_no_signer_runs_without_a_place_to_listen_at(desk):
    desk.done("keys", "init")

    assert "audit_signer_socket" in desk.refused(2, "audit", "signer")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("vault://transit?key=log", "audit_signer_socket: expected where"),
        ("https://vault.example.org", "local, vault://"),
    ],
    ids=["no signer process", "no key system"],
)
def test_a_key_elsewhere_needs_its_address_and_a_signer(desk, address, said):
    assert said in desk.refused(2, "keys", "init", AIRFLOW__SECURE_ML__AUDIT_SIGNER=address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("vault://transit", "expected &key=<name>"),
        ("awskms://alias", "of one key"),
        ("awskms://alias/log?grant_token=c2VjcmV0", "without a grant token"),
    ],
    ids=["a mount", "all aliases", "a grant token"],
)
def test_the_address_of_the_log_s_key_names_one_key_and_no_secret(desk, address, said):
    desk.environment["AIRFLOW__SECURE_ML__AUDIT_SIGNER_SOCKET"] = str(desk.socket)

    message = desk.refused(2, "keys", "init", AIRFLOW__SECURE_ML__AUDIT_SIGNER=address)

    assert said in message
    assert "c2VjcmV0" not in message


@pytest.fixture
def in_vault(vault, desk):
    """A desk whose log is signed by a key on a mount of a real Vault."""
    with TransitPlace(vault) as place:
        place.make("log", "ed25519")
        place.make("log2", "ed25519")
        desk.environment |= {
            "AIRFLOW__SECURE_ML__AUDIT_SIGNER": f"vault://{place.mount}?key=log&conn_id=trail",
            "AIRFLOW__SECURE_ML__AUDIT_SIGNER_SOCKET": str(desk.socket),
            "AIRFLOW_CONN_TRAIL": place.connection(),
        }
        desk.place = place
        desk.done("keys", "init")
        desk.start_signer()
        yield desk
        desk.end()


@pytest.mark.vault
def test_a_log_is_signed_by_a_key_that_never_leaves_vault(in_vault):
    desk = in_vault

    report = desk.verify()

    assert report["verdict"] == "whole"
    kept = b"".join(path.read_bytes() for path in desk.signer.iterdir())
    assert b"PRIVATE" not in kept
    assert desk.environment["AIRFLOW_CONN_TRAIL"].encode() not in kept
    public = desk.place.facts("log")["keys"]["1"]["public_key"]
    assert LogSigner(desk.signer).public.public_key == base64.b64decode(public)


@pytest.mark.vault
def test_a_newer_version_in_vault_is_not_the_log_s_key_and_stops_nothing(in_vault):
    desk = in_vault
    first = LogSigner(desk.signer).public
    desk.place.rotate("log")

    report = desk.verify()

    assert report["verdict"] == "whole"
    assert LogSigner(desk.signer).public == first


@pytest.mark.vault
def test_a_log_moves_to_another_key_in_vault_and_back_to_a_file(in_vault):
    desk = in_vault
    desk.verify()
    assert "had a key of that id" in desk.refused(2, "audit", "rotate-key")
    address = desk.environment["AIRFLOW__SECURE_ML__AUDIT_SIGNER"]

    other = {"AIRFLOW__SECURE_ML__AUDIT_SIGNER": address.replace("key=log&", "key=log2&")}
    assert desk.done("audit", "rotate-key", **other)["handed_over"]
    local = {"AIRFLOW__SECURE_ML__AUDIT_SIGNER": "local"}
    assert desk.done("audit", "rotate-key", **local)["handed_over"]

    assert len(lines(desk)) == 3
    assert desk.verify()["verdict"] == "whole"


@pytest.mark.vault
def test_while_vault_says_no_the_log_goes_on_unsigned(in_vault):
    desk = in_vault
    desk.verify()
    desk.place.vault.api("POST", f"{desk.place.mount}/keys/log/config", {"deletion_allowed": True})
    desk.place.vault.api("DELETE", f"{desk.place.mount}/keys/log")
    desk.done("keys", "create", "new", "--for", "wrap")
    stop_sequencer(desk.audit)

    answer = desk.run("audit", "sequencer", "--once")

    assert answer.returncode == 3
    shown = desk.done("audit", "show", "--act", "key.create")
    assert [each["event"]["phase"] for each in shown] == ["intent", "outcome"]
