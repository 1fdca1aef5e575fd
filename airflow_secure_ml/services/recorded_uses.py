"""Which uses of an outside key system each event of the trail stands for.

Pure. An act that succeeded needs its use there; one that failed, or may have been answered from
memory, only explains a use.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of, part

ACTS = ("object.", "lease.", "secret.", "xcom.", "key.", "dataset.", "task.secure")
SYSTEM = "vault"
# Where an event says neither how long it took nor what it followed.
_BEFORE_MS = 60_000
# A name is looked up below each team's place.
_PLACES = 4
_KEYED = {
    "object.seal": ("encrypt", 1),
    "object.quarantine": ("encrypt", 1),
    "object.open": ("decrypt", 1),
    "object.rewrap": ("rewrap", 1),
    "object.sign": ("sign", 1),
    "key.rotate": ("rotate", 1),
    # Both limits of a key are set, where there is something to retire.
    "key.disable": ("configure", 2),
}
# A DAG's key is opened once and kept; made, it is wrapped.
_KEPT = {"xcom.read": ("decrypt",), "xcom.write": ("encrypt", "decrypt")}
_LEASED = {"lease.grant": "grant", "lease.renew": "renew", "lease.revoke": "revoke"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUse:
    """What an event says was asked of the system.

    Attributes:
        event: Its name.
        act: Its activity.
        kind: As in `OutsideUse`.
        about: `mount/name` of a key, a lease's path, a secret's name; empty: it cannot be told.
        from_ms: The use was after this, by the recording host's clock.
        to_ms: And before this.
        needs: Whether there must be one.
        at_most: How many it may stand for.
        lease: `sha256:` of the lease's id; empty: none.
        version: The key's version; empty: not said.
        run: DAG, run and task, for people; empty: none.
    """

    event: str
    act: str
    kind: str
    about: str
    from_ms: int
    to_ms: int
    needs: bool
    at_most: int = 1
    lease: str = ""
    version: str = ""
    run: str = ""


def recorded_uses(
    events: Iterable[Mapping[str, Any]], key_at: Callable[[str], str | None], *, signer: str = ""
) -> Iterator[RecordedUse]:
    """The uses that events tell of.

    Args:
        events: Those of `ACTS`, oldest first.
        key_at: From our name of a key to its place in this system, `mount/name`; empty: it cannot
            be told; None: it lies elsewhere.
        signer: Our name of the key that signs what no event names the signer of.
    """
    times: dict[str, int] = {}
    for event in events:
        name, at_ms = name_of(event), _int(event, "time")
        if event.get("phase") == "intent" or event.get("act") == "lease.grant":
            times[name] = at_ms
        if event.get("phase") == "intent":
            continue
        took_ms = part(event, "more").get("ms")
        began_ms = times.get(str(event.get("of")), at_ms - _BEFORE_MS)
        if isinstance(took_ms, int) and "ms" in part(event, "more"):
            began_ms = at_ms - took_ms
        for kind, about, needs, at_most in _uses(event, key_at, signer):
            yield RecordedUse(
                event=name,
                act=str(event.get("act")),
                kind=kind,
                about=about,
                from_ms=min(began_ms, at_ms),
                to_ms=at_ms,
                needs=needs and event.get("result") == "ok",
                at_most=at_most,
                lease=_str(part(event, "lease"), "id"),
                version=_str(part(event, "key"), "version"),
                run=_run(event),
            )


def _uses(
    event: Mapping[str, Any], key_at: Callable[[str], str | None], signer: str
) -> Iterator[tuple[str, str, bool, int]]:
    act, key = str(event.get("act")), part(event, "key")
    if act in _LEASED:
        yield _LEASED[act], _str(part(event, "lease"), "path"), True, 1
    elif act == "secret.read":
        because = part(event, "more").get("because")
        if because != "cached":
            # What is absent may be known from before.
            yield "read", _str(part(event, "more"), "name"), because != "absent", _PLACES
    elif act == "dataset.shred":
        # Its certificate is signed; one that was left by a run before is not signed again.
        yield "sign", key_at(signer) or "", False, 1
    elif key.get("system") == SYSTEM and act in (*_KEYED, *_KEPT):
        about = key_at(_str(key, "name"))
        if about is None:
            return
        if act in _KEYED:
            kind, at_most = _KEYED[act]
            yield kind, about, True, at_most
        for kind in _KEPT.get(act, ()):
            yield kind, about, False, 1


def _run(event: Mapping[str, Any]) -> str:
    run = part(event, "run")
    return " ".join(_str(run, name) for name in ("dag", "run", "task") if _str(run, name))


def _str(facts: Mapping[str, Any], part: str) -> str:
    # A hidden value is an object.
    found = facts.get(part)
    return found if isinstance(found, str) else ""


def _int(event: Mapping[str, Any], part: str) -> int:
    found = event.get(part)
    return found if isinstance(found, int) else 0
