"""A deployment over real files: a local keyring and a local store in a temporary folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.deployment import Deployment, use_deployment
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.services.run_plan import Input, Plan
from airflow_secure_ml.services.vouching import manifest_to_vouch, vouch
from airflow_secure_ml.services.watching import Silence
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.ports import MemoryAudit


class Place:
    """A folder with a keyring, and hands that sign in it."""

    def __init__(self, folder):
        self.folder = folder
        self.keyring = LocalKeyring(folder / "keys" / "keyring.json")
        self.keyring.init()
        self.keyring.create("stranger", "sign")
        self.audit = MemoryAudit()
        self.deployment = Deployment(
            parse_settings(
                {
                    "key_system": f"local://{folder}/keys/keyring.json",
                    "audit_dir": str(folder / "audit"),
                    "audit_signer_dir": str(folder / "signer"),
                }
            )
        )

    def write(self, data: bytes, name: str = "model.bin") -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def sign(self, address: str, key: str = "pipeline") -> None:
        here = self.deployment
        item = Input(name="artifact", uri=here.canonical(address), sealed=False)
        work = here.work(
            Plan(inputs=(item,), dag_id="maker", task_id="make", run_id="r0"),
            sink=Silence(),
            run=None,
            still_ours=lambda: None,
            tell=lambda line: None,
        )
        vouch(work, item, manifest_to_vouch(work, item), key)

    def acts(self) -> list[tuple[str, str | None, str | None]]:
        return [(fact.act, fact.result, fact.why) for fact in self.audit.facts]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    use_deployment(made.deployment)
    use_sink(made.audit)
    yield made
    use_sink(None)
    use_deployment(None)


@pytest.fixture
def context():
    ti = SimpleNamespace(
        dag_id="waiter",
        run_id="r1",
        task_id="wait",
        map_index=-1,
        try_number=1,
        id="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
    )
    return {"ti": ti, "task": object()}
