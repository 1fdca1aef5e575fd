"""A small HTTP server that a test scripts: it plays what no real server can be made to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What to answer; without `length`, the body ends with the connection."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = (b"{}",)
    length: int | None = None


class Responder:
    """Answers by a function as long as the block lasts.

    Args:
        answer: From a request to what is said.
    """

    def __init__(self, answer: Callable[[Asked], Said]) -> None:
        self.answer, self.asked, self.connections = answer, list[Asked](), 0
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Its address, in plain http."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.responder.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def _do(self) -> None:
        asked = Asked(
            method=self.command,
            path=self.path,
            headers=dict(self.headers.items()),
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        self.server.responder.asked.append(asked)
        said = self.server.responder.answer(asked)
        self.send_response_only(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if said.length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(said.length))
        self.end_headers()
        for piece in said.body:
            self.wfile.write(piece)
            self.wfile.flush()
