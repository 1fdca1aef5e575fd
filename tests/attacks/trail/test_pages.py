"""Somebody whose events, or whose edited log, an auditor's pages must still show."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest
from fastapi import HTTPException

from airflow_secure_ml.adapters.log_signer import LogSigner, init_log
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin import access, lanes, routes_run, views
from airflow_secure_ml.plugin.access import Scope, check_form, form_token
from airflow_secure_ml.plugin.lanes import lay_out
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.settings import parse_settings
from tests.services.audit.conftest import ALICE, chain

HUGE = 10**400
VALUES = [HUGE, -HUGE, 1e308, [], {}, {"h": [], "n": {}}, None, True, "\x1b\u202e<b>", [[{}]]]
FIELDS = [
    "emitter", "seq", "time", "mono", "act", "phase", "result", "why", "of", "run", "object",
    "key", "lease", "rule", "by", "more",
]  # fmt: skip
INNER = {
    "run": ["dag", "run", "task", "map", "try", "ti"],
    "object": ["name", "uri", "version", "digest", "bytes", "rows"],
    "key": ["system", "name", "version"],
    "lease": ["path", "id", "ttl_s"],
    "rule": ["id", "digest", "decision"],
    "more": ["state", "reads", "failed", "failed_names", "checked", "size", "emitter", "action"],
}
ACTS = [
    "object.open", "object.validate", "task.secure", "rule.decide", "trail.emitter",
    "trail.verify", "lease.grant", "lease.revoke", "key.create", "run.end", "emitter.open",
]  # fmt: skip


def _leaf(index, event):
    return Leaf(index=index, data=b"{}", hash=bytes(32), event=event)


def _base(act, number):
    event = {"act": act, "phase": "outcome", "result": "ok", "emitter": ALICE, "seq": number}
    inner = {field: dict.fromkeys(names, "x") for field, names in INNER.items()}
    return {**event, "time": 5, **inner}


def _hostile():
    for act in ACTS:
        for value in VALUES:
            for field in FIELDS:
                if field != "act":
                    yield {**_base(act, 1), field: value}
            for field, names in INNER.items():
                for name in names:
                    base = _base(act, 1)
                    yield {**base, field: {**base[field], name: value}}


def test_no_value_of_an_edited_log_keeps_a_page_from_being_shown():
    for event in _hostile():
        leaf = _leaf(7, event)
        shown = views.drawer(leaf, covered_size=9)
        assert shown.row.name
        said = [item.text for part in shown.sections for item in part.items]
        assert not any("\x1b" in text or "\u202e" in text for text in (*said, shown.row.sentence))


def test_no_value_of_an_edited_log_keeps_a_run_from_being_shown():
    for event in _hostile():
        other = {**_base("lease.revoke", 2), "run": event["run"]}
        assert lay_out([_leaf(7, event), _leaf(8, other)], ()) is not None


def test_a_try_with_many_leases_is_looked_through_once(monkeypatch):
    leaves, looks = [], []
    for number in range(300):
        event = _base("lease.grant", number)
        event["lease"] = {"id": f"sha256:{number}", "path": "p"}
        leaves.append(_leaf(number, event))
    fields = lanes.fields
    monkeypatch.setattr(
        lanes, "fields", lambda event, name: (looks.append(1), fields(event, name))[1]
    )

    view = lay_out(leaves, ())

    assert len(view.groups[0].lanes[0].bars) == 301
    assert len(looks) < 20 * len(leaves)


def test_a_query_that_looks_at_everything_is_broken_off(site):
    site.put(ALICE, 0, chain(ALICE, 2000))
    site.run()
    endless = SqliteAuditReader(site.database, query_s=0.0)

    with pytest.raises(ServiceUnavailableError, match="longer than"):
        endless.page(EventQuery(text="no event holds this"))
    with pytest.raises(ServiceUnavailableError, match="longer than"):
        endless.count(EventQuery(text="no event holds this"), at_most=10)
    # Verifying takes as long as it takes.
    with endless.whole() as log:
        assert sum(1 for _ in log.leaves()) > 2000


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(access.conf, "get_mandatory_value", lambda *names: "secret")
    return SimpleNamespace(headers={"sec-fetch-site": "same-origin"})


@pytest.mark.parametrize("token", ["", ".", "500.é", "٥٠٠.00", "500", "-1.00", "500." + "0" * 64])
def test_a_forged_token_is_refused(asked, token):
    with pytest.raises(HTTPException) as refused:
        check_form(asked, Scope(user="eve", dags=None), token, 500)

    assert refused.value.status_code == 403


@pytest.mark.parametrize("site_of_it", ["cross-site", "same-site", "Same-Origin", "x"])
def test_another_site_cannot_use_a_right_token(asked, site_of_it):
    token = form_token("eve", 500)
    check_form(asked, Scope(user="eve", dags=None), token, 500)
    asked.headers["sec-fetch-site"] = site_of_it

    with pytest.raises(HTTPException):
        check_form(asked, Scope(user="eve", dags=None), token, 500)


def test_a_token_is_one_users_and_of_its_hour(asked):
    token = form_token("eve", 500)
    for user, hour in (("eve2", 500), ("mallory", 500), ("eve", 513), ("eve", 499)):
        with pytest.raises(HTTPException):
            check_form(asked, Scope(user=user, dags=None), token, hour)


def test_keys_from_elsewhere_are_believed_and_others_are_not(site):
    site.put(ALICE, 0, chain(ALICE, 3))
    site.run()
    (site.signer_path / "log_keys").write_text("")
    given = {
        "key_system": "local:///nowhere",
        "audit_dir": str(site.path),
        "audit_signer_dir": str(site.signer_path),
    }
    line = site.signer.public.line()

    for text in (line, f"\n{line}\n", site.signer.public.vkey()):
        signed = Trail(parse_settings({**given, "audit_log_keys": text})).signed()
        assert (signed.size, signed.problem) == (site.reader().size(), "")

    retired = line.replace(" 0 -", " 0 2")
    signed = Trail(parse_settings({**given, "audit_log_keys": retired})).signed()
    assert signed.size == 0
    assert "no key known" in signed.problem


def test_a_checkpoint_of_another_log_that_is_trusted_too_is_not_this_ones(site, tmp_path):
    site.put(ALICE, 0, chain(ALICE, 3))
    site.run()
    reader = site.reader()
    with reader.whole() as whole:
        root = whole.edge().root()
    init_log(tmp_path / "other", "other.example")
    other = LogSigner(tmp_path / "other")
    note = other.sign(reader.size(), root, ())
    with sqlite3.connect(site.database) as database:
        database.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (note, reader.size()))
    keys = "\n".join(signer.public.line() for signer in (site.signer, other))
    given = {
        "key_system": "local:///nowhere",
        "audit_dir": str(site.path),
        "audit_signer_dir": str(site.signer_path),
        "audit_log_keys": keys,
    }

    signed = Trail(parse_settings(given)).signed()

    assert signed.size == 0
    assert f"of log {other.origin!r}, expected {site.origin!r}" in signed.problem


def test_large_events_do_not_fill_the_servers_memory(site, monkeypatch):
    run = {"dag": "d", "run": "r", "task": "t", "map": -1, "try": 1, "ti": "x"}
    site.put(ALICE, 0, chain(ALICE, 60, run=run, more={"x": ["ab"] * 1000}))
    site.run()
    monkeypatch.setattr(routes_run, "MAX_BYTES", 50_000)
    monkeypatch.setattr(routes_run, "PAGE_ROWS", 5)
    query = EventQuery(dag="d", run="r")

    found, is_cut = routes_run.newest_of(site.reader(), query)

    assert is_cut
    assert 10 <= len(found) <= 15
    assert [leaf.event["seq"] for leaf in found][-1] == 58
    assert site.reader().kinds(query, limit=1000) == [("object.open", "ok")] * 58
    monkeypatch.setattr(routes_run, "MAX_BYTES", 1 << 24)
    assert [len(routes_run.newest_of(site.reader(), query)[0])] == [58]
