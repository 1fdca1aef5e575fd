"""As `victim`, and its task leases from a real Vault; what it was given is told, too."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.leases import VaultCredentials
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.services.run_plan import LeaseRequest


def sibling(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


victim = sibling("victim")


class Guard(victim.Guard):
    """A guard that also tells of leases."""

    def take_line(self, number, line):
        self.guard.take_line(number, line)
        self.step("line taken")

    def ask(self, number):
        self.guard.ask(number)
        self.step("asking")

    def answered(self, number):
        self.guard.answered(number)

    def take_lease(self, *given):
        self.step("before handing over")
        self.guard.take_lease(*given)
        self.step("handed over")


class Source:
    """A source that tells when it has granted."""

    def __init__(self, source, step):
        self.source, self.step = source, step

    def line(self):
        line = self.source.line()
        self.step("logged in")
        return line

    def grant(self, path, data):
        granted = self.source.grant(path, data)
        victim.say(user=granted.fields["username"].reveal(), lease=granted.id_digest)
        self.step("granted")
        return granted

    def revoke(self, lease_id):
        self.source.revoke(lease_id)


def connect(place):
    """A client of the Vault at a place."""
    login = AppRoleLogin(role_id=place["role_id"], secret_id=Secret(place["secret_id"]))
    return VaultClient(VaultServer(url=place["url"], ca=place["ca"]), login)


def run(bench, module, step, place, client):
    """One secured task with two leases and no file."""
    source = Source(VaultCredentials(client), step)

    def watched(desk):
        def guard(root):
            made = Guard(desk.guard(root), step)
            step.guard = made.guard
            step("guard started")
            return made

        return dataclasses.replace(desk, guard=guard, credentials=lambda name: source)

    bench.change = watched
    leases = tuple(
        LeaseRequest(name=name, path=place["path"], conn_id=name) for name in ("one", "two")
    )
    plan = dataclasses.replace(module.a_plan(), leases=leases)
    sink = victim.Sink(bench.sink(), step)
    bench.run(plan, lambda bound: step("in the body"), sink=sink)
    sink.close()


def main(folder, shm, place):
    place = json.loads(place)

    def act(bench, module, order):
        client = connect(place)
        run(bench, module, order["step"], place, client)
        client.close()
        order["step"]("closed")

    victim.serve(folder, shm, act)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], os.environ.pop("VICTIM_PLACE"))
