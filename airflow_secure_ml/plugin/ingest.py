"""Where workers without a disk of their own hand events over: POST /secure-ml/ingest.

A program's door, not a page's: a token alone opens it, never a cookie, and what comes in is bounded
before it is read. Typing imports stay at run time: FastAPI reads them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import time

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from airflow_secure_ml.adapters.ingest.receiver import Full, Receiver, Unwanted
from airflow_secure_ml.adapters.ingest.tokens import Sender, read_tokens
from airflow_secure_ml.adapters.spool.parts import Parts
from airflow_secure_ml.core.audit.ingesting import (
    DURABLE,
    EMITTER_HEADER,
    INGESTED_DIRECTORY,
    MAX_BODY_BYTES,
    MEDIA_TYPE,
)
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import FormatError, SecureMLError

log = logging.getLogger(__name__)

MAX_AT_ONCE = 32
BODY_S = 20.0
# Held to its end until a part is full, so smaller than a spool's: many senders live long.
MAX_SEGMENT_BYTES = 1 << 20
_SEQUENCER_S = 30.0
_EMITTER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,9}", re.ASCII)

router = APIRouter()


class _Door:
    """What this process takes, and how many at once."""

    def __init__(self) -> None:
        folder = deployment().settings.audit_dir / INGESTED_DIRECTORY
        self.receiver = Receiver(
            folder,
            lambda emitter, stamp: Parts(
                os, (str(folder),), emitter, MAX_SEGMENT_BYTES, preamble=stamp
            ),
        )
        self.inside = 0
        self._ensured_s = float("-inf")

    def take(self, emitter: str, body: bytes, host: str, team: str | None) -> None:
        """Take frames durably, and see to it that somebody sequences them."""
        self.receiver.take(emitter, body, host, team)
        now_s = time.monotonic()
        if now_s - self._ensured_s < _SEQUENCER_S:
            return
        self._ensured_s = now_s
        try:
            deployment().ensure_sequencer()
        except SecureMLError as error:
            # What was taken is durable, and any later sequencer takes it up.
            log.warning("the audit trail's sequencer did not start: %s", error)


@functools.cache
def shared_door() -> _Door:
    """The process's door."""
    return _Door()


@router.post("/ingest")
async def ingest(request: Request) -> Response:
    """Take one emitter's frames; 200 says that they would survive a power loss."""
    sender = _sender(request)
    if isinstance(sender, Response):
        return sender
    refusal = _refusal(request)
    if refusal is not None:
        return refusal
    door = shared_door()
    if door.inside >= MAX_AT_ONCE:
        return _later("too many at once", 1)
    door.inside += 1
    try:
        return await _take(request, door, sender)
    finally:
        door.inside -= 1


async def _take(request: Request, door: _Door, sender: Sender) -> Response:
    try:
        async with asyncio.timeout(BODY_S):
            body = await _body(request)
    except (TimeoutError, ClientDisconnect):
        return _say(408, "the body took too long")
    if body is None:
        return _say(413, f"more than {MAX_BODY_BYTES} bytes")
    host = request.client.host if request.client is not None else "unknown"
    emitter = request.headers[EMITTER_HEADER]
    try:
        await run_in_threadpool(door.take, emitter, body, host[:255], sender.team)
    except Full as error:
        return _later(str(error), 5)
    except Unwanted as error:
        log.warning("audit ingest: emitter %s from %s: not taken: %s", emitter, host, error)
        return _say(409, str(error))
    except OSError as error:
        log.warning("audit ingest: cannot be written: %s", error.strerror)
        return _later("it cannot be written now", 5)
    return Response(DURABLE, media_type="text/plain")


async def _body(request: Request) -> bytes | None:
    """The body; None: it is longer than it may be, whatever its length says."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _sender(request: Request) -> Sender | Response:
    """Who sends; or why nobody is let in."""
    path = deployment().settings.audit_ingest_token_path
    if path is None:
        return _say(404, "not found")
    try:
        tokens = read_tokens(path)
    except (OSError, FormatError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        log.warning("[secure_ml] audit_ingest_token_path: %s", said)
        return _say(503, "not set up")
    found = tokens.sender(request.headers.get("Authorization", ""))
    return found if found is not None else _say(401, "not accepted")


def _refusal(request: Request) -> Response | None:
    """What is wrong with a request, from its head alone."""
    # A form or a script of another site cannot send this without asking first.
    if request.headers.get("Content-Type") != MEDIA_TYPE:
        return _say(415, f"expected {MEDIA_TYPE}")
    if not _EMITTER.fullmatch(request.headers.get(EMITTER_HEADER, "")):
        return _say(400, f"expected {EMITTER_HEADER} with 32 hex digits")
    length = request.headers.get("Content-Length", "")
    if not _LENGTH.fullmatch(length):
        return _say(411, "expected Content-Length")
    return _say(413, f"more than {MAX_BODY_BYTES} bytes") if int(length) > MAX_BODY_BYTES else None


def _say(status: int, text: str) -> Response:
    return Response(f"{text}\n", status_code=status, media_type="text/plain")


def _later(text: str, seconds: int) -> Response:
    response = _say(429, text)
    response.headers["Retry-After"] = str(seconds)
    return response
