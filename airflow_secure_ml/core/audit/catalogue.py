"""The activities that an event may name, and which facts each may carry under `more`.

The sets bind writers: readers keep and show what they do not know. A word is added, never
redefined, since events are forever.

Source: AUDIT_TRAIL, Event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PHASES = frozenset({"intent", "outcome", "seen"})
RESULTS = frozenset({"ok", "refused", "failed", "unknown"})
WHYS = frozenset(
    [
        "digest_differs",
        "context_differs",
        "not_sealed",
        "not_signed",
        "signature_invalid",
        "signer_not_accepted",
        "key_missing",
        "key_disabled",
        "key_destroyed",
        "key_not_allowed",
        "rule_denied",
        "expectation_failed",
        "not_checkable",
        "output_missing",
        "output_unexpected",
        "output_outside",
        "address_taken",
        "try_replaced",
        "lease_refused",
        "store_refused",
        "service_unavailable",
        "guardian_unavailable",
        "audit_unavailable",
        "task_raised",
        "timed_out",
        "misconfigured",
        "bug",
        "access_denied",
        "request_invalid",
        "broken_off",
    ]
)

# Facts as `name:kind`; without a kind it is text. `list` holds texts or objects of texts.
_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "int": (int,),
    "flag": (bool,),
    "list": (list, tuple),
}
# An outcome may say how long it took, and which other event it rests on.
_EVERY_OUTCOME = "ms:int rests_on"

_OBJECT = "signer signers:list expected found pinned_by purpose stream:flag statement because"
_KEY = "purpose state from_state keyring public count:int because"
_LEASE = "because connection expires:int renewals:int"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One activity.

    Attributes:
        about: What happened, in a few words.
        facts: By phase, the facts that `more` may hold, each with the types it may have.
    """

    about: str
    facts: Mapping[str, Mapping[str, tuple[type, ...]]]


def _facts(text: str) -> dict[str, tuple[type, ...]]:
    named = (word.partition(":") for word in text.split())
    return {name: _KINDS[kind or "text"] for name, _, kind in named}


def _act(about: str, **phases: str) -> Activity:
    if "outcome" in phases:
        phases["outcome"] += " " + _EVERY_OUTCOME
    return Activity(about=about, facts={phase: _facts(text) for phase, text in phases.items()})


def _both(about: str, facts: str, outcome: str = "") -> Activity:
    return _act(about, intent=facts, outcome=f"{facts} {outcome}")


ACTIVITIES: Mapping[str, Activity] = {
    "emitter.open": _act(
        "a process begins to record",
        seen="airflow boot host parent pid:int program uid:int version",
    ),
    "emitter.close": _act("a process has recorded all it had", seen="events:int"),
    "emitter.loss": _act(
        "the spool could not be written for a while, and the work went on",
        seen="events:int points:int since:int because",
    ),
    "task.start": _act("Airflow started a task", seen="by operator queue state"),
    "task.secure": _act(
        "a secured task, from its first look at its inputs to its end",
        intent="reads:list writes:list leases:list operator expects:list scratch",
        outcome="reads:int writes:int leases:int step because",
    ),
    "task.end": _act("Airflow saw a task end", seen="by operator state because"),
    "rule.decide": _act(
        "a rule allowed or denied something",
        seen="action prefix because signers:list",
        outcome="action prefix because signers:list",
    ),
    "object.verify": _both(
        "a signature and a digest are checked", _OBJECT, "suites:list remembered:int"
    ),
    "object.open": _both("a sealed object is opened", _OBJECT),
    "object.validate": _both(
        "data are held against expectations",
        "suite suite_digest",
        "because checked:int failed:int failed_names:list warned:int report trusted:flag",
    ),
    "object.quarantine": _both("rows that fail are sealed aside", "from_uri rows:int", "because"),
    "object.seal": _both("an object is sealed", "suite core_id purpose", "because payload"),
    "object.sign": _both(
        "a statement about an object is signed",
        "statement signer purpose",
        "because core_id payload suites:list",
    ),
    "object.publish": _both(
        "an object appears at its address",
        "statement signer replace:flag replaced",
        "because",
    ),
    "object.rewrap": _both(
        "a sealed object's slots are written anew", "from_keys:list to_keys:list", "because"
    ),
    "dataset.shred": _both(
        "the key of a sealed directory is destroyed, so that nothing opens it any more",
        "reason core_id keys:list objects:int bytes:int",
        "because copies:int certificate",
    ),
    "scratch.shred": _act(
        "plaintext in scratch is removed",
        intent="path",
        outcome="path files:int because",
        seen="path files:int because",
    ),
    "lease.grant": _both("a credential is leased", _LEASE),
    "lease.renew": _both("a lease is prolonged", _LEASE),
    "lease.revoke": _both("a lease is ended", _LEASE),
    "secret.read": _both("a secret is looked up", "name kind", "because"),
    "xcom.read": _both("an XCom value is read", "name task map:int", "because"),
    "xcom.write": _both("an XCom value is written", "name", "because"),
    "key.create": _both("a key, or a public key to trust, is added", _KEY),
    "key.rotate": _both("a key gets a new version", _KEY),
    "key.disable": _both("a version of a key changes state, and may come back", _KEY),
    "key.destroy": _both("a version of a key is destroyed", _KEY),
    "key.protect": _both("a keyring is put under a passphrase, or out of it", _KEY),
    "trail.start": _act(
        "a log begins",
        seen="format:int origin forerunner forerunner_size:int forerunner_root",
    ),
    "trail.emitter": _act(
        "the sequencer found an emitter, or its end",
        seen=(
            "emitter host owner_uid:int pid:int uid:int via login state events:int last "
            "torn_bytes:int because"
        ),
    ),
    "trail.refused": _act(
        "bytes in a spool did not become a leaf",
        seen="emitter seq:int file at:int bytes:int hash because kept:flag",
    ),
    "trail.beat": _act(
        "the sequencer is alive", seen="size:int emitters:int waiting:int waiting_bytes:int"
    ),
    "trail.key": _act(
        "the log's signing key changes", seen="vkey second from_size:int to_size:int"
    ),
    "trail.adopt": _act(
        "the signer is told to go on from what it finds", seen="size:int root because"
    ),
    "trail.verify": _act(
        "the log is derived anew",
        intent="size:int",
        outcome="size:int root first_bad:int because",
        seen="size:int root first_bad:int because",
    ),
    "trail.view": _act("someone looks at the trail", seen="page path query"),
    "trail.export": _both(
        "events leave the trail", "format query values:flag", "events:int digest because"
    ),
    "trail.prune": _both("old leaves' bytes are removed", "below:int archive because"),
    "trail.hold": _act(
        "leaves from an index on are kept from pruning, or no longer",
        seen="name state from_index:int because",
    ),
    "trail.erase": _both("values behind hidden values are removed", "count:int", "because"),
    "dag.declare": _act(
        "a DAG file says which tasks are secured",
        seen="tasks:int secured:list version file",
    ),
    "run.start": _act("a DAG run began", seen="by state type"),
    "run.end": _act("a DAG run ended", seen="by state type"),
    "user.act": _act(
        "someone does something in Airflow",
        seen=(
            "action method path resource status:int state log_id:int at:int dag_run_id:int "
            "count:int peer"
        ),
    ),
    "coverage.check": _act(
        "Airflow's tries, or a key system's own log, are held against the trail",
        seen=(
            "from_ms:int until_ms:int recorded:int cut:int silent:int unsecured:int unknown:int "
            "ti_digest source not_started:int open:int "
            "emitters_cut:int emitters_gap:int emitters_torn:int "
            "since_ms:int to_ms:int matched:int unrecorded:int unasked:int"
        ),
    ),
    "alert.raise": _act(
        "something needs a person",
        seen=(
            "about subject because tis:list emitters:list uses:list "
            "alert part:int level events:list count:int from_ms:int until_ms:int"
        ),
    ),
    "alert.acknowledge": _act(
        "a person has seen an alert and says why it stays", seen="about subject alert note"
    ),
    "alert.close": _act(
        "an alert is over", seen="about subject because tis:list emitters:list alert note"
    ),
    "review.assign": _act(
        "somebody is to review a period", seen="from_ms:int until_ms:int assignee note"
    ),
    "review.note": _act("a reviewer writes a note on an event", seen="review note"),
    "review.sign": _act(
        "a reviewer signs a period off, over the checkpoint that covers it",
        seen="from_ms:int until_ms:int size:int root signer note",
    ),
}


def fits(value: Any, types: tuple[type, ...]) -> bool:
    """Tell whether a fact has one of its types; a flag is no integer."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def as_table() -> str:
    """Render the catalogue as the Markdown table of `docs/audit-events.md`."""
    names = {types: kind for kind, types in _KINDS.items()}
    lines = ["| activity | phase | facts in `more` | what happened |", "|---|---|---|---|"]
    for name, activity in ACTIVITIES.items():
        about = activity.about
        for phase in sorted(activity.facts):
            facts = sorted(activity.facts[phase].items())
            listed = ", ".join(
                fact if types == (str,) else f"{fact} ({names[types]})" for fact, types in facts
            )
            lines.append(f"| `{name}` | {phase} | {listed} | {about} |")
            name, about = "", ""
    return "\n".join(lines).replace("| `` |", "| |") + "\n"
