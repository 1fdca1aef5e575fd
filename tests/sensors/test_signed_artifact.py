"""The sensor against real keys and files: what it waits for, and what ends the wait."""

from __future__ import annotations

import asyncio
import os

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_secure_ml.errors import ManifestMismatchError, PolicyError
from airflow_secure_ml.sensors import SignedArtifactSensor
from airflow_secure_ml.services import manifests
from airflow_secure_ml.triggers.signed_artifact import SignedArtifactTrigger

VERIFIED = [
    ("task.secure", None, None),
    ("object.verify", "ok", None),
    ("task.secure", "ok", None),
]


def sensor(address, **options):
    return SignedArtifactSensor(task_id="wait", artifact=address, **options)


def trigger_of(deferred: TaskDeferred) -> SignedArtifactTrigger:
    """The trigger as the triggerer makes it, from what was stored."""
    path, kwargs = deferred.trigger.serialize()
    assert path == "airflow_secure_ml.triggers.signed_artifact.SignedArtifactTrigger"
    return SignedArtifactTrigger(**kwargs)


def first_event(trigger, change=None):
    """Run a trigger until it fires; `change` happens after its first look."""

    async def run():
        events = trigger.run()
        coming = asyncio.ensure_future(anext(events))
        if change is not None:
            await asyncio.sleep(0)
            await asyncio.to_thread(change)
        return await asyncio.wait_for(coming, 60)

    return asyncio.run(run())


def test_what_is_signed_already_is_verified_without_waiting(place, context):
    address = place.write(b"weights")
    place.sign(address)

    reference = sensor(address).execute(context)

    assert reference["uri"] == f"file://{address}"
    assert reference["signed_by"] == ["pipeline"]
    assert place.acts() == VERIFIED


def test_what_is_not_there_is_waited_for(place, context):
    address = str(place.folder / "model.bin")
    with pytest.raises(TaskDeferred) as caught:
        sensor(address, poke_interval=0.01).execute(context)

    def arrive():
        place.write(b"weights")
        place.sign(address)

    event = first_event(trigger_of(caught.value), arrive)
    reference = sensor(address).execute_complete(context, event.payload)

    assert event.payload == {"look": "again"}
    assert reference["signed_by"] == ["pipeline"]
    assert place.acts() == VERIFIED


def test_what_nobody_signed_is_waited_for_and_read_once(place, context, monkeypatch):
    address = place.write(b"weights")
    readings = []
    whole = manifests._digest
    monkeypatch.setattr(manifests, "_digest", lambda *args: (readings.append(1), whole(*args))[1])
    waiting = sensor(address, deferrable=False)

    assert [bool(waiting.poke(context)) for _ in range(5)] == [False] * 5
    assert len(readings) == 1

    place.sign(address)
    assert waiting.poke(context).xcom_value["signed_by"] == ["pipeline"]


def test_a_strangers_signature_is_waited_past(place, context):
    address = place.write(b"weights")
    place.sign(address, "stranger")

    with pytest.raises(TaskDeferred):
        sensor(address).execute(context)

    assert sensor(address, signed_by="stranger").execute(context)["signed_by"] == ["stranger"]


def test_altered_bytes_fail_at_once_and_are_not_retried(place, context):
    address = place.write(b"weights")
    place.sign(address)
    place.write(b"weighty")

    with pytest.raises(ManifestMismatchError) as caught:
        sensor(address).execute(context)

    assert isinstance(caught.value, AirflowFailException)
    assert place.acts() == [
        ("task.secure", None, None),
        ("object.verify", "refused", "digest_differs"),
        ("task.secure", "refused", "digest_differs"),
    ]


def test_a_broken_statement_wakes_the_task_which_refuses(place, context):
    address = str(place.folder / "model.bin")
    with pytest.raises(TaskDeferred) as caught:
        sensor(address, poke_interval=0.01).execute(context)
    assert place.acts() == []

    def arrive_altered():
        place.write(b"weights")
        place.sign(address)
        place.write(b"other!!")

    first_event(trigger_of(caught.value), arrive_altered)
    place.write(b"other!!")
    with pytest.raises(ManifestMismatchError):
        sensor(address).execute_complete(context, {"look": "again"})


def test_a_digest_pinned_by_hand_must_be_the_one_that_is_there(place, context):
    address = place.write(b"weights")
    place.sign(address)
    pinned = {"uri": address, "digest": "sha256:" + "0" * 64}

    with pytest.raises(AirflowFailException):
        sensor(pinned).execute(context)

    assert place.acts()[1] == ("object.verify", "refused", "digest_differs")


def test_an_unknown_signer_never_waits(place, context):
    address = place.write(b"weights")

    with pytest.raises(PolicyError) as caught:
        sensor(address, signed_by="nobody").execute(context)

    assert caught.value.why == "key_missing"


def test_a_file_that_still_grows_is_waited_for(place, context, monkeypatch):
    address = place.write(b"weights")
    waiting = sensor(address, deferrable=False)
    whole = manifests._digest

    def written_meanwhile(pinned, *args):
        with open(address, "ab") as file:
            file.write(b"more")
        os.utime(address, ns=(1, 1))
        return whole(pinned, *args)

    monkeypatch.setattr(manifests, "_digest", written_meanwhile)

    assert not waiting.poke(context)


def test_gone_again_before_the_task_woke_is_waited_for_again(place, context):
    with pytest.raises(TaskDeferred):
        sensor(str(place.folder / "model.bin")).execute_complete(context, {"look": "again"})

    assert place.acts() == []


def test_the_pin_of_a_reference_travels_to_the_trigger(place, context):
    address = str(place.folder / "later.bin")
    digest = "sha256:" + "1" * 64
    reference = {"secure_ml": 1, "name": "m", "uri": address, "digest": digest}

    with pytest.raises(TaskDeferred) as caught:
        sensor(reference).execute(context)

    assert trigger_of(caught.value).pin == {
        "digest": digest,
        "by": "reference",
        "dag_id": "waiter",
        "run_id": "r1",
    }


def test_a_trigger_that_cannot_look_wakes_the_task_which_says_why(place, context):
    address = str(place.folder / "model.bin")
    with pytest.raises(TaskDeferred) as caught:
        sensor(address, signed_by="stranger").execute(context)
    place.keyring.destroy("stranger")
    place.keyring.path.unlink()

    event = first_event(trigger_of(caught.value))
    with pytest.raises(AirflowFailException, match="keys init"):
        sensor(address, signed_by="stranger").execute_complete(context, event.payload)


def test_a_key_that_is_trusted_later_ends_the_wait(place, context):
    address = place.write(b"weights")
    place.keyring.create("partner", "sign")
    waiting = sensor(address, signed_by="partner", deferrable=False)

    assert not waiting.poke(context)
    place.sign(address, "partner")
    place.keyring.rotate("partner")

    assert waiting.poke(context).xcom_value["signed_by"] == ["partner"]
