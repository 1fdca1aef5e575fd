"""Give a key a new version, and retire the old ones that nothing needs any more.

A version is retired only after two counts of everything found no use of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_secure_ml.core.ports import KeyRef, RotatingKeys
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.key_usage import KeyUsage
from airflow_secure_ml.services.rewrapping_below import Trail

ROTATE, RETIRE = "key.rotate", "key.disable"
_IN_USE = ("active", "retired")


def rotate_key(keys: RotatingKeys, name: str, trail: Trail) -> KeyRef:
    """Make a new version of a key, recorded; returns it.

    Raises:
        PolicyError: There is no such key.
        ServiceError: It was not made, or (ServiceUnavailableError) nobody knows.
    """
    key = _key(keys, name)
    intent = trail.intend(ROTATE, key=key)
    trail.settle()
    try:
        made = keys.rotate(name)
    except SecureMLError as error:
        trail.refused(ROTATE, error, of=intent, key=key)
        trail.settle()
        raise
    trail.did(ROTATE, of=intent, key=key_facts(made))
    trail.settle()
    return made


def retire_unused(
    keys: RotatingKeys, name: str, count: Callable[[], KeyUsage], trail: Trail
) -> tuple[KeyUsage, int | None]:
    """Retire the versions of a key below the oldest one in use, if the proof holds.

    First only the newest version may wrap, so that no new use of an old one begins while it is
    counted. An object that was being sealed with an old version all the while, and is published
    only now, can be opened again once whoever manages the key takes the step back.

    Args:
        keys: The key system.
        name: A key that wraps.
        count: Counts everything; called twice where versions are to be retired.
        trail: Takes the intent and the outcome.

    Returns:
        The last count, and the oldest version that is left; None: nothing was to be retired.

    Raises:
        PolicyError: Not proved (not_checkable), or no such key.
        SecureMLError: As `count` and the key system.
    """
    key = _key(keys, name)
    more: dict[str, Any] = {"state": "disabled", "because": "unused"}
    intent = trail.intend(RETIRE, key=key, more=more)
    trail.settle()
    try:
        usage, oldest, retired = _retired(keys, name, count)
    except SecureMLError as error:
        trail.refused(RETIRE, error, of=intent, key=key)
        trail.settle()
        raise
    more |= {"count": retired, "because": f"version {oldest} is the oldest in use"}
    trail.did(RETIRE, of=intent, key=key, more=more)
    trail.settle()
    return usage, oldest if retired else None


def _retired(
    keys: RotatingKeys, name: str, count: Callable[[], KeyUsage]
) -> tuple[KeyUsage, int, int]:
    """The count, the oldest version in use, and how many versions were retired."""
    keys.fence(name)
    usage = count()
    oldest = usage.oldest()
    if not _unused(keys, name, oldest):
        return usage, oldest, 0
    # What was published while the first count went on is seen by the second.
    usage = count()
    oldest = min(oldest, usage.oldest())
    unused = _unused(keys, name, oldest)
    if unused:
        keys.retire_below(name, oldest)
    return usage, oldest, unused


def _unused(keys: RotatingKeys, name: str, oldest: int) -> int:
    versions = keys.versions(name)
    return sum(each.number < oldest and each.state in _IN_USE for each in versions)


def _key(keys: RotatingKeys, name: str) -> dict[str, str]:
    """A key without a version, as events name it."""
    return {"system": keys.ref(name, 1).system, "name": name}
