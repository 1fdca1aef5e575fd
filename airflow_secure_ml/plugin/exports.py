"""Give events away as a file, on record: asked before the first byte, ended after the last.

A receiver that goes away is noticed and recorded, whatever was sent until then. What is in the file
is the services' business.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import anyio
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.services.event_files import Piece

BROKEN_OFF = "broken_off"


class RecordedExport:
    """The bytes of a file, once; its intent is durable when this is made.

    Args:
        trail: Where it is recorded.
        user: Who asked.
        facts: What both events say: format and query.

    Raises:
        ServiceUnavailableError: That it is asked for cannot be recorded.
    """

    def __init__(self, trail: Trail, user: str, facts: Mapping[str, Any]) -> None:
        self._trail, self._user, self._facts = trail, user, dict(facts)
        self._given_up = threading.Event()
        self._digest, self._events, self._has_ended = hashlib.sha256(), 0, False
        intent = Fact(act="trail.export", phase="intent", by=user, more=self._facts)
        [self._asked] = trail.record(intent)
        self._bytes: Iterator[bytes] = iter(())

    def of(self, pieces: Iterable[Piece]) -> RecordedExport:
        """The same, with what is to be sent."""
        self._bytes = self._sent(pieces)
        return self

    def stop_if_given_up(self) -> None:
        """Return if there is still somebody to send it to.

        Raises:
            ServiceUnavailableError: There is not.
        """
        if self._given_up.is_set():
            raise ServiceUnavailableError(
                service="browser", action="receive", reason="it went away", why=BROKEN_OFF
            )

    def give_up(self) -> None:
        """Know that nobody receives it any more; at once, for the event loop."""
        self._given_up.set()

    def close(self) -> None:
        """Record how it ended, unless that was done; may be called twice."""
        if not self._has_ended:
            self._ended("failed", BROKEN_OFF)

    def __iter__(self) -> Iterator[bytes]:
        return self._bytes

    def _sent(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        try:
            for piece in pieces:
                self.stop_if_given_up()
                self._digest.update(piece.data)
                self._events += piece.events
                yield piece.data
        except SecureMLError as error:
            self._ended("failed", error.why)
            # Nobody is there to be told.
            if error.why == BROKEN_OFF:
                return
            raise
        except Exception:
            self._ended("failed", "bug")
            raise
        # A file whose end is not on record is not ended: its receiver must not take it for whole.
        self._ended("ok", None)

    def _ended(self, result: str, why: str | None) -> None:
        self._has_ended = True
        more: dict[str, Any] = {**self._facts, "events": self._events}
        if why is None:
            more["digest"] = f"sha256:{self._digest.hexdigest()}"
        fact = Fact(
            act="trail.export",
            phase="outcome",
            result=result,
            why=why if why is None or why in WHYS else "bug",
            of=self._asked,
            by=self._user,
            more=more,
        )
        self._trail.record(fact)


class ExportResponse(StreamingResponse):
    """A recorded export on its way to a browser.

    Args:
        export: What is sent.
        filename: Under what name it is kept there.
        media_type: What it is.
    """

    def __init__(self, export: RecordedExport, *, filename: str, media_type: str) -> None:
        disposition = f'attachment; filename="{filename}"'
        super().__init__(
            export, media_type=media_type, headers={"Content-Disposition": disposition}
        )
        self._export = export

    async def listen_for_disconnect(self, receive: Any) -> None:
        """As in StreamingResponse; whoever makes the file is told too."""
        await super().listen_for_disconnect(receive)
        self._export.give_up()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Send it; that it was broken off is recorded whatever else happens."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._export.give_up()
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._export.close)
