"""The sensor against real keys: what it waits for, and what ends the wait."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_secure_ml.errors import ConfigurationError, PolicyError, ServiceUnavailableError
from airflow_secure_ml.sensors import KeyRotatedSensor
from airflow_secure_ml.triggers.key_rotated import KeyRotatedTrigger

RECORDED = [("task.secure", None, None), ("task.secure", "ok", None)]


def sensor(key="data", **options):
    return KeyRotatedSensor(task_id="wait", key=key, **options)


def trigger_of(deferred: TaskDeferred) -> KeyRotatedTrigger:
    """The trigger as the triggerer makes it, from what was stored."""
    path, kwargs = deferred.trigger.serialize()
    assert path == "airflow_secure_ml.triggers.key_rotated.KeyRotatedTrigger"
    return KeyRotatedTrigger(**json.loads(json.dumps(kwargs)))


def first_event(trigger, change):
    """Run a trigger until it fires; `change` happens after its first look."""

    async def run():
        events = trigger.run()
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await asyncio.to_thread(change)
        return await asyncio.wait_for(coming, 60)

    return asyncio.run(run())


def resumed(waiting, deferred, context, event):
    """What Airflow calls when the trigger has fired."""
    kwargs = json.loads(json.dumps(deferred.kwargs or {}))
    return getattr(waiting, deferred.method_name)(context, event=event.payload, **kwargs)


def test_a_version_that_is_there_already_is_not_waited_for(place, context):
    place.keyring.rotate("data")

    assert sensor(newer_than=1).execute(context) == {"key": "data", "version": 2}
    assert place.acts() == RECORDED


@pytest.mark.parametrize("newer_than", [None, 1, "1"], ids=["first-look", "number", "text"])
def test_a_version_that_is_not_there_is_waited_for_in_the_triggerer(place, context, newer_than):
    waiting = sensor(newer_than=newer_than, poke_interval=0.01)
    with pytest.raises(TaskDeferred) as caught:
        waiting.execute(context)
    assert place.acts() == []

    event = first_event(trigger_of(caught.value), lambda: place.keyring.rotate("data"))
    found = resumed(sensor(newer_than=newer_than), caught.value, context, event)

    assert event.payload == {"look": "again"}
    assert found == {"key": "data", "version": 2}
    assert place.acts() == RECORDED


def test_the_first_look_is_remembered_over_the_wait(place, context):
    with pytest.raises(TaskDeferred) as caught:
        sensor(poke_interval=0.01).execute(context)
    place.keyring.rotate("data")

    # The task wakes on another worker, where nothing is known but what was stored.
    assert sensor().execute_complete(context, {"look": "again"}, **caught.value.kwargs) == {
        "key": "data",
        "version": 2,
    }


def test_woken_without_a_new_version_it_goes_on_waiting(place, context):
    with pytest.raises(TaskDeferred) as caught:
        sensor(newer_than=5).execute_complete(context, {"look": "again"})

    assert trigger_of(caught.value).newer_than == 5
    assert place.acts() == []


def test_a_time_is_a_bound_too(place, context):
    now = datetime.now(UTC)
    earlier, later = now - timedelta(days=1), now + timedelta(days=1)

    assert sensor(newer_than=earlier).execute(context)["version"] == 1
    assert sensor(newer_than=earlier.isoformat()).execute(context)["version"] == 1
    with pytest.raises(TaskDeferred) as caught:
        sensor(newer_than=later).execute(context)
    assert trigger_of(caught.value).newer_than == later.isoformat()


def test_what_travels_to_the_trigger_is_a_name_and_a_number(place, context):
    with pytest.raises(TaskDeferred) as caught:
        sensor(poke_interval=7).execute(context)

    assert caught.value.trigger.serialize()[1] == {
        "key": "data",
        "newer_than": 1,
        "poke_interval": 7,
    }


def test_it_waits_on_a_worker_if_it_is_told_to(place, context):
    waiting = sensor(deferrable=False)

    assert [bool(waiting.poke(context)) for _ in range(3)] == [False] * 3
    place.keyring.rotate("data")

    assert waiting.poke(context).xcom_value == {"key": "data", "version": 2}


def test_a_new_version_that_is_disabled_is_waited_past(place, context):
    place.keyring.rotate("data")
    place.keyring.disable("data", 2)
    waiting = sensor(newer_than=1, deferrable=False)

    assert not waiting.poke(context)
    place.keyring.enable("data", 2)
    assert waiting.poke(context).xcom_value["version"] == 2


def test_looking_again_each_time_needs_a_bound():
    with pytest.raises(ConfigurationError, match="mode='reschedule'"):
        sensor(deferrable=False, mode="reschedule")

    assert sensor(deferrable=False, mode="reschedule", newer_than=1).newer_than == 1


@pytest.mark.parametrize(
    "newer_than",
    [-1, True, "", "soon", "2026-11-22T03:00:00", datetime(2026, 1, 1), 1.5, "9999999999"],
    ids=str,
)
def test_what_is_no_bound_is_refused_and_recorded(place, context, newer_than):
    with pytest.raises(ConfigurationError, match="newer_than") as caught:
        sensor(newer_than=newer_than).execute(context)

    assert isinstance(caught.value, AirflowFailException)
    assert place.acts()[-1] == ("task.secure", "refused", "misconfigured")


def test_a_missing_key_never_waits(place, context):
    with pytest.raises(PolicyError) as caught:
        sensor("nokey").execute(context)

    assert caught.value.why == "key_missing"
    assert place.acts()[-1] == ("task.secure", "refused", "key_missing")


def test_a_trigger_that_cannot_look_wakes_the_task_which_says_why(place, context):
    with pytest.raises(TaskDeferred) as caught:
        sensor(poke_interval=0.01).execute(context)

    event = first_event(trigger_of(caught.value), place.keyring.path.unlink)
    with pytest.raises(AirflowFailException, match="keys init"):
        resumed(sensor(), caught.value, context, event)


def test_a_key_system_that_does_not_answer_is_looked_at_again(place, context, monkeypatch):
    with pytest.raises(TaskDeferred) as caught:
        sensor(poke_interval=0.01).execute(context)
    keys, looks = place.deployment.keys, []
    whole = type(keys).versions

    def versions(self, name):
        looks.append(name)
        if len(looks) < 3:
            raise ServiceUnavailableError(service="vault", action="read", reason="sealed")
        return whole(self, name)

    monkeypatch.setattr(type(keys), "versions", versions)
    event = first_event(trigger_of(caught.value), lambda: place.keyring.rotate("data"))

    assert event.payload == {"look": "again"}
    assert len(looks) >= 3


@pytest.mark.vault
def test_a_rotation_in_vault_ends_the_wait_of_who_may_only_look(vault, place, context, monkeypatch):
    from tests.servers.transit_place import TransitPlace

    with TransitPlace(vault) as there:
        there.make("data")
        monkeypatch.setattr(place.deployment, "keys", there.keys("read keys/data"))
        waiting = sensor(poke_interval=0.01)
        with pytest.raises(TaskDeferred) as caught:
            waiting.execute(context)

        event = first_event(trigger_of(caught.value), lambda: there.rotate("data"))
        found = resumed(waiting, caught.value, context, event)

    assert found == {"key": "data", "version": 2}
