"""The secrets back end beside the official one: look-ups in a second, and logins made.

A real Vault over TLS on loopback. Ours records each look-up durably before it answers; the
official one records nothing.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import median_ratio, quantile, say

NAMES = 100
POLICY = """
path "airflow/data/variables/*" { capabilities = ["read"] }
path "airflow/data/variables/denied*" { capabilities = ["deny"] }
"""
LOGIN = "auth/approle/login"


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds by case and back end, in rounds; logins that Vault counted."""
    from dags_examples.demo.vault_server import RunningVault
    from tests.servers import build, vault_setup

    binary = build.find(build.SERVERS["vault"])
    if binary is None:
        raise SystemExit("secrets_backend: Vault is missing; make servers")
    warnings.simplefilter("ignore")
    _use_own_trail(folder)
    (folder / "vault").mkdir()
    with RunningVault(binary=binary, folder=folder / "vault") as vault:
        vault_setup.enable_engine(vault, "kv", "airflow", version="2")
        for number in range(NAMES):
            path = f"airflow/data/variables/{number}"
            vault.api("POST", path, {"data": {"value": f"value {number}"}})
        policy = vault_setup.policy(vault, "bench", POLICY)
        role_id, secret_id = vault_setup.approle(vault, "bench", policy, token_ttl="1h")
        options = {
            "url": vault.url,
            "auth_type": "approle",
            "role_id": role_id,
            "secret_id": secret_id,
            "verify": str(vault.ca),
            "mount_point": "airflow",
        }
        return _Bench(vault, options).measure(5 if quick else 25)


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    lines = []
    for case, label in (
        ("first", "secrets: the first look-up of a process, login included"),
        ("cold", "secrets: look-ups that reach Vault"),
        ("kept", "secrets: one name again and again"),
    ):
        ours, official = found["seconds"]["ours"][case], found["seconds"]["official"][case]
        rate, ratio = quantile(ours, 0.5), median_ratio(official, ours)
        shown = f"{1000 * rate:.1f} ms" if case == "first" else f"{1 / rate:,.0f}/s"
        beside = 1000 * quantile(official, 0.5) if case == "first" else 1 / quantile(official, 0.5)
        unit = " ms" if case == "first" else "/s"
        lines.append(
            (
                label,
                f"{shown}, each a durable event",
                f"official: {beside:,.1f}{unit}; {ratio:.2f} × as fast as that",
                "reported",
            )
        )
    denied, logins = found["denied"], found["logins"]
    lines.append(
        (
            f"secrets: logins for {denied} look-ups that are denied",
            f"{logins['ours']}",
            f"official: {logins['official']}",
            f"1: {'met' if logins['ours'] == 1 else '**missed**'}",
        )
    )
    return lines


class _Bench:
    """Both back ends over one Vault."""

    def __init__(self, vault: Any, options: dict[str, Any]) -> None:
        self._vault, self._options = vault, options

    def measure(self, rounds: int) -> dict[str, Any]:
        seconds: dict[str, dict[str, list[float]]] = {
            who: {"first": [], "cold": [], "kept": []} for who in ("ours", "official")
        }
        for number in range(rounds):
            say(f"secrets: round {number + 1} of {rounds}")
            for who, found in seconds.items():
                self._round(getattr(self, who), found)
        denied = 40 * min(rounds, 5)
        return {
            "rounds": rounds,
            "names": NAMES,
            "seconds": seconds,
            "denied": denied,
            "logins": {who: self._logins(getattr(self, who), denied) for who in seconds},
        }

    def ours(self, **more: Any) -> Any:
        """Our back end, as a new process has it."""
        from airflow_secure_ml.secrets import VaultBackend
        from airflow_secure_ml.secrets.answering import forget_answers

        forget_answers()
        return VaultBackend(**self._options, lookups_per_s=0, **more)

    def official(self, **_: Any) -> Any:
        """The official back end, as a new process has it."""
        from airflow.providers.hashicorp.secrets.vault import VaultBackend

        return VaultBackend(**self._options)

    def _round(self, make: Callable[..., Any], found: dict[str, list[float]]) -> None:
        backend = make(cache_ttl_s=0)
        found["first"].append(_taken(lambda: backend.get_variable("0")))
        every = _taken(lambda: [backend.get_variable(str(number)) for number in range(NAMES)])
        found["cold"].append(every / NAMES)
        keeping = make(cache_ttl_s=600)
        keeping.get_variable("0")
        again = _taken(lambda: [keeping.get_variable("0") for _ in range(NAMES)])
        found["kept"].append(again / NAMES)

    def _logins(self, make: Callable[..., Any], denied: int) -> int:
        from airflow.providers.hashicorp._internal_client.vault_client import VaultError

        before, backend = self._asked(), make(cache_ttl_s=0)
        for number in range(denied):
            # Each of the two raises what it takes for a denial.
            with contextlib.suppress(PermissionError, VaultError):
                backend.get_variable(f"denied{number}")
                raise AssertionError("a denied secret was given")
        return self._asked() - before

    def _asked(self) -> int:
        return sum(one["request"]["path"] == LOGIN for one in self._vault.audited("request"))


def _use_own_trail(folder: Path) -> None:
    """A deployment below the folder, its trail a real spool."""
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring
    from airflow_secure_ml.deployment import Deployment, use_deployment
    from airflow_secure_ml.settings import parse_settings

    LocalKeyring(folder / "keyring.json").init()
    texts = {
        "key_system": f"local://{folder}/keyring.json",
        "audit_dir": str(folder / "audit"),
        "audit_signer_dir": str(folder / "signer"),
        "xcom_keys_dir": str(folder / "xcom_keys"),
    }
    use_deployment(Deployment(parse_settings(texts)))


def _taken(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
