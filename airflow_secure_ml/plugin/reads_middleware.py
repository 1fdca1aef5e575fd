"""See who reads, edits, logs in or is denied at Airflow's API server, without touching a request.

A pure ASGI class: every message passes as it is, no body is read or kept, websockets are left
alone, and whatever goes wrong here stays here. What is worth an event: `user_acts`; recording it:
`act_recorder`, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.plugin.act_recorder import STOP_S, ActRecorder, Passed
from airflow_secure_ml.plugin.identities import MAX_TOKEN_CHARS, Identities, name_of
from airflow_secure_ml.plugin.user_acts import (
    MAX_ID_CHARS,
    MAX_QUERY_BYTES,
    METHODS,
    Answered,
    kind_of,
)
from airflow_secure_ml.recording import close_sink, sink_of_this_process

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Airflow's own name for it (COOKIE_NAME_JWT_TOKEN).
_COOKIE = b"_token="
_KEPT = MAX_ID_CHARS + 1


@functools.cache
def shared_recorder() -> ActRecorder:
    """The process's recorder."""
    return ActRecorder(
        open_sink=functools.partial(sink_of_this_process, program="api-server"),
        who=Identities().who,
        ensure_sequencer=lambda: deployment().ensure_sequencer(),
    )


class ReadsMiddleware:
    """Airflow's whole API server goes through this.

    Args:
        app: What answers.
        recorder: Takes what is to be recorded; the process's own by default.
    """

    def __init__(self, app: App, recorder: ActRecorder | None = None) -> None:
        self._app = app
        self._recorder = recorder or shared_recorder()
        self._has_warned = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, and note how it was answered."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        is_noted = False
        # Applications below write their own prefix over it.
        root = scope.get("root_path", "")

        async def watch(message: Message) -> None:
            nonlocal is_noted
            await send(message)
            # At its beginning: a log that is followed may take hours.
            if not is_noted and message["type"] == "http.response.start":
                is_noted = True
                self._note(scope, root, message)

        try:
            await self._app(scope, receive, watch)
        finally:
            if not is_noted:
                self._note(scope, root, {})

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            # Before the server hears of it: it then ends itself with the signal that it got, and
            # no exit handler would run.
            if message["type"].startswith("lifespan.shutdown."):
                await self._stop()
            await send(message)

        await self._app(scope, receive, watch)

    async def _stop(self) -> None:
        try:
            await asyncio.wait_for(asyncio.to_thread(self._recorder.stop), STOP_S)
            await asyncio.wait_for(asyncio.to_thread(close_sink), STOP_S)
        except Exception as error:  # noqa: BLE001 - the server ends as it would have
            self._warn(error)

    def _note(self, scope: Message, root: object, start: Mapping[str, Any]) -> None:
        try:
            answered = _answered(scope, str(root), start)
            kind = kind_of(answered)
            if kind is not None:
                opened = _session_of(start) if kind == "login" else ""
                who, token = _credentials(scope)
                passed = Passed(
                    answered=answered,
                    kind=kind,
                    who=None if opened else who,
                    token=opened or token,
                )
                self._recorder.put(passed)
        except Exception as error:  # noqa: BLE001 - a request is never broken by its record
            self._recorder.lose()
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("the audit trail misses requests: %s", type(error).__name__)


def _answered(scope: Message, root: str, start: Mapping[str, Any]) -> Answered:
    route, client = scope.get("route"), scope.get("client")
    mounted = str(scope.get("root_path", "")).removeprefix(root)
    own = getattr(route, "path", None)
    # Behind a mount whose routes cannot be seen, such as a Flask application's, the path says more;
    # an older router names no route there at all.
    has_methods = getattr(route, "methods", None) is not None
    pattern = mounted + str(own) if has_methods else mounted or str(own or "")
    method, status = str(scope.get("method", "")), start.get("status")
    endpoint = scope.get("endpoint") if has_methods else None
    path, ids = str(scope.get("path", "")), scope.get("path_params") or {}
    return Answered(
        method=method if method in METHODS else "OTHER",
        pattern=pattern,
        action=str(getattr(endpoint, "__name__", "")),
        # One character more than is told: so that it shows as cut. Thousands of these may wait.
        ids={name: str(value)[:_KEPT] for name, value in ids.items()},
        place="" if has_methods else path.removeprefix(root).removeprefix(mounted)[:_KEPT],
        query=bytes(scope.get("query_string", b"")[:MAX_QUERY_BYTES]),
        status=status if isinstance(status, int) else None,
        opens_session=pattern.startswith("/auth") and bool(_session_of(start)),
        peer=str(client[0]) if client else "",
    )


def _session_of(start: Mapping[str, Any]) -> str:
    """The session token that an answer hands out; empty: none, or it takes one away."""
    for name, value in start.get("headers", ()):
        if name.lower() == b"set-cookie" and value.startswith(_COOKIE):
            token = value[len(_COOKIE) :].partition(b";")[0].strip(b'" ')
            if token:
                return str(token.decode("ascii", "replace"))
    return ""


def _credentials(scope: Message) -> tuple[str | None, str]:
    """The user whom Airflow found, or the token that is to tell; a token given wins over a cookie.

    Source: airflow.api_fastapi.core_api.security.get_user.
    """
    for name, value in scope.get("headers", ()):
        if name == b"authorization":
            scheme, _, token = value[:MAX_TOKEN_CHARS].partition(b" ")
            if scheme.lower() == b"bearer":
                return None, str(token.strip().decode("ascii", "replace"))
            break
    state = scope.get("state")
    user = state.get("user") if isinstance(state, Mapping) else None
    return (None if user is None else name_of(user)), ""
