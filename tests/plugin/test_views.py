"""Rows and drawers over events that tasks, or someone with the store's file, made to deceive."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.plugin import views
from airflow_secure_ml.plugin.rendering import fragment
from airflow_secure_ml.plugin.sentences import sentence
from airflow_secure_ml.plugin.wording import plain, shortened, size, visible

OPENED = json.loads(
    '{"act":"object.open","emitter":"00112233445566778899aabbccddeeff","key":{"name":"data",'
    '"system":"local","version":"3"},"mono":61,"more":{"signer":"pipeline/3"},"object":{"bytes":'
    '12582912,"digest":"sha256:abababababababababababababababababababababababababababababababab",'
    '"name":"table","uri":"s3://lake/customers.csv"},"of":"00112233445566778899aabbccddeeff:1",'
    '"phase":"outcome","prev":"94a10299709777b2ae388a906906a9f0fb058e4227d8567cbebce95d46a1bdb2",'
    '"result":"ok","run":{"dag":"churn","map":-1,"run":"manual__2026-11-22T03:00:00+00:00","task":'
    '"train","ti":"019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b","try":1},"seq":2,"time":1795316400061,'
    '"v":1}'
)
REFUSED = OPENED | {"result": "refused", "why": "digest_differs"}
INTENT = {key: OPENED[key] for key in OPENED.keys() - {"result", "of"}} | {"phase": "intent"}


def leaf(event, index=4):
    data = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Leaf(index=index, data=data, hash=b"\x11" * 32, event=event)


def drawer_html(event, **values):
    given = {
        "drawer": views.drawer(leaf(event), covered_size=0),
        "neighbours": [],
        "proof": None,
        "token": "t",
        "revealed": "",
        "close_href": "events",
        "scope_whole": True,
        "narrow": lambda *pairs: "events?q=x",
        "about": lambda finds: ("", ""),
        "exclude": lambda field, value: "events?q=-x",
        "row_href": lambda name: "events?event=x",
    }
    return fragment("_drawer", **(given | values))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (OPENED, "opened table, 12.6 MB, signed by pipeline/3, key data/3"),
        (REFUSED, "refused to open table: digest differs"),
        (INTENT, "will open table"),
        (OPENED | {"result": "unknown"}, "set out to open table; how it ended is not known"),
        (
            {"act": "lease.grant", "result": "ok", "phase": "outcome",
             "lease": {"path": "database/creds/reader", "ttl_s": 900}},
            "leased database/creds/reader, 15 min",
        ),
        (
            {"act": "task.secure", "phase": "intent",
             "more": {"reads": [{"name": "table"}], "writes": [{"name": "model"}]}},
            "will read table; write model",
        ),
        (
            {"act": "trail.emitter", "phase": "seen", "result": "ok",
             "more": {"emitter": "00112233445566778899aabbccddeeff", "state": "cut"}},
            "recording 0011…eeff ended without saying so",
        ),
        (
            {"act": "rule.decide", "phase": "outcome", "result": "refused",
             "why": "key_not_allowed", "more": {"action": "read"},
             "rule": {"id": "data:file:///srv/lake/health", "decision": "deny"}},
            "denied to read by rule …/lake/health: key may not be used here",
        ),
        (
            {"act": "object.seal", "phase": "intent", "object": {"uri": "file:///srv/a/t.csv"}},
            "will seal …/t.csv",
        ),
        ({"act": "made.up", "phase": "seen", "result": "ok"}, "made.up"),
        (
            {"act": "user.act", "phase": "seen", "result": "ok",
             "more": {"action": "get_xcom_entry", "resource": "auc", "count": 12}},
            "in Airflow: get xcom entry auc, 12 times more",
        ),
        (
            {"act": "user.act", "phase": "seen", "result": "refused", "why": "access_denied",
             "more": {"action": "get_connection", "resource": "lake\u202e"}},
            "denied by Airflow: get connection lake\\u202e",
        ),
        ({"act": "user.act", "phase": "seen"}, "asked of Airflow: something"),
    ],
    ids=[
        "opened", "refused", "intent", "unknown", "lease", "task", "cut", "rule", "address",
        "unknown activity", "read", "denied", "nothing known",
    ],
)  # fmt: skip
def test_a_row_reads_as_a_sentence(event, said):
    assert sentence(event) == said


@pytest.mark.parametrize(
    ("event", "word", "tone"),
    [
        (OPENED, "allowed", "plain"),
        (REFUSED, "refused", "bad"),
        (INTENT, "intent", "quiet"),
        (OPENED | {"result": "unknown"}, "outcome unknown", "look"),
        ({"act": "emitter.loss", "phase": "seen", "result": "failed"}, "look at this", "look"),
    ],
    ids=["allowed", "refused", "intent", "unknown", "loss"],
)
def test_colour_never_stands_alone(event, word, tone):
    mark = views.mark(event)

    assert (mark.word, mark.tone) == (word, tone)
    assert mark.icon


def test_a_row_tells_time_place_and_proof():
    row = views.row(leaf(OPENED), covered_size=10)

    assert (row.when.day, row.when.clock) == ("2026-11-22", "03:00:00.061")
    assert (row.dag, row.task, row.attempt) == ("churn", "train", "try 1")
    assert (row.number, row.covered) == ("4", True)


def test_a_reader_of_some_dags_never_learns_a_place_in_the_whole_log():
    row = views.row(leaf(OPENED, index=48_120), covered_size=50_000, numbered=False)

    assert "48" not in row.number + row.name


@pytest.mark.parametrize(
    "char",
    ["\u202e", "\u2066", "\u200b", "\x1b", "\x00", "\n", "\u2028", "\ufeff", "\U000e0041"],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_what_would_hide_or_reorder_text_is_shown_as_an_escape(char):
    shown = visible(f"safe{char}fdp.exe")

    assert char not in shown
    assert "\\u" in shown


@given(st.text())
def test_nothing_invisible_is_ever_shown(text):
    assert all(char == " " or unicodedata.category(char)[0] not in "CZ" for char in visible(text))


def test_markup_in_every_field_stays_text():
    attack = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>"
    event = OPENED | {
        "act": attack,
        "why": attack,
        "result": attack,
        "object": {"name": attack, "uri": f"javascript:{attack}", "digest": attack},
        "key": {"name": attack, "system": attack, "version": attack},
        "rule": {"id": attack, "decision": attack, "digest": attack},
        "lease": {"path": attack, "id": attack, "ttl_s": attack},
        "run": {"dag": attack, "run": attack, "task": attack, "ti": attack, "try": attack},
        "more": {attack: attack, "list": [attack, {"uri": attack}]},
    }

    html = drawer_html(event)

    assert "<script" not in html
    assert "<img" not in html
    assert 'href="javascript' not in html


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"act": None, "time": "now", "run": "churn", "object": 7, "more": []},
        {"act": ["x"], "time": -1, "seq": {}, "run": {"dag": ["a"], "map": {}, "try": None}},
        {"time": 10**30, "more": {"list": [{"a": [1]}, None]}, "key": {}, "lease": {}, "rule": {}},
    ],
    ids=["empty", "other types", "nested", "out of range"],
)
def test_a_tampered_event_is_still_shown(broken):
    assert drawer_html(broken)


def test_a_hidden_value_shows_its_length_and_not_its_hash():
    hidden = {"h": "f2" * 32, "n": 8}

    assert plain(hidden) == "hidden (8 bytes)"
    assert "Show who" in drawer_html(OPENED | {"by": hidden})


def test_a_value_that_only_looks_hidden_inside_more_has_no_button():
    html = drawer_html(OPENED | {"more": {"reader": {"h": "f2" * 32, "n": 8}}})

    assert "Show who" not in html


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (12_582_912, "12.6 MB"), (48_204, "48.2 kB"), ("x", "x")],
    ids=["none", "bytes", "megabytes", "kilobytes", "not a number"],
)
def test_sizes_read_as_people_say_them(count, text):
    assert size(count) == text


def test_digests_are_shortened_in_the_middle():
    assert shortened("sha256:" + "ab" * 32, keep=9) == "sha256:ab…babababab"
