"""The console script as people and programs run it: real processes, real files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import stop_sequencer

ROOT = Path(__file__).parents[1]
_INSTALLED = Path(sys.executable).with_name("secure-ml")
SCRIPT = (
    [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "airflow_secure_ml.cli"]
)


class Home:
    """A deployment of its own."""

    def __init__(self, path):
        self.path = path
        self.audit = path / "secure_ml" / "audit"
        self.keyring = path / "secure_ml" / "keyring.json"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        self.environment = {**kept, "AIRFLOW_HOME": str(path), "PYTHONPATH": str(ROOT)}

    def run(self, *words, stdin=b"", **environment):
        return subprocess.run(
            [*SCRIPT, *map(str, words)],
            input=stdin,
            capture_output=True,
            cwd=self.path,
            env={**self.environment, **environment},
            timeout=60,
        )

    def done(self, *words, stdin=b"", **environment):
        answer = self.run(*words, stdin=stdin, **environment)
        assert answer.returncode == 0, answer.stderr.decode()
        return answer.stdout.decode()

    def refused(self, status, *words, **more):
        answer = self.run(*words, "--json", **more)
        assert answer.returncode == status, answer.stderr.decode()
        record = json.loads(answer.stderr)
        assert record["status"] == status
        return record

    def events(self, *acts):
        """Events of these activities, all sequenced."""
        self.sequence()
        flags = [word for act in acts for word in ("--act", act)]
        shown = json.loads(self.done("audit", "show", "--json", "--limit", "1000", *flags))
        return [each["event"] for each in shown]

    def sequence(self):
        """Let the sequencer that runs finish, and take what came after it."""
        self.close()
        self.done("audit", "sequencer", "--once")

    def close(self):
        stop_sequencer(self.audit)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("made"))
    home.said = home.done("keys", "init")
    home.close()
    return home


@pytest.fixture
def home(made, tmp_path):
    (tmp_path / "secure_ml").mkdir(mode=0o700)
    shutil.copy2(made.keyring, tmp_path / "secure_ml")
    # A log of its own: what a signer signed last belongs to one log.
    init_log(tmp_path / "secure_ml" / "signer", "airflow")
    home = Home(tmp_path)
    yield home
    home.close()


@pytest.fixture
def plain(home):
    (home.path / "plain.csv").write_bytes(b"name,age\nalice,42\n")
    return home.path / "plain.csv"


@pytest.fixture
def sealed(home, plain):
    home.done("seal", plain, "data.csv")
    return home.path / "data.csv"


def test_the_entry_point_names_this_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert scripts == {"secure-ml": "airflow_secure_ml.cli:main"}


def _modules_after(home, *words):
    code = (
        "import sys\n"
        "from airflow_secure_ml.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print('\\n' + ' '.join(sys.modules))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=home.path,
        env=home.environment,
    )
    return {name.partition(".")[0] for name in answer.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("words", [["--version"], ["keys", "--help"]], ids=" ".join)
def test_help_imports_next_to_nothing(home, words):
    loaded = _modules_after(home, *words)

    assert not loaded & {"airflow", "cryptography", "pandas", "great_expectations", "sqlite3"}


def test_no_command_imports_airflow_or_what_is_slow(home, sealed):
    slow = {"airflow", "pandas", "pyarrow", "great_expectations", "boto3", "hvac", "numpy"}

    assert not _modules_after(home, "keys", "list") & slow
    assert not _modules_after(home, "open", sealed, "out", "--any-context") & slow
    assert not _modules_after(home, "audit", "show") & slow


def test_init_makes_keyring_and_log_and_says_where(made):
    assert "made key data/1" in made.said
    assert "made key pipeline/1" in made.said
    assert re.search(r"made the audit log airflow/asml-trail/[0-9a-f]{8}", made.said)
    assert str(made.keyring) in made.said
    assert made.keyring.stat().st_mode & 0o777 == 0o600


def test_init_never_replaces_anything(home):
    before = home.keyring.read_bytes()

    record = home.refused(2, "keys", "init")

    assert record["error"] == "ConfigurationError"
    assert home.keyring.read_bytes() == before


@pytest.mark.parametrize("missing", ["keyring", "log"])
def test_init_makes_what_is_missing_after_a_kill_in_the_middle(home, missing):
    if missing == "keyring":
        home.keyring.unlink()
    else:
        shutil.rmtree(home.path / "secure_ml" / "signer")

    said = home.done("keys", "init")

    assert ("made key data/1" in said, "audit log" in said) == {
        "keyring": (True, False),
        "log": (False, True),
    }[missing]


def test_without_a_keyring_the_command_that_makes_one_is_named(home):
    home.keyring.unlink()

    record = home.refused(2, "seal", "/etc/hostname", "x")

    assert "airflow secure-ml keys init" in record["message"]


def test_a_life_of_a_key(home):
    home.done("keys", "create", "models", "--for", "wrap")
    home.done("keys", "rotate", "models")
    home.done("keys", "disable", "models/1")
    home.done("keys", "retire", "models")
    home.done("keys", "enable", "models")
    assert json.loads(home.done("keys", "destroy", "models/1", "--yes", "--json")) == {
        "key": "models",
        "version": 1,
        "state": "destroyed",
    }

    listed = json.loads(home.done("keys", "list", "--json"))

    assert [(k["version"], k["state"]) for k in listed if k["name"] == "models"] == [
        (1, "destroyed"),
        (2, "active"),
    ]
    assert [(e["act"], e["phase"]) for e in home.events("key.")][:4] == [
        ("key.create", "intent"),
        ("key.create", "outcome"),
        ("key.rotate", "intent"),
        ("key.rotate", "outcome"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["keys"],
        ["nonsense"],
        ["keys", "create", "x"],
        ["keys", "create", "x", "--for", "hashing"],
        ["seal", "a"],
        ["audit", "show", "--limit", "many"],
    ],
    ids=" ".join,
)
def test_wrong_use_has_status_2(home, words):
    answer = home.run(*words)

    assert answer.returncode == 2
    assert b"usage: secure-ml" in answer.stderr


def test_a_sealed_file_is_opened_and_nothing_is_plain_before(home, plain, sealed):
    assert b"alice" not in sealed.read_bytes()

    home.done("open", sealed, "out.csv", "--context", f"object=file://{sealed}")

    assert (home.path / "out.csv").read_bytes() == plain.read_bytes()
    assert (home.path / "out.csv").stat().st_mode & 0o777 == 0o600


def test_sealing_and_opening_stand_in_the_trail_with_who_and_what(home, sealed):
    home.done("open", sealed, "out.csv", "--any-context")

    events = home.events("object.")

    said = [(e["act"], e["phase"], e["object"]["uri"].rpartition("/")[2]) for e in events]
    assert said == [
        ("object.seal", "intent", "data.csv"),
        ("object.seal", "outcome", "data.csv"),
        ("object.publish", "intent", "data.csv"),
        ("object.publish", "outcome", "data.csv"),
        ("object.open", "intent", "data.csv"),
        ("object.open", "outcome", "data.csv"),
        ("object.publish", "intent", "out.csv"),
        ("object.publish", "outcome", "out.csv"),
    ]
    assert events[5]["key"] == {"system": "local", "name": "data", "version": "1"}
    assert all(set(each["by"]) == {"h", "n"} for each in events)


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["--context", "object=file:///another"], 1, "context_differs"),
        (["--context", "purpose=x"], 1, "context_differs"),
        ([], 2, "misconfigured"),
        (["--context", "object"], 2, "misconfigured"),
        (["--context", "a=b", "--any-context"], 2, "misconfigured"),
    ],
    ids=["another address", "missing pair", "nothing demanded", "no pair", "both"],
)
def test_a_wrong_context_opens_nothing(home, sealed, words, status, why):
    assert home.refused(status, "open", sealed, "out.csv", *words)["why"] == why
    assert not (home.path / "out.csv").exists()


def test_a_refusal_is_in_the_trail(home, sealed):
    home.refused(1, "open", sealed, "out.csv", "--context", "purpose=x")

    outcome = home.events("object.open")[-1]

    assert (outcome["result"], outcome["why"]) == ("refused", "context_differs")


@pytest.mark.parametrize("at", [20, 100, 520, -1])
def test_a_flipped_byte_leaves_no_plaintext(home, sealed, at):
    data = bytearray(sealed.read_bytes())
    data[at] ^= 1
    sealed.write_bytes(data)

    home.refused(1, "open", sealed, "out.csv", "--any-context")

    assert not (home.path / "out.csv").exists()


def test_a_plain_file_is_not_opened(home, plain):
    assert home.refused(1, "open", plain, "out", "--any-context")["why"] == "not_sealed"


def test_what_is_not_there_has_status_2(home):
    assert "found nothing" in home.refused(2, "open", "nowhere", "x", "--any-context")["message"]
    assert "found nothing" in home.refused(2, "seal", "nowhere", "x")["message"]


@pytest.mark.parametrize("state", ["disable", "destroy"])
def test_a_key_that_is_not_to_be_used_opens_nothing(home, sealed, state):
    home.done("keys", state, "data", *(["--yes"] if state == "destroy" else []))

    record = home.refused(1, "open", sealed, "out.csv", "--any-context")

    assert record["why"] == {"disable": "key_disabled", "destroy": "key_destroyed"}[state]


def test_nothing_is_overwritten_unasked(home, plain, sealed):
    before = sealed.read_bytes()

    assert home.refused(1, "seal", plain, sealed)["why"] == "address_taken"
    assert sealed.read_bytes() == before
    home.done("seal", plain, sealed, "--replace")
    assert sealed.read_bytes() != before


def test_pipes_seal_and_open(home):
    data = os.urandom(3_000_000)

    sealed = home.run("seal", "-", "-", "--context", "a=b", stdin=data)
    assert sealed.returncode == 0
    opened = home.run("open", "-", "-", "--context", "a=b", stdin=sealed.stdout)

    assert opened.returncode == 0
    assert opened.stdout == data
    assert b"opened 3000000 bytes" in opened.stderr


def test_a_cut_pipe_has_status_1_and_no_output(home):
    sealed = home.run("seal", "-", "-", "--context", "a=b", stdin=bytes(3_000_000)).stdout

    opened = home.run("open", "-", "-", "--context", "a=b", stdin=sealed[:-100])

    assert opened.returncode == 1
    assert opened.stdout == b""


def test_an_empty_file_is_sealed_and_opened(home):
    (home.path / "empty").write_bytes(b"")
    home.done("seal", "empty", "s")
    home.done("open", "s", "out", "--any-context")

    assert (home.path / "out").read_bytes() == b""


def test_inspect_shows_the_header_and_says_that_it_is_not_proved(home, sealed):
    shown = json.loads(home.done("inspect", sealed, "--json"))

    assert shown["context"] == {"object": f"file://{sealed}"}
    assert shown["slots"] == [{"type": 1, "id": "data/1"}]
    assert shown["authenticated"] is False
    assert "nothing of this is proved" in home.done("inspect", sealed)


def test_a_rewrapped_file_opens_with_the_new_keys_only_and_stays_signed(home, plain, sealed):
    home.done("sign", sealed)
    home.done("keys", "create", "partner", "--for", "wrap")
    home.done("keys", "rotate", "data")

    home.done("rewrap", sealed, "--key", "partner", "--key", "data")

    slots = json.loads(home.done("inspect", sealed, "--json"))["slots"]
    assert [slot["id"] for slot in slots] == ["data/2", "partner/1"]
    home.done("verify", sealed)
    usage = json.loads(home.done("keys", "usage", "data", ".", "--json"))
    assert [(each["version"], each["files"]) for each in usage["versions"]] == [(1, 0), (2, 1)]
    home.done("open", sealed, "out", "--any-context")
    assert (home.path / "out").read_bytes() == plain.read_bytes()


def test_a_signed_folder_is_verified_and_a_change_is_named(home):
    (home.path / "model").mkdir()
    for name in ("a", "b"):
        (home.path / "model" / name).write_text(name)
    home.done("sign", "model")
    assert "signed by pipeline/1" in home.done("verify", "model")

    (home.path / "model" / "b").write_text("changed")
    (home.path / "model" / "c").write_text("new")
    record = home.refused(1, "verify", "model")

    assert (record["changed"], record["added"], record["missing"]) == (["b"], ["c"], [])


def test_what_is_not_signed_or_by_another_is_refused(home, sealed):
    assert home.refused(1, "verify", sealed)["why"] == "not_signed"
    home.done("keys", "create", "other", "--for", "sign")
    home.done("sign", sealed, "--key", "other")

    assert home.refused(1, "verify", sealed)["why"] == "signer_not_accepted"
    home.done("verify", sealed, "--signed-by", "other")
    assert home.refused(1, "verify", sealed, "--signed-by", "nokey")["why"] == "key_missing"


def test_another_deployments_signature_is_accepted_once_it_is_trusted(home, sealed, tmp_path):
    other = Home(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.done("keys", "init")
    other.done("sign", sealed)
    text = other.done("keys", "export-public", "pipeline")
    other.close()

    # It is called pipeline/1 there as here, and is another key.
    assert home.refused(1, "verify", sealed)["why"] == "signature_invalid"
    home.done("keys", "trust", "partner", "-", stdin=text.encode())

    assert "signed by partner/1" in home.done("verify", sealed, "--signed-by", "partner")
    assert home.refused(1, "verify", sealed)["why"] == "signature_invalid"


def test_a_data_sets_folder_is_opened_whole_or_not_at_all(home):
    from airflow_secure_ml.adapters.local_objects import LocalObjects
    from airflow_secure_ml.services.sealed_dataset import create_dataset_key
    from airflow_secure_ml.services.sealing import seal_object

    store, root = LocalObjects(), f"file://{home.path}/set"
    dataset = create_dataset_key(
        store,
        root,
        keys=[LocalKeyring(home.keyring).wrapper("data")],
        context={"dataset": root},
    )
    for name in ("a.csv", "b/c.csv"):
        (home.path / "source").write_text(name)
        uri = store.child(root, name)
        context = {"dataset": root, "object": uri}
        with store.create(uri) as writer:
            seal_object(home.path / "source", writer, keys=[dataset], context=context)
            writer.commit(replace=False)

    home.done("open", "set", "out", "--context", f"object={root}")
    assert (home.path / "out" / "b" / "c.csv").read_text() == "b/c.csv"
    home.done("open", "set/a.csv", "one", "--context", f"dataset={root}")
    assert (home.path / "one").read_text() == "a.csv"
    shutil.copy(home.path / "set" / "a.csv", home.path / "set" / "b" / "c.csv")
    record = home.refused(1, "open", "set", "out2", "--context", f"object={root}")
    assert record["why"] == "context_differs"
    assert not (home.path / "out2").exists()


def test_the_trail_verifies_and_a_changed_leaf_is_named(home, sealed):
    import sqlite3

    home.sequence()
    assert ": whole" in home.done("audit", "verify")
    home.close()
    with sqlite3.connect(home.audit / "trail.db") as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE leaf SET data = replace(data, 'data.csv', 'else.csv')")
    connection.close()

    answer = home.run("audit", "verify", "--json")

    report = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert report["verdict"] == "TAMPERED"
    assert report["first_bad"] >= 1


def test_an_act_that_cannot_be_recorded_does_not_happen(home, plain):
    (home.path / "blocked").write_bytes(b"")

    record = home.refused(
        3, "seal", plain, "out", AIRFLOW__SECURE_ML__AUDIT_DIR=str(home.path / "blocked")
    )

    assert record["why"] == "audit_unavailable"
    assert not (home.path / "out").exists()


def test_a_bad_setting_has_status_2(home):
    record = home.refused(2, "keys", "list", AIRFLOW__SECURE_ML__KEY_SYSTEM="nonsense")

    assert "key_system" in record["message"]


def test_escape_sequences_in_names_do_not_reach_the_terminal(home, plain):
    answer = home.run("inspect", "bad\x1b]0;owned\x07name")

    assert answer.returncode == 2
    assert b"\x1b" not in answer.stderr
    assert b"\\x1b" in answer.stderr or b"%1B" in answer.stderr


def test_no_key_shows_in_any_output_nor_in_the_trail(home, plain):
    # The canaries are the keys themselves, in the forms in which they could appear.
    record = json.loads(home.keyring.read_text())
    secrets = [each["versions"][0]["secret"] for each in record["keys"].values()]
    forms = []
    for secret in secrets:
        raw = __import__("base64").b64decode(secret)
        forms += [secret.encode(), secret[:20].encode(), raw, raw.hex().encode()]
    assert any(form in home.keyring.read_bytes() for form in forms)

    shown = b""
    for words in [
        ["keys", "list"],
        ["keys", "list", "--json"],
        ["keys", "rotate", "data", "--json"],
        ["keys", "export-public", "pipeline"],
        ["keys", "create", "data", "--for", "wrap"],
        ["seal", plain, "s", "--json"],
        ["inspect", "s"],
        ["sign", "s"],
        ["open", "s", "o", "--context", "object=x"],
        ["keys", "destroy", "data", "--yes"],
        ["open", "s", "o", "--any-context"],
        ["audit", "show", "--json"],
    ]:
        answer = home.run(*words)
        shown += answer.stdout + answer.stderr
    home.close()
    files = [path for path in home.audit.rglob("*") if path.is_file()]
    shown += b"".join(path.read_bytes() for path in files)

    assert [form for form in forms if form in shown] == []
    assert b"alice" not in shown


def test_airflow_gets_the_same_commands():
    from airflow_secure_ml.cli import COMMANDS, Group, get_cli_commands

    (top,) = get_cli_commands()

    assert top.name == "secure-ml"
    assert [each.name for each in top.subcommands] == [each.name for each in COMMANDS]
    for ours, theirs in zip(COMMANDS, top.subcommands, strict=True):
        if isinstance(ours, Group):
            names = [each.name for each in theirs.subcommands]
            assert names == [each.name for each in ours.commands]
        else:
            assert [arg.flags for arg in theirs.args] == [arg.flags for arg in ours.arguments]


def test_a_killed_seal_leaves_nothing(home):
    before = sorted(os.listdir(home.path))
    process = subprocess.Popen(
        [*SCRIPT, "seal", "-", "out"],
        stdin=subprocess.PIPE,
        cwd=home.path,
        env=home.environment,
    )
    # More than a segment, and the pipe's own buffer: when it is all written, work is under way.
    process.stdin.write(bytes(4 << 20))
    process.stdin.flush()

    process.kill()
    process.wait()
    process.stdin.close()

    assert sorted(os.listdir(home.path)) == before
    assert [(e["phase"], e.get("result")) for e in home.events("object.seal")] == [("intent", None)]


def _on_a_terminal(home, answer, *words):
    """Run with a pseudo-terminal as standard input; returns status and standard error."""
    main, sub = os.openpty()
    process = subprocess.Popen(
        [*SCRIPT, *words],
        stdin=sub,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home.path,
        env=home.environment,
    )
    os.close(sub)
    os.write(main, answer)
    _, said = process.communicate(timeout=60)
    os.close(main)
    return process.returncode, said


def test_a_person_is_asked_before_a_key_is_destroyed(home):
    status, said = _on_a_terminal(home, b"yes\n", "keys", "destroy", "data")
    assert status == 2
    assert b"lost forever" in said
    assert "active" in home.done("keys", "list")

    status, _ = _on_a_terminal(home, b"data\n", "keys", "destroy", "data")
    assert status == 0
    assert "destroyed" in home.done("keys", "list")


def _lose_the_signers_record(home):
    home.sequence()
    (home.path / "secure_ml" / "signer" / "last").unlink()


def test_a_log_whose_signers_record_is_lost_is_adopted_and_says_so(home):
    _lose_the_signers_record(home)
    refused = home.run("audit", "sequencer", "--once")
    assert refused.returncode == 1
    assert b"secure-ml audit adopt" in refused.stderr

    adopted = json.loads(home.done("audit", "adopt", "--yes", "--json"))

    assert adopted["status"] == 0
    assert adopted["size"] > 0
    told = home.events("trail.adopt")
    assert [each["more"].get("size") for each in told].count(None) == 1
    assert sum("by" in each for each in told) == 1
    assert ": whole" in home.done("audit", "verify")


def test_a_log_whose_signer_knows_what_it_signed_is_not_adopted(home):
    home.sequence()

    record = home.refused(2, "audit", "adopt", "--yes")

    assert "only where it is lost" in record["message"]
    assert home.events("trail.adopt") == []


def test_a_key_is_not_destroyed_where_nobody_can_be_asked(home):
    record = home.refused(2, "keys", "destroy", "data")

    assert "--yes" in record["message"]
    assert home.done("keys", "list").count("active") == 2


def test_a_person_is_asked_before_a_log_is_adopted(home):
    _lose_the_signers_record(home)

    status, said = _on_a_terminal(home, b"no\n", "audit", "adopt")
    assert status == 2
    assert b"kept elsewhere" in said
    assert home.run("audit", "sequencer", "--once").returncode == 1

    status, _ = _on_a_terminal(home, b"yes\n", "audit", "adopt")
    assert status == 0
    assert home.run("audit", "sequencer", "--once").returncode == 0


@pytest.mark.airflow
def test_airflow_runs_the_commands(home):
    answer = subprocess.run(
        [Path(sys.executable).with_name("airflow"), "secure-ml", "keys", "list", "--json"],
        capture_output=True,
        env=home.environment,
        timeout=120,
    )

    assert answer.returncode == 0, answer.stderr.decode()
    assert [each["name"] for each in json.loads(answer.stdout)] == ["data", "pipeline"]
