"""Rotation on the command line: real processes, a keyring or a real Vault."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.commands import rotation
from airflow_secure_ml.commands.progress import Progress
from tests.servers.transit_place import TransitPlace

ROOT = Path(__file__).parents[2]
MADE = {"key": "data", "version": 2}


class Desk:
    """A folder where somebody works on the command line."""

    def __init__(self, path, **environment):
        self.path = path
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        self.environment = {
            **kept,
            "AIRFLOW_HOME": str(path),
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def run(self, *words, **environment):
        return subprocess.run(
            [sys.executable, "-m", "airflow_secure_ml.cli", *map(str, words)],
            capture_output=True,
            cwd=self.path,
            env=self.environment | environment,
            text=True,
            timeout=60,
        )

    def done(self, *words):
        """What a command says to programs."""
        answer = self.run(*words, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def refused(self, status, *words, **environment):
        answer = self.run(*words, "--json", **environment)
        assert answer.returncode == status, answer.stderr
        return json.loads(answer.stderr)

    def seal(self, *names, key="data"):
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / "plain").write_text("hello")
            self.done("seal", "plain", name, "--key", key)

    def slots(self, name):
        return [slot["id"] for slot in self.done("inspect", name)["slots"]]

    def acts(self, start):
        stop_sequencer(self.path / "secure_ml" / "audit")
        assert self.run("audit", "sequencer", "--once").returncode == 0
        shown = self.done("audit", "show", "--limit", "1000", "--act", start)
        return [each["event"] for each in shown]


@pytest.fixture
def keyring(tmp_path):
    LocalKeyring(tmp_path / "secure_ml" / "keyring.json").init()
    init_log(tmp_path / "secure_ml" / "signer", "airflow")
    yield Desk(tmp_path)
    stop_sequencer(tmp_path / "secure_ml" / "audit")


@pytest.fixture
def in_vault(vault, tmp_path):
    """A desk whose keys lie on a mount of a real Vault."""
    init_log(tmp_path / "secure_ml" / "signer", "airflow")
    with TransitPlace(vault) as place:
        place.make("data")
        place.make("pipeline", "ed25519")
        desk = Desk(
            tmp_path,
            AIRFLOW__SECURE_ML__KEY_SYSTEM=f"vault://{place.mount}?conn_id=prod",
            AIRFLOW_CONN_PROD=place.connection(),
        )
        desk.place = place
        yield desk
        stop_sequencer(tmp_path / "secure_ml" / "audit")


def test_a_folder_is_rewrapped_with_a_keyring_and_what_others_have_stays(keyring):
    keyring.done("keys", "create", "partner", "--for", "wrap")
    keyring.seal("lake/a", "lake/deep/b")
    keyring.done("rewrap", "lake/a", "--key", "data", "--key", "partner")
    assert keyring.done("keys", "rotate", "data") == MADE

    done = keyring.done("rewrap", "--recursive", "lake", "--key", "data")
    usage = keyring.done("keys", "usage", "data", "lake")

    assert (done["rewrapped"], done["already"], done["version"]) == (2, 0, 2)
    assert keyring.slots("lake/a") == ["data/2", "partner/1"]
    assert [(each["version"], each["files"]) for each in usage["versions"]] == [(1, 0), (2, 2)]
    rewraps = [each for each in keyring.acts("object.rewrap") if each["phase"] == "outcome"]
    assert [each["more"]["to_keys"] for each in rewraps[-2:]] == [["data/2"], ["data/2"]]
    # Who did it stands in each event, as a hidden value.
    assert all("by" in each for each in keyring.acts("object.rewrap"))


def test_one_file_is_rewrapped_as_before(keyring):
    keyring.seal("a")
    keyring.done("keys", "rotate", "data")

    keyring.done("rewrap", "a", "--key", "data")

    assert keyring.slots("a") == ["data/2"]


@pytest.mark.parametrize(
    "words",
    [
        ["--recursive", "lake"],
        ["--recursive", "lake", "--key", "data", "--key", "partner"],
        ["--recursive", "lake", "--key", "data", "--data-set", "lake"],
    ],
    ids=["no-key", "two-keys", "data-set"],
)
def test_a_folder_gets_one_keys_newest_version(keyring, words):
    (keyring.path / "lake").mkdir()

    assert "--key once" in keyring.refused(2, "rewrap", *words)["message"]


def test_a_file_that_fails_is_named_and_the_others_are_done(keyring):
    keyring.seal("lake/a", "lake/b")
    broken = bytearray((keyring.path / "lake/a").read_bytes())
    broken[9] = 0x77
    (keyring.path / "lake/a").write_bytes(broken)
    keyring.done("keys", "rotate", "data")

    record = keyring.refused(1, "rewrap", "--recursive", "lake", "--key", "data")

    assert "1 of 2 sealed objects were not rewrapped" in record["message"]
    assert "lake/a" in record["message"]
    assert keyring.slots("lake/b") == ["data/2"]


def test_a_folder_that_is_not_there_is_wrong_use(keyring):
    for words in (
        ["rewrap", "--recursive", "nowhere", "--key", "data"],
        ["keys", "usage", "data", "nowhere"],
    ):
        assert "found nothing there" in keyring.refused(2, *words)["message"]


def test_usage_in_words_names_each_place(keyring):
    keyring.seal("lake/a")
    keyring.done("keys", "rotate", "data")

    said = keyring.run("keys", "usage", "data", "lake").stdout.splitlines()

    assert said == [
        "data/1  retired    1 files",
        "data/2  active     0 files",
        f"  file://{keyring.path}/lake (files with slots of their own)  data/1: 1",
        "1 sealed files were looked at",
    ]


def test_keys_in_vault_seal_rotate_and_are_counted(in_vault):
    in_vault.seal("lake/a", "lake/b")
    assert in_vault.done("keys", "rotate", "data") == MADE
    before = in_vault.done("keys", "usage", "data", "lake")

    done = in_vault.done("rewrap", "--recursive", "lake", "--key", "data")
    after = in_vault.done("keys", "usage", "data", "lake")
    in_vault.done("open", "lake/a", "out", "--any-context")

    def counts(usage):
        return [(each["version"], each["state"], each["files"]) for each in usage["versions"]]

    assert (done["rewrapped"], done["version"]) == (2, 2)
    assert counts(before) == [(1, "retired", 2), (2, "active", 0)]
    assert counts(after) == [(1, "retired", 0), (2, "active", 2)]
    assert (in_vault.path / "out").read_text() == "hello"
    assert [each["key"] for each in in_vault.acts("key.rotate")][-1] == {
        "system": "vault",
        "name": "data",
        "version": "2",
    }


def test_keys_of_the_settings_in_vault_are_listed_and_a_public_half_is_exported(in_vault):
    in_vault.done("keys", "rotate", "pipeline")

    listed = in_vault.done("keys", "list")
    exported = in_vault.done("keys", "export-public", "pipeline")["public"]

    assert [(each["name"], each["purpose"], each["version"], each["state"]) for each in listed] == [
        ("data", "wrap", 1, "active"),
        ("pipeline", "sign", 1, "retired"),
        ("pipeline", "sign", 2, "active"),
    ]
    assert all(each["created"].startswith("20") for each in listed)
    assert exported.count("BEGIN PUBLIC KEY") == 2
    assert "# pipeline/1" in exported


def test_a_key_of_the_settings_that_is_missing_in_vault_is_listed_so(in_vault):
    in_vault.environment["AIRFLOW__SECURE_ML__DATA_KEY"] = "dtaa"

    assert ("dtaa", "missing") in [
        (each["name"], each["state"]) for each in in_vault.done("keys", "list")
    ]


def test_what_vault_alone_does_with_keys_is_said_with_the_command(in_vault):
    made = in_vault.refused(2, "keys", "create", "health", "--for", "wrap")["message"]
    signs = in_vault.refused(2, "keys", "create", "release", "--for", "sign")["message"]

    mount = in_vault.place.mount
    assert f"`vault write {mount}/keys/health type=aes256-gcm96 derived=true`" in made
    assert f"`vault write {mount}/keys/release type=ed25519`" in signs
    for words in (["disable", "data"], ["retire", "data/1"], ["destroy", "data", "--yes"]):
        assert "that system's own tool" in in_vault.refused(2, "keys", *words)["message"]
    assert in_vault.place.vault.client().names(f"{mount}/keys") == ["data", "pipeline"]


def test_init_beside_vault_makes_the_log_and_says_how_to_make_keys(in_vault):
    for path in (in_vault.path / "secure_ml" / "signer").iterdir():
        path.unlink()

    said = in_vault.run("keys", "init").stdout
    again = in_vault.refused(2, "keys", "init")["message"]

    for text in (said, again):
        assert "/keys/data type=aes256-gcm96 derived=true`" in text
        assert "/keys/pipeline type=ed25519`" in text
    assert "made the audit log" in said
    assert not (in_vault.path / "secure_ml" / "keyring.json").exists()


def test_neither_token_nor_connection_shows_anywhere(in_vault):
    in_vault.seal("a")
    answers = [
        in_vault.run("keys", "list"),
        in_vault.run("keys", "usage", "data", "a"),
        in_vault.run("keys", "usage", "nokey", "a"),
        in_vault.run("keys", "usage", "data", "a", AIRFLOW_CONN_PROD="{}"),
    ]

    token = in_vault.place.vault.root_token
    assert [each.returncode for each in answers] == [0, 0, 1, 2]
    assert all(token not in each.stdout + each.stderr for each in answers)


def test_long_walks_show_how_many_files_were_seen(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown, now = Terminal(), [0.0]
    monkeypatch.setattr(
        rotation,
        "Progress",
        lambda total, **more: Progress(total, stream=shown, clock=lambda: now[0], **more),
    )

    with rotation._progress() as progress:
        progress(10)
        now[0] = 4.0
        progress(2_000)

    assert shown.getvalue() == "\r2000 files  500 files/s\x1b[K\r\x1b[K"
