"""An export on its way to a browser: on record before its first byte, and however it ends."""

from __future__ import annotations

import asyncio
import hashlib
import threading

import pytest

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import AuditLogError, ServiceUnavailableError
from airflow_secure_ml.plugin.exports import ExportResponse, RecordedExport
from airflow_secure_ml.services.event_files import Piece

FACTS = {"format": "jsonl", "query": "dag:churn"}
WAIT_S = 20


class Records:
    """Takes what is recorded, and can fail as a spool can."""

    def __init__(self):
        self.facts: list[Fact] = []
        self.fails = False

    def record(self, *facts):
        if self.fails:
            raise ServiceUnavailableError(service="audit spool", action="write", reason="full")
        self.facts += facts
        return [f"{'ab' * 16}:{len(self.facts) - 1}" for _ in facts]


@pytest.fixture
def trail():
    return Records()


def served(response, *, receives=None, sent=None):
    """Run a response as a server does; returns what it sent."""
    messages = []

    async def never():
        await asyncio.Event().wait()

    async def send(message):
        messages.append(message)
        if sent is not None:
            await sent(message)

    async def run():
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await asyncio.wait_for(response(scope, receives or never, send), WAIT_S)

    asyncio.run(run())
    return messages


def response_of(export, pieces):
    return ExportResponse(export.of(pieces), filename="a.jsonl", media_type="text/plain")


def test_it_is_on_record_before_the_first_piece_is_made(trail):
    seen = []

    def pieces():
        seen.append([fact.phase for fact in trail.facts])
        yield Piece(events=1, data=b"{}\n")

    served(response_of(RecordedExport(trail, "vera", FACTS), pieces()))

    assert seen == [["intent"]]


def test_how_it_ended_is_on_record_with_the_digest(trail):
    pieces = iter([Piece(events=2, data=b"a\nb\n"), Piece(events=1, data=b"c\n")])

    messages = served(response_of(RecordedExport(trail, "vera", FACTS), pieces))

    _, outcome = trail.facts
    assert (outcome.result, outcome.why, outcome.of) == ("ok", None, f"{'ab' * 16}:0")
    assert outcome.by == "vera"
    digest = "sha256:" + hashlib.sha256(b"a\nb\nc\n").hexdigest()
    assert outcome.more == {**FACTS, "events": 3, "digest": digest}
    assert b"".join(m.get("body", b"") for m in messages) == b"a\nb\nc\n"
    assert messages[-1]["more_body"] is False


def test_a_download_that_breaks_off_is_recorded_as_failed(trail):
    gone = asyncio.Event()

    def pieces():
        while True:
            yield Piece(events=1, data=b"{}\n")

    async def receives():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def sent(message):
        if message.get("body"):
            gone.set()
            await asyncio.sleep(0)

    served(
        response_of(RecordedExport(trail, "vera", FACTS), pieces()), receives=receives, sent=sent
    )

    _, outcome = trail.facts
    assert (outcome.result, outcome.why) == ("failed", "broken_off")
    assert outcome.more["events"] >= 1
    assert "digest" not in outcome.more


def test_a_pack_in_the_making_is_given_up_with_its_receiver(trail):
    export, made = RecordedExport(trail, "vera", FACTS), threading.Event()

    def pieces():
        made.set()
        # As a pack is made: long before its first byte, and asking now and then.
        for _ in range(WAIT_S * 1000):
            export.stop_if_given_up()
            threading.Event().wait(0.001)
        yield Piece(events=0, data=b"PK")

    async def receives():
        while not made.is_set():
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    messages = served(response_of(export, pieces()), receives=receives)

    assert [fact.why for fact in trail.facts] == [None, "broken_off"]
    assert not any(message.get("body") for message in messages)


def test_a_log_that_breaks_breaks_the_download_and_is_recorded(trail):
    def pieces():
        yield Piece(events=1, data=b"{}\n")
        raise AuditLogError("leaf 3 is not JSON", index=3)

    messages = []

    async def sent(message):
        messages.append(message)

    with pytest.raises(AuditLogError):
        served(response_of(RecordedExport(trail, "vera", FACTS), pieces()), sent=sent)

    assert trail.facts[-1].why == "digest_differs"
    assert all(message.get("more_body", True) for message in messages)


def test_what_cannot_be_recorded_is_not_begun(trail):
    trail.fails = True

    with pytest.raises(ServiceUnavailableError):
        RecordedExport(trail, "vera", FACTS)


def test_a_file_whose_end_cannot_be_recorded_is_not_ended(trail):
    def pieces():
        yield Piece(events=1, data=b"{}\n")
        trail.fails = True

    messages = []

    async def sent(message):
        messages.append(message)

    with pytest.raises(ServiceUnavailableError):
        served(response_of(RecordedExport(trail, "vera", FACTS), pieces()), sent=sent)

    assert messages[-1]["more_body"] is True
