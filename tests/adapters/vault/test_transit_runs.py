"""Secured runs whose keys lie in a real Vault: what they ask it, and that each role suffices."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.key_systems import NamedKeys
from airflow_secure_ml.services.run_plan import Input, Output, Plan
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.ports import MemoryAudit
from tests.servers.transit_place import TransitPlace


class Bench(Deployment):
    """A deployment whose keys lie on one mount."""

    def __init__(self, folder, place, client, key_names):
        settings = {
            "key_system": f"vault://{place.mount}?conn_id=v",
            "key_names": json.dumps(key_names) if key_names else "",
            "scratch_dirs": str(folder / "scratch"),
            "audit_dir": str(folder / "audit"),
            "audit_signer_dir": str(folder / "signer"),
        }
        (folder / "scratch").mkdir(mode=0o700, exist_ok=True)
        super().__init__(parse_settings(settings))
        self.folder, self.audit = folder, MemoryAudit()
        self.keys = NamedKeys(
            self.settings.key_system,
            self.settings.key_names,
            connect=lambda conn_id: {"v": client}[conn_id],
            wraps=["data"],
            signs=["pipeline"],
        )

    def run(self, body, *, reads=(), writes=()):
        """Run a body over inputs and outputs of these names."""

        def uri(name):
            return self.canonical(str(self.folder / "lake" / name))

        plan = Plan(
            inputs=tuple(Input(name=name, uri=uri(name)) for name in reads),
            outputs=tuple(Output(name=name, uri=uri(name)) for name in writes),
            dag_id="d",
            task_id="t",
            run_id="r",
        )
        made = self.secured_run(
            lambda: plan,
            reads=list(reads),
            writes=list(writes),
            operator="Test",
            sink=self.audit,
            run=RunRef(dag="d", run="r", task="t"),
            still_ours=lambda: None,
            tell=lambda line: None,
        )
        with made as run:
            body(run.open())
            return run.publish()

    def facts(self, act):
        return [f for f in self.audit.facts if (f.act, f.phase) == (act, "outcome")]


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        made.make("data")
        made.make("pipeline", "ed25519")
        yield made


@pytest.fixture
def folder():
    """Where syncing ten thousand files costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def bench(place, folder):
    """A deployment for the holder of some of the project's policies; none: of every right."""

    def make(*policies, **key_names):
        client = place.client("\n".join(map(place.policy, policies)) or None)
        return Bench(folder, place, client, key_names)

    return make


def fill(files):
    def body(bound):
        for number in range(files):
            path = bound["out"] / f"{number % 100:02}" / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"row {number}")

    return body


def test_one_role_writes_and_another_reads_and_events_name_vaults_versions(place, bench):
    place.rotate("data")
    writing = bench("pipeline-writer", "signer")
    with place.asked() as written:
        writing.run(lambda bound: bound["out"].write_text("rows"), writes=["out"])
    reading, found = bench("pipeline-reader", "signer"), []

    with place.asked() as read:
        reading.run(lambda bound: found.append(bound["out"].read_text()), reads=["out"])

    assert found == ["rows"]
    assert [each.key for each in writing.facts("object.seal")] == [
        {"system": "vault", "name": "data", "version": "2"}
    ]
    assert [each.key for each in writing.facts("object.sign")] == [
        {"system": "vault", "name": "pipeline", "version": "1"}
    ]
    assert [each.key for each in reading.facts("object.open")] == [
        {"system": "vault", "name": "data", "version": "2"}
    ]
    assert sorted(set(written)) == [
        "read keys/data",
        "read keys/pipeline",
        "update encrypt/data",
        "update sign/pipeline",
    ]
    assert sorted(read) == ["read keys/data", "read keys/pipeline", "update decrypt/data"]


def test_ten_thousand_files_are_a_handful_of_calls_to_a_vault_of_default_limits(
    place, bench, folder
):
    writing, reading, found = (
        bench("pipeline-writer", "signer"),
        bench("pipeline-reader", "signer"),
        [],
    )

    with place.asked() as written:
        writing.run(fill(10_000), writes=["out"])
    with place.asked() as read:
        reading.run(
            lambda bound: found.extend(path.read_text() for path in bound["out"].glob("*/*")),
            reads=["out"],
        )

    assert sorted(set(written)) == [
        "read keys/data",
        "read keys/pipeline",
        "update encrypt/data",
        "update sign/pipeline",
    ]
    assert len(written) <= 10
    assert sorted(read) == ["read keys/data", "read keys/pipeline", "update decrypt/data"]
    assert sorted(found) == sorted(f"row {number}" for number in range(10_000))
    (manifest,) = (folder / "lake" / "out.sig").glob("*.manifest")
    # More than Vault takes in one string: it cannot have stood in what was signed.
    assert manifest.stat().st_size > 1 << 20


def test_a_key_that_is_not_derived_is_refused_before_the_body_runs(place, bench, folder):
    place.make("plain", derived=False)
    here = bench(data=f"vault://{place.mount}?conn_id=v&key=plain")

    with pytest.raises(ConfigurationError, match="derived=true"):
        here.run(lambda bound: pytest.fail("it ran"), writes=["out"])

    assert not (folder / "lake" / "out").exists()


def test_a_file_cannot_make_its_reader_ask_for_another_key(place, bench, folder):
    place.make("payroll")
    here = bench()
    here.run(lambda bound: bound["out"].write_text("rows"), writes=["out"])
    sealed = folder / "lake" / "out"
    name = f"{place.mount}/data".encode()
    # As long as the other, so that the header's lengths hold.
    place.make("dat2")
    sealed.write_bytes(sealed.read_bytes().replace(name, name[:-1] + b"2"))

    with place.asked() as asked, pytest.raises(PolicyError) as caught:
        here.run(lambda bound: None, reads=["out"])

    assert caught.value.why in ("key_missing", "key_not_allowed")
    assert [each for each in asked if "dat2" in each or "decrypt" in each] == []
