"""A real Vault in one folder: start it, set its seal, see what is left on it, stop it.

Loopback only, free ports, TLS by an authority of its own, raft storage, an audit device.
For tests and the demo: whoever reads the folder can unseal it, since its only key share lies there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dags_examples.demo.certificates import CertificateAuthority, write_private
from dags_examples.demo.kept_programs import (
    KeptPrograms,
    emptied,
    start_on_free_ports,
)
from dags_examples.demo.vault_api import VaultAnswerError, VaultApi

START_S = 60.0
ACTIVE, UNINITIALIZED, SEALED = 200, 501, 503
# mlock keeps keys out of swap; it needs a right that nobody should have to give for a test.
CONFIG = """\
storage "raft" {{
  path                   = "{folder}/raft"
  node_id                = "one"
  performance_multiplier = 1
}}

listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file   = "{folder}/server.pem"
  tls_key_file    = "{folder}/server.key"
  tls_min_version = "tls12"
}}

api_addr      = "https://127.0.0.1:{port}"
cluster_addr  = "https://127.0.0.1:{cluster_port}"
disable_mlock = true
ui            = false
"""
# OpenBao lets nobody add an audit device over HTTP unless its configuration says so.
OPENBAO = "unsafe_allow_api_audit_creation = true\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is in use on a Vault.

    Attributes:
        tokens: How many live tokens there are besides the root token.
        leases: How many live leases of secrets there are.
    """

    tokens: int
    leases: int


@dataclass(slots=True, kw_only=True)
class RunningVault:
    """A Vault that runs, unsealed, for as long as the block lasts.

    Attributes:
        binary: The server's program, of Vault or OpenBao.
        folder: Where everything of it lies; emptied at the start.
        log_level: How much it says in `vault.log`: error, warn, info, debug, trace.
        port: Where it listens; 0 until it was started.
        root_token: Good for everything; its owner's alone.
        authority: Issues certificates that clients of this Vault trust.
    """

    binary: Path
    folder: Path
    log_level: str = "warn"
    port: int = 0
    root_token: str = field(default="", repr=False)
    authority: CertificateAuthority | None = field(default=None, repr=False)
    _programs: KeptPrograms | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate of the authority to trust, PEM."""
        return self.folder / "ca.pem"

    @property
    def audit_log(self) -> Path:
        """Its audit log, a JSON object a line; values in it are HMACs."""
        return self.folder / "audit.jsonl"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._programs is not None
        return min(self._programs.pids())

    def __enter__(self) -> Self:
        emptied(self.folder, "raft")
        self.authority = CertificateAuthority.make(self.ca)
        self.authority.for_server(self.folder)
        try:
            start_on_free_ports(2, self._start_at, stop=self.stop)
            self._initialize()
            self.unseal()
            options = {"file_path": str(self.audit_log), "log_raw": "false"}
            self.api("PUT", "sys/audit/file", {"type": "file", "options": options})
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def client(self, token: str | None = None) -> VaultApi:
        """Its HTTP interface, for the holder of a token; None: of the root token."""
        return VaultApi(url=self.url, ca=self.ca, token=self.root_token if token is None else token)

    def api(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> Any:
        """Ask once; as `client(token).call`."""
        return self.client(token).call(method, path, body)

    def counts(self) -> Counts:
        """What is in use on it now."""
        api = self.client()
        accessors = api.names("auth/token/accessors")
        return Counts(tokens=len(accessors) - 1, leases=len(list(api.leases())))

    def left(self) -> list[str]:
        """A line for each token and lease in use: what it is, never its secret."""
        api = self.client()
        root = api.call("GET", "auth/token/lookup-self")["data"]["accessor"]
        lines = [f"lease {lease.rpartition('/')[0]}" for lease in api.leases()]
        for accessor in set(api.names("auth/token/accessors")) - {root}:
            try:
                facts = api.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})
            except VaultAnswerError:
                continue  # It ended meanwhile.
            found = facts["data"]
            lines.append(f"token {found['path']} {found['policies']} {found['ttl']} s left")
        return sorted(lines)

    def audited(self, kind: str = "response") -> Iterator[dict[str, Any]]:
        """The entries of its audit log, oldest first: those of requests or of responses."""
        with self.audit_log.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["type"] == kind:
                    yield entry

    def seal(self) -> None:
        """Seal it: it keeps running, and answers 503 until it is unsealed."""
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it with the share in its folder; returns when it is active."""
        share = (self.folder / "unseal-key").read_text()
        self.api("PUT", "sys/unseal", {"key": share}, token="")
        self._wait_for(ACTIVE)

    def stop(self) -> None:
        """Stop it; what it stores stays, for `start`."""
        running, self._programs = self._programs, None
        if running is not None:
            running.stop()

    def start(self) -> None:
        """Start it again after `stop`, where it was, with what it stored; it is sealed then."""
        log = ["-log-level", self.log_level]
        command = [str(self.binary), "server", "-config", str(self.folder / "config.hcl"), *log]
        self._programs = KeptPrograms(programs={"vault": command}, folder=self.folder)
        self._programs.start()
        self._wait_for(UNINITIALIZED, SEALED)

    def _start_at(self, port: int, cluster_port: int) -> None:
        self.port = port
        text = CONFIG.format(folder=self.folder, port=port, cluster_port=cluster_port)
        is_openbao = self.binary.name.startswith("bao")
        (self.folder / "config.hcl").write_text(text + (OPENBAO if is_openbao else ""))
        self.start()

    def _initialize(self) -> None:
        order = {"secret_shares": 1, "secret_threshold": 1}
        made = self.api("PUT", "sys/init", order, token="")
        self.root_token = made["root_token"]
        write_private(self.folder / "unseal-key", made["keys_base64"][0].encode())

    def _wait_for(self, *statuses: int) -> None:
        assert self._programs is not None
        doing = f"Vault answers {' or '.join(map(str, statuses))}"
        self._programs.wait(lambda: self._status() in statuses, doing, START_S)

    def _status(self) -> int:
        try:
            self.api("GET", "sys/health", token="")
        except VaultAnswerError as error:
            return error.status
        return ACTIVE
