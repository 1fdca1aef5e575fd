"""Run the examples with a real Vault and PostgreSQL and check what came out: `make demo-vault`.

Everything lies in .demo/vault, inside the project, or in --place; as root, PostgreSQL's cluster in
the temporary folder, since its server must run as another user. How it ends: `command`.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from dags_examples.demo.airflow_process import RunningAirflow
from dags_examples.demo.command import ROOT, USER, run_command
from dags_examples.demo.expected_vault import EXPECTED, EXPECTED_LEASES
from dags_examples.demo.kept_programs import ServerFailedError
from dags_examples.demo.postgres_server import RunningPostgres, find_postgres
from dags_examples.demo.progress import Progress
from dags_examples.demo.runs import run_examples
from dags_examples.demo.summary import Summary, summarize
from dags_examples.demo.vault_contents import TOKEN_TTL_S, fill
from dags_examples.demo.vault_server import RunningVault
from dags_examples.demo.vault_summary import KeyFact, VaultFacts, join, summarize_vault

POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    said = "Run the examples with a real Vault and PostgreSQL and check what came out."
    return run_command(said, ROOT / ".demo" / "vault", demo, arguments)


def demo(place: Path, progress: Progress, stack: ExitStack) -> tuple[Summary, RunningAirflow]:
    """Start the servers, run 03 and 04, and hold what came out against what should."""
    vault, postgres = _servers(place)
    with progress.step("starting Vault and PostgreSQL"):
        stack.enter_context(vault)
        stack.enter_context(postgres)
        connections = fill(vault, postgres)
    roles, before = set(postgres.logins()), _key(vault)
    airflow = _airflow(place, connections, progress)
    with progress.step("starting Airflow"):
        stack.enter_context(airflow)
    ran = run_examples(airflow, airflow.api(USER), EXPECTED, progress)
    with progress.step("counting what is left on Vault"):
        _wait_for_ends(vault, progress.tick)
    rewraps, opened = _rewraps(vault)
    facts = VaultFacts(
        roles=sorted(set(postgres.logins()) - roles),
        left=vault.left(),
        before=before,
        after=_key(vault),
        rewraps=rewraps,
        rewrapping_opened=opened,
    )
    summary = summarize(ran.tasks, ran.events, ran.trail, EXPECTED)
    return join(summary, summarize_vault(ran.tasks, ran.events, facts, EXPECTED_LEASES)), airflow


def _servers(place: Path) -> tuple[RunningVault, RunningPostgres]:
    """Found, or built; none of them started.

    Raises:
        ServerFailedError: One is missing; says what to do.
    """
    from tests.servers.build import SERVERS, MissingServerError, obtain

    binaries = find_postgres()
    if binaries is None:
        raise ServerFailedError("PostgreSQL is missing; on Debian: apt-get install postgresql")
    try:
        binary = obtain(SERVERS["vault"])
    except MissingServerError as error:
        raise ServerFailedError(str(error)) from error
    return (
        RunningVault(binary=binary, folder=place / "server"),
        RunningPostgres(binaries=binaries, folder=place / "postgres"),
    )


def _airflow(place: Path, connections: dict[str, str], progress: Progress) -> RunningAirflow:
    lake = place / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "warehouse").mkdir(parents=True)
    airflow = RunningAirflow(
        home=place / "airflow",
        dags=ROOT / "dags_examples",
        settings={
            **connections,
            "SECURE_ML_DEMO_DATA": str(lake),
            "AIRFLOW__SECURE_ML__KEY_SYSTEM": "vault://transit?conn_id=vault_default",
        },
        users={USER: "admin"},
        tick=progress.tick,
    )
    airflow.prepare = lambda _: airflow.run(["secure-ml", "keys", "init"], "making the log's key")
    return airflow


def _key(vault: RunningVault) -> KeyFact:
    found = vault.api("GET", "transit/keys/data")["data"]
    return KeyFact(newest=found["latest_version"], oldest=found["min_decryption_version"])


def _wait_for_ends(vault: RunningVault, tick: Callable[[str], None]) -> None:
    """Until nobody has a token; one that nobody could revoke ends at its term."""
    deadline = time.monotonic() + TOKEN_TTL_S + 10
    while (left := vault.counts()).tokens and time.monotonic() < deadline:
        tick(f"{left.tokens} tokens, {left.leases} leases")
        time.sleep(POLL_S)


def _rewraps(vault: RunningVault) -> tuple[int, int]:
    """How often Vault rewrapped, and unwrapped for the same tokens, by its own audit log."""
    asked: dict[str, list[str]] = defaultdict(list)
    for entry in vault.audited():
        who = entry.get("auth", {}).get("accessor")
        if who is not None and "error" not in entry:
            asked[who].append(entry["request"]["path"])
    rewrapping = [paths for paths in asked.values() if "transit/rewrap/data" in paths]
    return (
        sum(paths.count("transit/rewrap/data") for paths in rewrapping),
        sum(paths.count("transit/decrypt/data") for paths in rewrapping),
    )


if __name__ == "__main__":
    sys.exit(main())
