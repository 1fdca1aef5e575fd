"""The Vault of tests and the demo: real, on loopback over TLS, and gone with whoever wanted it."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dags_examples.demo import vault_server
from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.kept_programs import KeptPrograms, ServerFailedError, free_ports
from dags_examples.demo.vault_api import VaultAnswerError, VaultApi
from dags_examples.demo.vault_server import Counts, RunningVault
from tests.servers import vault_setup

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "docker" / "vault" / "config.hcl"
CANARY = "CANARY-of-a-secret-in-vault"
# Starts a Vault, says its process, and waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from dags_examples.demo.vault_server import RunningVault
with RunningVault(binary=Path(sys.argv[1]), folder=Path(sys.argv[2])) as vault:
    print(vault.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def own_vault(vault_binary, tmp_path):
    """A Vault of the test's own."""
    with RunningVault(binary=vault_binary, folder=tmp_path / "vault") as running:
        yield running


def test_it_counts_what_is_in_use(own_vault):
    path = f"{vault_setup.ssh(own_vault, 'counted')}/creds/counted"
    vault_setup.policy(own_vault, "counted", f'path "{path}" {{ capabilities = ["update"] }}')
    token = vault_setup.token(own_vault, "counted")
    own_vault.api("POST", path, {"ip": "127.0.0.1"}, token=token)

    during, left = own_vault.counts(), own_vault.left()

    assert during == Counts(tokens=1, leases=1)
    assert [re.sub(r"\d+ s", "N s", line) for line in left] == [
        "lease ssh/creds/counted",
        "token auth/token/create ['counted'] N s left",
    ]
    vault_setup.revoke(own_vault, token)
    until(lambda: own_vault.counts() == Counts(tokens=0, leases=0))
    assert own_vault.left() == []


def test_a_stopped_one_goes_on_where_it_was(own_vault):
    vault_setup.kv(own_vault, {"kept": {"word": "swordfish"}})
    url = own_vault.url

    own_vault.stop()
    with pytest.raises(VaultAnswerError, match="refused"):
        own_vault.api("GET", "sys/mounts")
    own_vault.start()
    with pytest.raises(VaultAnswerError, match="503, Vault is sealed"):
        own_vault.api("GET", "sys/mounts")
    own_vault.unseal()

    assert own_vault.url == url
    assert own_vault.api("GET", "kv/data/kept")["data"]["data"] == {"word": "swordfish"}
    assert own_vault.counts() == Counts(tokens=0, leases=0)


def test_a_sealed_one_answers_nothing_until_it_is_unsealed(own_vault):
    own_vault.seal()

    with pytest.raises(VaultAnswerError, match="503, Vault is sealed"):
        own_vault.api("GET", "sys/mounts")

    own_vault.unseal()
    assert "cubbyhole/" in own_vault.api("GET", "sys/mounts")["data"]


def test_its_secrets_are_its_owners_alone(vault):
    private = [vault.folder / name for name in ("unseal-key", "server.key", "audit.jsonl")]

    modes = {path.name: path.stat().st_mode & 0o777 for path in [vault.folder, *private]}

    assert set(modes.values()) == {0o700, 0o600}
    assert vault.root_token not in repr(vault) + repr(vault.client())
    stored = [path for path in vault.folder.iterdir() if path.is_file()]
    assert [p for p in stored if vault.root_token.encode() in p.read_bytes()] == []


def test_its_audit_log_tells_who_asked_for_what_and_no_secret(vault):
    vault_setup.kv(vault, {"audited": {"word": CANARY}})

    answer = vault.api("GET", "kv/data/audited")

    assert answer["data"]["data"] == {"word": CANARY}
    *_, last = vault.audited()
    assert (last["request"]["path"], last["request"]["operation"]) == ("kv/data/audited", "read")
    assert last["request"]["id"] == answer["request_id"]
    assert CANARY not in vault.audit_log.read_text()


def test_it_listens_on_loopback_alone(vault):
    listening = {
        c.laddr for c in psutil.Process(vault.pid).net_connections() if c.status == "LISTEN"
    }

    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert vault.port in {address.port for address in listening}


def test_it_gets_nothing_of_our_environment(vault_binary, tmp_path, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)

    with RunningVault(binary=vault_binary, folder=tmp_path / "vault") as vault:
        environment = Path(f"/proc/{vault.pid}/environ").read_text()
        arguments = Path(f"/proc/{vault.pid}/cmdline").read_text()

    assert f"HOME={tmp_path / 'vault'}" in environment
    assert CANARY not in environment
    assert vault.root_token not in environment + arguments


def test_http_is_no_way_to_it(vault):
    plain = replace(vault.client(), url=vault.url.replace("https", "http"))

    with pytest.raises(VaultAnswerError, match="HTTPS server"):
        plain.call("GET", "sys/mounts")


def test_who_trusts_another_authority_does_not_speak_to_it(vault, tmp_path):
    other = CertificateAuthority.make(tmp_path / "other.pem")

    with pytest.raises(VaultAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
        VaultApi(url=vault.url, ca=other.file).call("GET", "sys/health")


def test_it_is_gone_with_who_started_it(vault_binary, tmp_path):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(vault_binary), str(tmp_path / "vault")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process = psutil.Process(int(starter.stdout.readline()))
    finally:
        starter.kill()
        starter.communicate(timeout=60)

    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


def test_one_that_cannot_start_says_why(tmp_path):
    broken = tmp_path / "vault"
    broken.write_text("#!/bin/sh\necho no such storage\nexit 1\n")
    broken.chmod(0o755)

    with (
        pytest.raises(ServerFailedError, match="vault ended by itself\nno such storage"),
        RunningVault(binary=broken, folder=tmp_path / "folder"),
    ):
        pytest.fail("it is up")


def test_a_taken_port_is_not_waited_for(vault, vault_binary, tmp_path, monkeypatch):
    ports = iter([(vault.port, free_ports(1)[0]), free_ports(2)])
    monkeypatch.setattr("dags_examples.demo.kept_programs.free_ports", lambda count: next(ports))

    with RunningVault(binary=vault_binary, folder=tmp_path / "vault") as other:
        assert other.port != vault.port
        assert other.counts() == Counts(tokens=0, leases=0)


def test_the_shipped_configuration_starts(vault_binary, tmp_path):
    authority = CertificateAuthority.make(tmp_path / "ca.pem")
    authority.for_server(tmp_path)
    (tmp_path / "data").mkdir()
    port, cluster = free_ports(2)
    text = SHIPPED.read_text().replace("/vault/tls", str(tmp_path))
    text = text.replace("/vault/data", str(tmp_path / "data")).replace("0.0.0.0", "127.0.0.1")
    text = text.replace("https://vault:", "https://127.0.0.1:")
    text = text.replace(":8200", f":{port}").replace(":8201", f":{cluster}")
    (tmp_path / "config.hcl").write_text(text)
    command = [str(vault_binary), "server", "-config", str(tmp_path / "config.hcl")]
    programs = KeptPrograms(programs={"vault": command}, folder=tmp_path)
    api = VaultApi(url=f"https://127.0.0.1:{port}", ca=authority.file)

    programs.start()
    try:
        programs.wait(lambda: status(api) == 501, "waits to be initialized", 60)
    finally:
        programs.stop()

    said = (tmp_path / "vault.log").read_text()
    assert "unknown or unsupported field" not in said
    assert "[ERROR]" not in said


def test_the_shipped_limit_lets_vault_sign_away_a_hundred_thousand_objects(
    vault_binary, tmp_path, monkeypatch
):
    limit = re.search(r"max_json_string_value_length = \d+", SHIPPED.read_text())[0]
    config = vault_server.CONFIG.replace("tls_min_version", f"{limit}\n  tls_min_version")
    monkeypatch.setattr(vault_server, "CONFIG", config)

    with RunningVault(binary=vault_binary, folder=tmp_path / "vault") as own:
        vault_setup.transit_key(own, "pipeline", "ed25519")
        # A request as a whole may have 32 MiB.
        certificate = base64.b64encode(bytes(23 << 20)).decode()
        signed = own.api("POST", "transit/sign/pipeline", {"input": certificate})

    assert signed["data"]["signature"].startswith("vault:v1:")


def status(api):
    try:
        api.call("GET", "sys/health")
    except VaultAnswerError as error:
        return error.status
    return 200


def until(found, seconds=30):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)
