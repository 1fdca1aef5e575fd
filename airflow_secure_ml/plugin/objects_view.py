"""Tell of an object: its versions, and who opened it by which leave.

Pure but for the look-up of rules. Every text may hold what a task wrote; `visible` has made it
harmless for the eye, templates escape the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.event_fields import name_of, number, text
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.plugin.addresses import run_href
from airflow_secure_ml.plugin.lineage_view import short_digest
from airflow_secure_ml.plugin.rendering import href
from airflow_secure_ml.plugin.sentences import sentence
from airflow_secure_ml.plugin.views import Row, When, unplaced, when
from airflow_secure_ml.plugin.wording import (
    fields,
    key_label,
    plain,
    size,
    tail,
    visible,
    where,
)
from airflow_secure_ml.services.works import version_of, work_in

LIFE = (
    *("object.publish", "object.seal", "object.sign", "object.quarantine"),
    *("object.rewrap", "dataset.shred"),
)
# Decisions of one try that are looked through for those about an object.
_DECISIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Somebody opened an object, or was refused.

    Attributes:
        row: The event.
        said: What happened, without what the other columns say.
        rule: The rule that decided, and how; empty: none was asked.
        key: What opened it, such as `data/3`.
        signer: Whose signature was believed.
        run_href: Its run's page.
    """

    row: Row
    said: str
    rule: str
    key: str
    signer: str
    run_href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """Bytes that lay at the address.

    Attributes:
        digest: In full; empty: not told.
        shown: The same for the eye.
        written: When it was published, with the event; None: not within what is looked at.
        by: Who did.
    """

    digest: str
    shown: str
    href: str
    lineage_href: str
    written: When | None
    event_href: str
    by: str
    size: str
    rows: str
    key: str
    signer: str
    is_chosen: bool


def accesses(
    leaves: Sequence[Leaf], store: AuditStore, dags: tuple[str, ...] | None
) -> list[Access]:
    """What was opened or refused, the newest first.

    A verify that succeeded is left out where the same try opened the object: it is the same access.
    """
    opened = {_try(leaf.event) for leaf in leaves if leaf.event.get("act") == "object.open"}
    decisions: dict[str, Sequence[Leaf]] = {}
    found = []
    for leaf in leaves:
        event = leaf.event
        is_ok = event.get("result") == "ok"
        if event.get("act") == "object.verify" and is_ok and _try(event) in opened:
            continue
        run, more = fields(event, "run"), fields(event, "more")
        ti = text(run.get("ti"))
        if ti and ti not in decisions:
            query = EventQuery(dags=dags, ti=ti, acts=("rule.decide",))
            decisions[ti] = store.page(query, limit=_DECISIONS)
        found.append(
            Access(
                row=unplaced(leaf),
                said=_said(event),
                rule=rule_of(event, [each.event for each in decisions.get(ti, ())]),
                key=key_label(fields(event, "key")),
                signer=plain(more.get("signer", "")) or _listed(more.get("signers")),
                run_href=run_href(text(run.get("dag")), text(run.get("run"))),
            )
        )
    return found


def rule_of(event: Mapping[str, Any], decisions: Iterable[Mapping[str, Any]]) -> str:
    """Which rule let a try at an object, in words; empty: none speaks of it."""
    uri = text(fields(event, "object").get("uri"))
    for decision in decisions:
        rule, more = fields(decision, "rule"), fields(decision, "more")
        about = text(fields(decision, "object").get("uri"))
        prefix = text(more.get("prefix"))
        if more.get("action") not in (None, "read") or not uri:
            continue
        if about == uri or (not about and prefix and uri.startswith(prefix)):
            said = "denied" if rule.get("decision") == "deny" else "allowed"
            return f"{said} by {tail(plain(rule.get('id', '?')))}"
    return ""


def versions(leaves: Iterable[Leaf], uri: str, chosen: str) -> list[VersionRow]:
    """The versions of an address, the newest first.

    Args:
        leaves: Events about the address, the newest first.
        uri: The address.
        chosen: The digest that the page is about.
    """
    by_digest: dict[str, list[Mapping[str, Any]]] = {}
    for leaf in leaves:
        version = version_of(leaf.event)
        if version is not None and version.digest and leaf.event.get("result") == "ok":
            by_digest.setdefault(version.digest, []).append(leaf.event)
    return [_version(uri, digest, events, chosen) for digest, events in by_digest.items()]


def _version(uri: str, digest: str, events: Sequence[Mapping[str, Any]], chosen: str) -> VersionRow:
    by_act = {str(event.get("act")): event for event in reversed(events)}
    published = by_act.get("object.publish") or by_act.get("object.quarantine")
    sealed = by_act.get("object.seal") or by_act.get("object.open") or {}
    signed = by_act.get("object.sign") or {}
    objects = [fields(event, "object") for event in events]
    return VersionRow(
        digest=visible(digest),
        shown=short_digest(digest),
        href=href("object", uri=uri, digest=digest),
        lineage_href=href("lineage", uri=uri, digest=digest),
        written=None if published is None else when(published.get("time")),
        event_href="" if published is None else href("event", name=name_of(published)),
        by="" if published is None else where(published) or "outside of a task",
        size=next((size(obj["bytes"]) for obj in objects if "bytes" in obj), ""),
        rows=next((plain(obj["rows"]) for obj in objects if "rows" in obj), ""),
        key=key_label(fields(published or {}, "key")) or key_label(fields(sealed, "key")),
        signer=key_label(fields(signed, "key"))
        or plain(fields(published or {}, "more").get("signer", "")),
        is_chosen=digest == chosen,
    )


def _said(event: Mapping[str, Any]) -> str:
    verbs = {"object.open": "opened", "object.verify": "verified"}
    verb = verbs.get(str(event.get("act")))
    obj = fields(event, "object")
    if event.get("result") != "ok" or verb is None:
        return sentence(event)
    return f"{verb}, {size(obj['bytes'])}" if "bytes" in obj else verb


def _try(event: Mapping[str, Any]) -> tuple[str, int]:
    work = work_in(event)
    return work.key, number(fields(event, "run").get("try"))


def _listed(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(one) for one in value[:3])
    return ""
