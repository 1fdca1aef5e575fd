"""A mount of Transit for one test: keys, clients of several rights, and what Vault was asked.

Set up beside the library that the product uses; what was asked is read from Vault's audit log.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.adapters.vault.transit import VaultTransit
from airflow_secure_ml.core.secret import Secret
from dags_examples.demo.vault_server import RunningVault
from tests.servers import vault_setup


class GivenToken:
    """The login of who has a token already."""

    repeatable = True

    def __init__(self, token: str) -> None:
        self._token = Secret(token)

    def log_in(self, vault: Any) -> Token:
        """The token, without asking."""
        return Token(value=self._token)


_numbers = itertools.count(1)


class TransitPlace:
    """A mount of its own on a running Vault; leaving it takes the mount and its tokens away.

    Attributes:
        mount: Where the engine is mounted.
    """

    def __init__(self, vault: RunningVault) -> None:
        self.vault = vault
        self.mount = f"transit-{next(_numbers)}"
        self._tokens: list[str] = []
        self._clients: list[VaultClient] = []

    def __enter__(self) -> TransitPlace:
        vault_setup.enable_engine(self.vault, "transit", self.mount)
        self.vault.api("POST", f"{self.mount}/config/keys", {"disable_upsert": True})
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self._clients:
            client.close()
        for token in self._tokens:
            vault_setup.revoke(self.vault, token)
        self.vault.api("DELETE", f"sys/mounts/{self.mount}")

    def make(self, name: str, kind: str = "aes256-gcm96", **more: Any) -> None:
        """Make a key, derived where its kind wraps."""
        order = {"type": kind, "derived": kind == "aes256-gcm96"} | more
        self.vault.api("POST", f"{self.mount}/keys/{name}", order)

    def rotate(self, name: str) -> None:
        """Make a new version of a key."""
        self.vault.api("POST", f"{self.mount}/keys/{name}/rotate", {})

    def configure(self, name: str, **options: int) -> None:
        """Set options of a key, such as min_decryption_version."""
        self.vault.api("POST", f"{self.mount}/keys/{name}/config", options)

    def facts(self, name: str) -> Mapping[str, Any]:
        """A key as Vault describes it."""
        return dict(self.vault.api("GET", f"{self.mount}/keys/{name}")["data"])

    def connection(self) -> str:
        """The text of an Airflow connection to Vault with every right."""
        return json.dumps(
            {
                "conn_type": "vault_secure_ml",
                "host": self.vault.url,
                "password": self.vault.root_token,
                "extra": {"ca": str(self.vault.ca)},
            }
        )

    def client(
        self, policy: str | None = None, *, url: str | None = None, **server: Any
    ) -> VaultClient:
        """A client with the rights that a policy gives; None: with every right.

        Args:
            policy: Its text.
            url: Where to reach Vault; None: itself.
            server: More of `VaultServer`.
        """
        token = self.vault.root_token
        if policy is not None:
            name = f"{self.mount}-{len(self._tokens)}"
            vault_setup.policy(self.vault, name, policy)
            token = vault_setup.token(self.vault, name, ttl="10m")
            self._tokens.append(token)
        at = VaultServer(url=url or self.vault.url, ca=str(self.vault.ca), **server)
        made = VaultClient(at, GivenToken(token))
        self._clients.append(made)
        return made

    def keys(self, *rights: str, **options: Any) -> VaultTransit:
        """The key system of who may do only this: `encrypt/data`, `read keys/data`; none: all."""
        policy = None
        for right in rights:
            word, _, path = right.rpartition(" ")
            rule = f'path "{self.mount}/{path}" {{ capabilities = ["{word or "update"}"] }}'
            policy = f"{policy or ''}{rule}\n"
        return self.keys_over(self.client(policy), **options)

    def policy(self, name: str) -> str:
        """The text of a policy that the project ships, for this mount."""
        text = (vault_setup.POLICIES / f"{name}.hcl").read_text()
        return text.replace('"transit/', f'"{self.mount}/')

    def role(self, policy: str, **options: Any) -> VaultTransit:
        """The key system of the holder of a policy that the project ships."""
        return self.keys_over(self.client(self.policy(policy)), **options)

    def keys_over(self, client: VaultClient, **options: Any) -> VaultTransit:
        """The key system over a client; the key `data` opens when nobody names one."""
        return VaultTransit(lambda: client, self.mount, **({"wraps": ["data"]} | options))

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[str]]:
        """What this mount is asked inside the block: `update rewrap/data`, in order."""
        found: list[str] = []
        began = self.vault.audit_log.stat().st_size
        yield found
        found += self._requests(began)

    def count(self, request: str) -> int:
        """How often this mount was asked for something so far, such as `read keys/data`."""
        return self._requests(0).count(request)

    def _requests(self, began: int) -> list[str]:
        with self.vault.audit_log.open(encoding="utf-8") as log:
            log.seek(began)
            entries = [json.loads(line) for line in log if line.endswith("\n")]
        asked = [
            (each["request"]["operation"], each["request"]["path"])
            for each in entries
            if each["type"] == "request"
        ]
        start = f"{self.mount}/"
        return [
            f"{how} {path.removeprefix(start)}" for how, path in asked if path.startswith(start)
        ]
