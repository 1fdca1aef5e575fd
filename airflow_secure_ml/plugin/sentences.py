"""Say in a sentence what an event tells: who set out to do what, and how it ended.

Pure. Every value comes through `wording`, which has made visible what would hide or reorder text;
the templates escape the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_secure_ml.plugin.wording import (
    ENDED,
    duration,
    fields,
    key_label,
    plain,
    reason,
    shortened,
    size,
    tail,
    visible,
)

# activity: (to do it, it was done)
VERBS = {
    "object.verify": ("verify", "verified"),
    "object.open": ("open", "opened"),
    "object.validate": ("validate", "validated"),
    "object.quarantine": ("quarantine rows of", "quarantined rows of"),
    "object.seal": ("seal", "sealed"),
    "object.sign": ("sign", "signed"),
    "object.publish": ("publish", "published"),
    "object.rewrap": ("rewrap", "rewrapped"),
    "dataset.shred": ("shred the data set", "shredded the data set"),
    "scratch.shred": ("shred scratch", "shredded scratch"),
    "lease.grant": ("lease", "leased"),
    "lease.renew": ("renew the lease of", "renewed the lease of"),
    "lease.revoke": ("revoke the lease of", "revoked the lease of"),
    "secret.read": ("read the secret", "read the secret"),
    "xcom.read": ("read an XCom", "read an XCom"),
    "xcom.write": ("write an XCom", "wrote an XCom"),
    "key.create": ("create the key", "created the key"),
    "key.rotate": ("rotate the key", "rotated the key"),
    "key.disable": ("disable the key", "disabled the key"),
    "key.destroy": ("destroy the key", "destroyed the key"),
    "key.protect": ("change the keyring's passphrase", "changed the keyring's passphrase"),
    "task.secure": ("secure the task", "finished the secured task"),
    "rule.decide": ("decide by rule", "decided by rule"),
    "trail.start": ("start the log", "started the log"),
    "trail.verify": ("check the whole log", "checked the whole log"),
    "trail.view": ("view who did it", "viewed who did it"),
    "trail.export": ("export from the log", "exported from the log"),
    "trail.prune": ("prune the log", "pruned the log"),
    "trail.hold": ("hold the log from pruning", "changed a hold on the log"),
    "trail.erase": ("erase a hidden value", "erased a hidden value"),
    "trail.key": ("change the log key", "changed the log key"),
    "trail.adopt": ("adopt the log", "adopted the log"),
    "coverage.check": ("check coverage", "checked coverage"),
    "alert.raise": ("raise an alert", "raised an alert"),
    "alert.acknowledge": ("acknowledge an alert", "acknowledged an alert"),
    "alert.close": ("close an alert", "closed an alert"),
    "review.assign": ("give a period to review", "gave somebody a period to review"),
    "review.note": ("write a note", "wrote a note in a review"),
    "review.sign": ("sign off a review", "signed off a review"),
}
# What events call the forms of an export.
FORMS = {
    "jsonl": "JSON Lines",
    "csv": "CSV",
    "asml-evidence/1": "an evidence pack",
    "asml-security-report/1": "a security report",
    "tlog-tiles": "tiles",
    "proof": "a proof",
    "tlog-proof": "a proof",
}


def thing(event: Mapping[str, Any]) -> str:
    """What an event is about, by its shortest name; empty if about nothing in particular."""
    obj, lease = fields(event, "object"), fields(event, "lease")
    if "name" in obj:
        return plain(obj["name"])
    if "uri" in obj:
        return tail(plain(obj["uri"]), keep=1)
    if "path" in lease:
        return plain(lease["path"])
    if str(event.get("act", "")).startswith("key."):
        return key_label(fields(event, "key"))
    return plain(fields(event, "rule").get("id", ""))


def sentence(event: Mapping[str, Any]) -> str:
    """The sentence that a person would say."""
    act = str(event.get("act", ""))
    special = _SPECIAL.get(act)
    said = special(event) if special else None
    return said or _generic(event, act)


def _generic(event: Mapping[str, Any], act: str) -> str:
    infinitive, past = VERBS.get(act, (visible(act), visible(act)))
    about = thing(event)
    object_part = f" {about}" if about else ""
    why = f": {reason(event['why'])}" if "why" in event else ""
    match event.get("result"):
        case None:
            return f"will {infinitive}{object_part}"
        case "ok":
            return f"{past}{object_part}{_details(event)}"
        case "refused":
            return f"refused to {infinitive}{object_part}{why}"
        case "failed":
            return f"failed to {infinitive}{object_part}{why}"
    return f"set out to {infinitive}{object_part}; how it ended is not known"


def _details(event: Mapping[str, Any]) -> str:
    obj, more, lease = fields(event, "object"), fields(event, "more"), fields(event, "lease")
    found = []
    if "ttl_s" in lease:
        found.append(duration(lease["ttl_s"]))
    if "rows" in obj:
        found.append(f"{plain(obj['rows'])} rows")
    if "bytes" in obj:
        found.append(size(obj["bytes"]))
    if "signer" in more:
        found.append(f"signed by {plain(more['signer'])}")
    if "checked" in more:
        found.append(f"{_count(more['checked'], 'check', 'checks')}")
    key = key_label(fields(event, "key"))
    if key and not str(event.get("act", "")).startswith("key."):
        found.append(f"key {key}")
    return "".join(f", {text}" for text in found)


def _validate(event: Mapping[str, Any]) -> str | None:
    more = fields(event, "more")
    if event.get("result") != "refused" or not more.get("failed"):
        return None
    names = f": {_names(more['failed_names'])}" if more.get("failed_names") else ""
    checks = f"{plain(more['failed'])} of {_count(more.get('checked', '?'), 'check', 'checks')}"
    return f"refused {thing(event)}, {checks} failed{names}"


def _names(value: object) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return plain(value)
    names = [
        plain(item.get("name", item.get("uri", "?")) if isinstance(item, Mapping) else item)
        for item in value
    ]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _count(value: object, one: str, many: str) -> str:
    return f"{plain(value)} {one if value == 1 else many}"


def _task_secure(event: Mapping[str, Any]) -> str | None:
    more = fields(event, "more")
    if event.get("phase") == "intent":
        parts = [
            f"{verb} {_names(more[name])}"
            for name, verb in (("reads", "read"), ("writes", "write"), ("leases", "lease"))
            if more.get(name)
        ]
        return "will " + "; ".join(parts) if parts else "will run secured"
    if event.get("result") == "ok":
        counts = [
            _count(more[name], one, many)
            for name, one, many in (
                ("reads", "read", "reads"),
                ("writes", "write", "writes"),
                ("leases", "lease", "leases"),
            )
            if more.get(name)
        ]
        return "finished" + (f": {', '.join(counts)}" if counts else "")
    if "why" in event:
        verb = "was refused" if event.get("result") == "refused" else "failed"
        return f"task {verb}: {reason(event['why'])}"
    return None


def _rule_decide(event: Mapping[str, Any]) -> str | None:
    rule = fields(event, "rule")
    if "decision" not in rule:
        return None
    said = "allowed" if rule["decision"] == "allow" else "denied"
    action = fields(event, "more").get("action")
    to_do = f" to {plain(action)}" if action else ""
    obj = fields(event, "object")
    about = f" {plain(obj.get('name', obj.get('uri')))}" if obj else ""
    why = f": {reason(event['why'])}" if "why" in event else ""
    return f"{said}{to_do}{about} by rule {tail(plain(rule.get('id', '?')))}{why}"


def _emitter_open(event: Mapping[str, Any]) -> str:
    more = fields(event, "more")
    program, host = more.get("program", "a process"), more.get("host", "?")
    return f"{plain(program)} began recording on {plain(host)}"


def _emitter_close(event: Mapping[str, Any]) -> str:
    events = fields(event, "more").get("events")
    return "ended recording" + (f" after {_count(events, 'event', 'events')}" if events else "")


def _task_start(event: Mapping[str, Any]) -> str:
    return "task began to run"


def _task_end(event: Mapping[str, Any]) -> str:
    return f"task ended: {plain(fields(event, 'more').get('state', event.get('result', '?')))}"


def _trail_emitter(event: Mapping[str, Any]) -> str:
    more = fields(event, "more")
    short = shortened(plain(more.get("emitter", "?")), keep=4)
    state = more.get("state")
    if state == "found":
        return f"found a recording {short} on {plain(more.get('host', '?'))}"
    if state == "whole":
        return f"took in recording {short}, whole, {plain(more.get('events', '?'))} events"
    return f"recording {short} ended {ENDED.get(str(state), plain(state))}"


def _trail_verify(event: Mapping[str, Any]) -> str | None:
    more = fields(event, "more")
    has_problem = "first_bad" in more or "because" in more
    if event.get("result") == "ok" and "size" in more and not has_problem:
        return f"checked the whole log: {plain(more['size'])} events, nothing changed"
    if "first_bad" in more:
        return f"found the log changed at event {plain(more['first_bad'])}"
    return None


def _trail_export(event: Mapping[str, Any]) -> str | None:
    more = fields(event, "more")
    if event.get("result") != "ok" or "events" not in more:
        return None
    form = plain(more.get("format", "?"))
    return f"exported {_count(more['events'], 'event', 'events')} as {FORMS.get(form, form)}"


def _run_event(event: Mapping[str, Any]) -> str:
    state = fields(event, "more").get("state")
    return "DAG run " + (
        "began" if event.get("act") == "run.start" else f"ended: {plain(state or '?')}"
    )


def _user_act(event: Mapping[str, Any]) -> str:
    more = fields(event, "more")
    # The function's name is the shortest that says both what and of what.
    action = plain(more.get("action", more.get("path", "something"))).replace("_", " ")
    about = f" {plain(more['resource'])}" if "resource" in more else ""
    again = more.get("count")
    often = f", {_count(again, 'time', 'times')} more" if again else ""
    said = {"ok": "in Airflow", "refused": "denied by Airflow", "failed": "in vain, in Airflow"}
    how = said.get(str(event.get("result")), "asked of Airflow")
    return f"{how}: {action}{about}{often}"


def _alert(event: Mapping[str, Any]) -> str | None:
    more = fields(event, "more")
    _, past = VERBS[str(event.get("act"))]
    # A check's reason is long, and its own subject says it all; a rule's is its title.
    title = plain(more["because"]) if "alert" in more and "because" in more else ""
    about = ", ".join(filter(None, [title, plain(more.get("subject", ""))]))
    again = " again" if more.get("part") else ""
    return f"{past}{again}: {about}" if about else None


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "task.secure": _task_secure,
    "task.start": _task_start,
    "task.end": _task_end,
    "object.validate": _validate,
    "rule.decide": _rule_decide,
    "emitter.open": _emitter_open,
    "emitter.close": _emitter_close,
    "emitter.loss": lambda event: "events were lost: they could not be recorded",
    "trail.emitter": _trail_emitter,
    "trail.verify": _trail_verify,
    "trail.export": _trail_export,
    "trail.beat": lambda event: "the sequencer is at work",
    "trail.refused": lambda event: "the sequencer refused an event",
    "run.start": _run_event,
    "run.end": _run_event,
    "dag.declare": lambda event: "DAG declared which tasks are secured",
    "user.act": _user_act,
    "alert.raise": _alert,
    "alert.acknowledge": _alert,
    "alert.close": _alert,
}
