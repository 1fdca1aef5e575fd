"""What is refused: each attack is planted here, and the task that meets it must not run.

Each of these tasks ends red in Airflow, is not retried, and stands in the audit trail with its
reason. The attacker has every right on the files and no key.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pendulum
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, dag, task

from airflow_secure_ml import Reads, Writes, secure

LAKE = os.environ.get("SECURE_ML_DEMO_DATA", "/opt/airflow/lake") + "/refusals"
TODAYS_MODEL = Asset("todays-model")
START = pendulum.datetime(2026, 1, 1)


@dag(schedule=None, start_date=START, tags=["refusals"])
def model_of_the_day():
    @secure(writes={"model": Writes(f"{LAKE}/model.json", asset=TODAYS_MODEL)})
    @task
    def publish(model: Path, run_id: str | None = None) -> None:
        model.write_text(f'{{"trained_in": "{run_id}"}}')

    publish()


model_of_the_day()


@dag(schedule=None, start_date=START, tags=["refusals"], default_args={"retries": 2})
def refusals():
    @task
    def start_anew() -> None:
        shutil.rmtree(LAKE, ignore_errors=True)

    @secure(writes={"record": f"{LAKE}/{{{{ args.patient }}}}.csv"})
    @task
    def admit(patient: str, record: Path) -> None:
        age = -7 if patient == "negative_age" else 54
        record.write_text(
            "zper,year,xage,mdvis\n" + "".join(f"{n},1,{age},3\n" for n in range(125024, 125224))
        )

    @task
    def attack() -> None:
        """Everything that somebody with the right to write here could do."""
        tampered = Path(f"{LAKE}/tampered.csv")
        sealed = bytearray(tampered.read_bytes())
        sealed[-100] ^= 1
        tampered.write_bytes(sealed)

        swap("neighbour.csv", "other_patient.csv")
        swap("yesterday.json", "model.json")
        Path(f"{LAKE}/plain.csv").write_text("zper,year,xage,mdvis\n125024,1,54,3\n")
        forge_signature(Path(f"{LAKE}/forged.csv"))

    @task
    def keep_a_copy() -> None:
        swap("model.json", "yesterday.json")

    @task
    def body(data: Path) -> None:
        raise AssertionError("a refused task never gets here")

    def refused(task_id: str, read: str | Asset | Reads):
        return secure(body.override(task_id=task_id), reads={"data": read})()

    patients = ["tampered", "neighbour", "other_patient", "negative_age", "plain", "forged"]
    yesterday = publish_model("yesterday")
    today = publish_model("today")
    planted = attack()
    empty = start_anew()
    empty >> yesterday >> keep_a_copy() >> today >> planted
    empty >> admit.expand(patient=patients) >> planted

    planted >> [
        refused("tampered", f"{LAKE}/tampered.csv"),
        refused("other_patients_file", f"{LAKE}/other_patient.csv"),
        refused("failed_expectations", Reads(f"{LAKE}/negative_age.csv", expect=plausible_ages)),
        refused("forged_signature", f"{LAKE}/forged.csv"),
        refused("older_model_replayed", TODAYS_MODEL),
        refused("plain_where_sealed_is_due", f"{LAKE}/plain.csv"),
        secure(  # the rule for this folder says which key seals here
            body.override(task_id="key_it_may_not_use"),
            writes={"data": Writes(f"{LAKE}/salaries.csv", key="payroll")},
        )(),
    ]


def publish_model(day: str) -> TriggerDagRunOperator:
    return TriggerDagRunOperator(
        task_id=f"publish_{day}",
        trigger_dag_id="model_of_the_day",
        wait_for_completion=True,
        poke_interval=2,
    )


def plausible_ages():
    """A suite as Python: called on the worker only."""
    import great_expectations as gx

    ages = gx.expectations.ExpectColumnValuesToBeBetween(column="xage", min_value=0, max_value=110)
    return gx.ExpectationSuite(name="plausible_ages", expectations=[ages])


def swap(source: str, target: str) -> None:
    """Put one file, with all signatures it has, under another's name."""
    shutil.copyfile(f"{LAKE}/{source}", f"{LAKE}/{target}")
    shutil.copytree(f"{LAKE}/{source}.sig", f"{LAKE}/{target}.sig", dirs_exist_ok=True)


def forge_signature(sealed: Path) -> None:
    """Change the file and sign it with a key of one's own, in the trusted signer's name."""
    import base64
    import hashlib
    import json

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    (statement,) = Path(f"{sealed}.sig").iterdir()
    envelope = json.loads(statement.read_bytes())
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    forged = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"mallory").digest()).sign(signed)
    envelope["signatures"][0]["sig"] = base64.b64encode(forged).decode()
    statement.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))


refusals()
