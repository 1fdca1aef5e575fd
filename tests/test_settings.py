"""The options of [secure_ml]: where they are read, what they may hold, and that both ways agree."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.core.crypto_policy import CryptoPolicy
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import (
    Settings,
    load_settings,
    load_settings_without_airflow,
    parse_settings,
    reset_settings,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An AIRFLOW_HOME of its own, and no option set."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    reset_settings()
    yield tmp_path
    reset_settings()


def write_cfg(home: Path, *lines: str) -> None:
    (home / "airflow.cfg").write_text("\n".join(["[secure_ml]", *lines, ""]))


def test_without_anything_set_the_declared_defaults_hold(home):
    settings = load_settings_without_airflow()

    assert settings == Settings(
        key_system=f"local://{home}/secure_ml/keyring.json",
        data_key="data",
        signing_key="pipeline",
        trusted_signers=("pipeline",),
        key_names={},
        key_groups={},
        keyring_passphrase_path=None,
        policy_file=None,
        crypto_policy=CryptoPolicy(),
        vault_conn_id="vault_default",
        aws_conn_id="aws_default",
        s3_connections={},
        pkcs11_module=None,
        pkcs11_pin_path=None,
        xcom_key=None,
        xcom_keys_dir=home / "secure_ml/xcom_keys",
        xcom_read_unsealed=True,
        scratch_dirs=(Path("/dev/shm"),),
        digest_memory_dir=Path(f"{home}/secure_ml/digests"),
        audit_dir=home / "secure_ml/audit",
        audit_spare_dir=None,
        audit_subjects_dir=None,
        audit_signer_dir=home / "secure_ml/signer",
        audit_signer="local",
        audit_collector=None,
        audit_spool="local",
        audit_inbox="",
        audit_inbox_passfile=None,
        audit_ingest_url="",
        audit_ingest_token_path=None,
        audit_signer_socket=None,
        audit_log_name="airflow",
        audit_log_keys="",
        audit_store="sqlite",
        audit_store_passfile=None,
        audit_witnesses=(),
        audit_witness_quorum=1,
        audit_anchor="",
        audit_anchor_days=365,
        audit_timestamp_url=None,
        audit_timestamp_ca=None,
        siem_url="",
        siem_events=(),
        siem_format="ocsf",
        siem_syslog=None,
        siem_ca=None,
        siem_token_path=None,
        audit_rules_dir=None,
        audit_rules_off=(),
        alert_notifier="",
        alert_notifier_level="medium",
        audit_retention_days=0,
        audit_hide=(),
        audit_unavailable="refuse",
        listener=True,
        reconcile_every_s=300,
        record_reads=True,
    )


def test_the_environment_goes_before_airflow_cfg(home, monkeypatch):
    write_cfg(home, "data_key = from_file", "signing_key = from_file")
    monkeypatch.setenv("AIRFLOW__SECURE_ML__DATA_KEY", "from_env")

    settings = load_settings_without_airflow()

    assert (settings.data_key, settings.signing_key) == ("from_env", "from_file")


def test_a_command_in_the_environment_goes_before_airflow_cfg(home, monkeypatch):
    write_cfg(home, "data_key = from_file")
    monkeypatch.setenv("AIRFLOW__SECURE_ML__DATA_KEY_CMD", "echo from_command")

    assert load_settings_without_airflow().data_key == "from_command"


def test_a_command_in_airflow_cfg_is_run_without_a_shell(home):
    write_cfg(home, "data_key_cmd = echo a_b", "signing_key_cmd = printf %%s c;id")

    with pytest.raises(ConfigurationError, match=r"signing_key: found 'c;id'"):
        load_settings_without_airflow()


@pytest.mark.parametrize("command", ["false", "/nonexistent canary-1", "echo 'unbalanced"])
def test_a_failing_command_is_an_error_without_its_text(home, monkeypatch, command):
    monkeypatch.setenv("AIRFLOW__SECURE_ML__DATA_KEY_CMD", command)

    with pytest.raises(
        ConfigurationError, match=r"\[secure_ml\] data_key_cmd: the command"
    ) as found:
        load_settings_without_airflow()

    assert "canary" not in str(found.value)


def test_an_option_from_a_secrets_backend_is_refused(monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECURE_ML__DATA_KEY_SECRET", "path/in/vault")

    with pytest.raises(ConfigurationError, match=r"data_key_secret: .* no option of this section"):
        load_settings_without_airflow()


def test_a_misspelt_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECURE_ML__POLICYFILE", "/etc/rules.toml")

    with pytest.raises(
        ConfigurationError, match=r"policyfile: no such option; allowed: key_system"
    ):
        load_settings_without_airflow()


def test_a_misspelt_option_in_airflow_cfg_is_an_error(home):
    write_cfg(home, "policy-file = /etc/rules.toml")

    with pytest.raises(ConfigurationError, match="policy-file: no such option"):
        load_settings_without_airflow()


def test_another_file_may_be_named(home, monkeypatch):
    (home / "other.cfg").write_text("[secure_ml]\ndata_key = other\n")
    monkeypatch.setenv("AIRFLOW_CONFIG", "$AIRFLOW_HOME/other.cfg")

    assert load_settings_without_airflow().data_key == "other"


@pytest.mark.parametrize("text", ["[secure_ml\n", "[secure_ml]\ndata_key = %(x)s\n", "x = 1\n"])
def test_an_unreadable_airflow_cfg_is_an_error(home, text):
    (home / "airflow.cfg").write_text(text)

    with pytest.raises(ConfigurationError, match=r"airflow\.cfg"):
        load_settings_without_airflow()


def test_variables_and_home_in_a_value_are_filled_in(home, monkeypatch):
    monkeypatch.setenv("TEAM", "$SUB/x")
    monkeypatch.setenv("SUB", "churn")
    monkeypatch.setenv("AIRFLOW__SECURE_ML__AUDIT_DIR", "/var/$TEAM")
    write_cfg(home, "policy_file = ~/rules.toml")
    monkeypatch.setenv("HOME", "/home/someone")

    settings = load_settings_without_airflow()

    assert settings.audit_dir == Path("/var/churn/x")
    assert settings.policy_file == Path("/home/someone/rules.toml")


BAD = [
    ("key_system", "/etc/keyring.json", "an address such as local:///"),
    ("key_system", "", "an address"),
    ("data_key", "", "a key's name"),
    ("data_key", "a b", "a key's name"),
    ("data_key", "x" * 129, "at most 128"),
    ("signing_key", "../x", "a key's name"),
    ("trusted_signers", "a, b c", "a key's name"),
    ("key_names", "[]", "a JSON object"),
    ("key_names", '{"a": 1}', "a JSON object"),
    ("key_names", '{"a": "local:///x", "a": "local:///y"}', "each name once"),
    ("key_names", '{"a b": "local:///x"}', "a key's name"),
    ("key_names", '{"a": "x"}', "an address"),
    ("key_names", "{", "a JSON object"),
    ("key_names", "[" * 100_000, "a JSON object"),
    ("key_names", '"x"', "a JSON object"),
    ("key_names", '[["a", "local:///x"]]', "a JSON object"),
    ("key_names", '{"a": "hpke:x y"}', "an address"),
    ("key_groups", '{"a": "b"}', "a JSON object"),
    ("key_groups", '{"a": []}', "a JSON object"),
    ("key_groups", '{"a": [1]}', "a JSON object"),
    ("key_groups", '{"a": [["b", "c"]]}', "a JSON object"),
    ("key_groups", '{"a": ["b"], "a": ["c"]}', "each name once"),
    ("key_groups", '{"a": ["b"], "c": ["a"]}', "not of groups"),
    ("key_groups", '{"a": ["a"]}', "not of groups"),
    ("policy_file", "rules.toml", "an absolute path"),
    ("scratch_dirs", "", "one absolute path or more"),
    ("scratch_dirs", "/dev/shm, tmp", "an absolute path"),
    ("audit_dir", "", "an absolute path"),
    ("audit_dir", "/x\0y", "an absolute path"),
    ("audit_spare_dir", "spare", "an absolute path"),
    ("audit_signer_dir", "s", "an absolute path"),
    ("audit_signer", "https://kms.example.org", "local, vault://"),
    ("audit_signer_socket", "run/signer.sock", "an absolute path"),
    ("audit_spool", "remote", "local, shared, push"),
    ("audit_inbox", "postgresql://worker@db.example.org/trail?sslmode=disable", "verify-full"),
    ("audit_ingest_url", "http://airflow.example.org/secure-ml/ingest", "https://host"),
    ("audit_ingest_url", "http://127.0.0.1.example.org/secure-ml/ingest", "https://host"),
    ("audit_ingest_url", "https://me:word@airflow.example.org/secure-ml/ingest", "https://host"),
    ("audit_ingest_token_path", "token", "an absolute path"),
    ("siem_url", "http://siem.example.org/", "https://host"),
    ("siem_url", "https://me:word@siem.example.org/", "https://host"),
    ("siem_url", "https://siem.example.org/?token=word", "https://host"),
    ("siem_url", "http://localhost.example.org/", "https://host"),
    ("siem_format", "cef", "ocsf, cloudevents, otlp"),
    ("siem_syslog", "siem.example.org", "host:port"),
    ("siem_syslog", "siem.example.org:0", "host:port"),
    ("siem_ca", "ca.pem", "an absolute path"),
    ("siem_token_path", "token", "an absolute path"),
    ("audit_log_name", "a+b", "letters, digits"),
    ("audit_log_name", "a b", "letters, digits"),
    ("audit_log_keys", "nonsense", "log_keys"),
    ("audit_store", "airflow", "Airflow's own database is not offered"),
    ("audit_store", "mysql://u@h/d", "no address"),
    ("audit_store", "postgresql://u@db.example.org/d?sslmode=require", "believes any server"),
    ("audit_store_passfile", "pgpass", "an absolute path"),
    ("audit_witnesses", "w https://witness.example", "name"),
    ("audit_witness_quorum", "0", "1 to 32"),
    ("audit_witness_quorum", "33", "1 to 32"),
    ("audit_anchor", "s3://bucket", "s3://bucket/prefix"),
    ("audit_anchor", "s3://bucket/a/../b", "s3://bucket/prefix"),
    ("audit_anchor", "https://bucket/prefix", "s3://bucket/prefix"),
    ("audit_anchor_days", "0", "1 to 36500"),
    ("audit_anchor_days", "36501", "1 to 36500"),
    ("audit_timestamp_url", "http://tsa.example/tsr", "expected https://"),
    ("audit_timestamp_url", "https://tsa.example p", "`url policy`"),
    ("audit_timestamp_ca", "ca.pem", "an absolute path"),
    ("audit_retention_days", "", "0, or whole days from 1 to 36500"),
    ("audit_retention_days", "-1", "0, or whole days from 1 to 36500"),
    ("audit_retention_days", "36501", "0, or whole days from 1 to 36500"),
    ("audit_hide", "run.dag", "run.dag"),
    ("audit_hide", "Object.URI", "dotted names"),
    ("audit_unavailable", "Refuse", "refuse, continue"),
    ("listener", "maybe", "true, false"),
    ("reconcile_every_s", "5", "0, or whole seconds from 10 to 86400"),
    ("reconcile_every_s", "86401", "0, or whole seconds from 10 to 86400"),
    ("reconcile_every_s", "-1", "0, or whole seconds from 10 to 86400"),
    ("reconcile_every_s", "٣٠٠", "0, or whole seconds from 10 to 86400"),
    ("record_reads", "maybe", "true, false"),
]


@pytest.mark.parametrize(
    ("option", "text", "allowed"), BAD, ids=[f"{o}={t[:12]!r}" for o, t, _ in BAD]
)
def test_a_bad_value_names_section_option_and_what_is_allowed(option, text, allowed):
    with pytest.raises(ConfigurationError, match=allowed) as caught:
        parse_settings({option: text})

    assert str(caught.value).startswith(f"[secure_ml] {option}: ")
    assert len(str(caught.value)) < 500


def test_good_values_are_parsed():
    settings = parse_settings(
        {
            "key_system": "vault://transit?conn_id=v",
            "trusted_signers": " pipeline ,release,, pipeline",
            "key_names": '{"partner": "local:///p.json"}',
            "scratch_dirs": "/dev/shm, /mnt/scratch",
            "policy_file": "/etc/r.toml",
            "audit_spare_dir": "/spare",
            "audit_hide": "object.uri, run.task",
            "audit_unavailable": "continue",
            "listener": "False",
        }
    )

    assert settings.trusted_signers == ("pipeline", "release")
    assert settings.key_names == {"partner": "local:///p.json"}
    assert settings.scratch_dirs == (Path("/dev/shm"), Path("/mnt/scratch"))
    assert settings.policy_file == Path("/etc/r.toml")
    assert settings.audit_spare_dir == Path("/spare")
    assert settings.audit_hide == ("object.uri", "run.task")
    assert settings.continues_without_audit
    assert not settings.listener


def test_nobody_may_be_trusted_by_default():
    assert parse_settings({"trusted_signers": ""}).trusted_signers == ()


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigurationError, match="crypto_rules: no such option"):
        parse_settings({"crypto_rules": "x"})


def test_settings_are_read_once_until_reset(monkeypatch):
    first = load_settings(with_airflow=False)
    monkeypatch.setenv("AIRFLOW__SECURE_ML__DATA_KEY", "other")

    assert load_settings() is first
    reset_settings()
    assert load_settings(with_airflow=False).data_key == "other"


def test_settings_travel_between_processes():
    settings = load_settings_without_airflow()

    assert pickle.loads(pickle.dumps(settings)) == settings


def test_airflow_and_the_standard_library_read_the_same(home, monkeypatch, tmp_path):
    command = tmp_path / "say"
    command.write_text("#!/bin/sh\nprintf 'spoken\\n'\n")
    command.chmod(stat.S_IRWXU)
    cases = [
        ([], {}),
        (
            ["data_key = in_file", "audit_dir = $HOME/audit", "listener = False", "key_names ="],
            {"HOME": "/home/x"},
        ),
        (
            ["data_key = in_file", f"signing_key_cmd = {command}", "audit_log_name = a%%b/../c"],
            {"AIRFLOW__SECURE_ML__AUDIT_LOG_NAME": "example.org"},
        ),
        (
            ["trusted_signers = a,", "  b", "scratch_dirs = ~/s, /dev/shm"],
            {
                "AIRFLOW__SECURE_ML__DATA_KEY": "$NAME",
                "NAME": "in_env",
                "AIRFLOW__SECURE_ML__SIGNING_KEY_CMD": f"{command} x",
                "AIRFLOW__SECURE_ML__KEY_NAMES": '{"p": "local:///p"}',
            },
        ),
        (["nonsense = 1"], {}),
        (["data_key_secret = x"], {}),
        ([], {"AIRFLOW__SECURE_ML__LISTENER": "perhaps"}),
    ]
    program = """
import json, os, sys
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import load_settings, load_settings_without_airflow, reset_settings
from airflow.sdk import configuration

def read(how):
    try:
        return repr(how())
    except ConfigurationError as error:
        return str(error)

answers = []
kept = dict(os.environ)
for lines, environment in json.load(sys.stdin):
    os.environ.clear(); os.environ.update(kept | environment)
    with open(os.path.join(os.environ["AIRFLOW_HOME"], "airflow.cfg"), "w") as cfg:
        cfg.write("\\n".join(["[secure_ml]", *lines, ""]))
    configuration.__dict__["conf"] = configuration.AirflowSDKConfigParser()
    reset_settings()
    through_airflow = read(lambda: load_settings(with_airflow=True))
    answers.append([through_airflow, read(load_settings_without_airflow)])
print(json.dumps(answers))
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(cases),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(cases)
    for through_airflow, without in answers:
        assert through_airflow == without
    assert "data_key='in_env'" in answers[3][0]
    assert "signing_key='spoken'" in answers[3][0]
    assert "perhaps" in answers[6][0]


def test_buckets_have_connections_of_their_own():
    found = parse_settings({"s3_connections": '{"models": "aws_models", "a.b-c": "x"}'})

    assert found.s3_connections == {"models": "aws_models", "a.b-c": "x"}
    assert parse_settings({"aws_conn_id": ""}).aws_conn_id == ""


@pytest.mark.parametrize(
    "text",
    ["models", "[]", '{"models": 7}', '{"models": ""}', '{"Models": "x"}', '{"a": "x"}',
     '{"models": "x", "models": "y"}', '{"models": "x y"}'],
)  # fmt: skip
def test_connections_of_buckets_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"\[secure_ml\] s3_connections: found"):
        parse_settings({"s3_connections": text})
