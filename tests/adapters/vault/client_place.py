"""Clients of a running Vault for one test, and what Vault's own audit log says of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.adapters.vault.client import Login, VaultClient
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from dags_examples.demo.vault_server import RunningVault
from tests.servers import vault_setup

_numbers = itertools.count(1)
LOGIN = "auth/approle/login"
READER = 'path "kv/data/*" { capabilities = ["read", "update", "create"] }'


@dataclass(slots=True, kw_only=True)
class FakeTime:
    """A clock that only waiting moves on."""

    now_s: float = 1000.0
    waits: list[float] = field(default_factory=list)
    meanwhile: Callable[[], Any] | None = None

    def clock(self) -> float:
        """What it shows."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Wait; what happens `meanwhile` happens once."""
        self.waits.append(seconds)
        self.now_s += seconds
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()


class ClientPlace:
    """Clients that are closed at the end, and a KV engine at `kv` that they may use."""

    def __init__(self, vault: RunningVault) -> None:
        self.vault = vault
        self.clients: list[VaultClient] = []
        vault_setup.kv(vault, {"one": {"value": "first"}})
        vault_setup.policy(vault, "kv-reader", READER)
        self._from = self._length()

    def __enter__(self) -> ClientPlace:
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self.clients:
            client.close()

    def role(self, *policies: str, **more: Any) -> AppRoleLogin:
        """A new AppRole, of the policy that reads `kv` where none is named."""
        name = f"client-{next(_numbers)}"
        role_id, secret_id = vault_setup.approle(
            self.vault, name, *(policies or ("kv-reader",)), **more
        )
        return AppRoleLogin(role_id=role_id, secret_id=Secret(secret_id))

    def server(self, url: str | None = None, **more: Any) -> VaultServer:
        """The server, or what stands before it."""
        given: dict[str, Any] = {"ca": str(self.vault.ca), "deadline_s": 5.0, "timeout_s": 5.0}
        return VaultServer(url=url or self.vault.url, **given | more)

    def client(
        self,
        login: Login | None = None,
        *,
        url: str | None = None,
        time: FakeTime | None = None,
        **server: Any,
    ) -> VaultClient:
        """A client; without a login, of a role that reads `kv`."""
        fake = {} if time is None else {"clock": time.clock, "sleep": time.sleep}
        made = VaultClient(
            self.server(url, **server), login or self.role(), jitter=lambda: 0.5, **fake
        )
        self.clients.append(made)
        return made

    def asked(self, path: str) -> int:
        """How often Vault was asked for a path since this place was made."""
        return sum(
            entry["request"]["path"] == path
            for entry in itertools.islice(self.vault.audited("request"), self._from, None)
        )

    def _length(self) -> int:
        return sum(1 for _ in self.vault.audited("request"))


def read_one(client: VaultClient) -> str:
    """Read the secret `one`."""
    answer = client.call("read kv/one", lambda vault: vault.adapter.get("/v1/kv/data/one"))
    return str(answer["data"]["data"]["value"])
