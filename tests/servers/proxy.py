"""A proxy between a client and the real Vault that misbehaves on request, one way a request.

It ends TLS with a certificate that the same authority issued and speaks TLS to Vault. What it is
told to do is done to the next requests that fit, in order; all others pass. It keeps count.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dags_examples.demo.certificates import Certificate
from dags_examples.demo.vault_server import RunningVault

TIMEOUT_S = 60.0
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LIST")
# These concern one connection; the proxy has two.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What to do to a request instead of passing it.

    Attributes:
        path: Only to requests whose path, without `/v1/`, begins so.
        times: To how many of them.
    """

    path: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Act):
    """Answer in Vault's place; Vault never sees the request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang(Act):
    """Keep the request for some time, then pass it; the time ends early when the proxy stops."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose(Act):
    """Close the connection; Vault never sees the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Act):
    """Pass the request, then close the connection after some bytes of the answer's body.

    Vault has done what was asked; the client cannot know. Before the body goes the whole head.
    `None`: not even the head is sent.
    """

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that reached the proxy."""

    method: str
    path: str


@dataclass(slots=True, kw_only=True)
class Proxy:
    """A proxy that listens for as long as the block lasts.

    Attributes:
        upstream_port: Vault's.
        ca: The authority of Vault's certificate, PEM; a client of the proxy trusts it too.
        certificate: What the proxy shows; None: it speaks plain HTTP, as nobody should.
        port: Where it listens.
        seen: Every request so far, in order, whatever became of it.
    """

    upstream_port: int
    ca: Path
    certificate: Certificate | None
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    _acts: list[Act] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _server: _Server | None = None

    @classmethod
    def before(cls, vault: RunningVault, folder: Path, *, plain: bool = False) -> Self:
        """A proxy before a running Vault; `folder` gets its certificate."""
        assert vault.authority is not None
        certificate = None if plain else vault.authority.for_server(folder, "proxy")
        return cls(upstream_port=vault.port, ca=vault.ca, certificate=certificate)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self.refuse()

    def will(self, *acts: Act) -> None:
        """Do these to the next requests that fit, after what was asked for before."""
        with self._lock:
            self._acts.extend(acts)

    def behave(self) -> None:
        """Forget what was asked for: every request passes."""
        with self._lock:
            self._acts.clear()

    def count(self, path: str = "", method: str = "") -> int:
        """How many requests came whose path, without `/v1/`, begins so."""
        with self._lock:
            seen = list(self.seen)
        return sum(one.path.startswith(path) and method in ("", one.method) for one in seen)

    def refuse(self) -> None:
        """Listen no more: connections are refused, those that are open are closed."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    def accept(self) -> None:
        """Listen, on the same port as before."""
        server = _Server(("127.0.0.1", self.port), self)
        self.port, self._server = server.server_address[1], server
        # The pause between its looks at whether to stop.
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def note(self, method: str, path: str) -> Act | None:
        """Count a request; what to do to it, None: pass it."""
        with self._lock:
            self.seen.append(Seen(method=method, path=path))
            for place, act in enumerate(self._acts):
                if path.startswith(act.path):
                    if act.times > 1:
                        self._acts[place] = replace(act, times=act.times - 1)
                    else:
                        del self._acts[place]
                    return act
        return None

    def hang(self, seconds: float) -> None:
        """Wait, but not beyond the proxy's end."""
        self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], proxy: Proxy) -> None:
        self.proxy = proxy
        self.tls: ssl.SSLContext | None = None
        if proxy.certificate is not None:
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.tls.load_cert_chain(proxy.certificate.file, proxy.certificate.key_file)
        self.upstream = ssl.create_default_context(cafile=str(proxy.ca))
        self.open: set[socket.socket] = set()
        self.has_ended = False
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that a slow handshake keeps nobody waiting."""
        connections = [request]
        self.open.add(request)
        try:
            if self.tls is not None:
                connections.append(self.tls.wrap_socket(request, server_side=True))
                self.open.add(connections[-1])
            # One that was taken when the end was on its way is refused, too.
            if not self.has_ended:
                super().finish_request(connections[-1], client_address)
        finally:
            _close(connections[-1])
            self.open.difference_update(connections)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that close, or trust somebody else, are what tests are about."""

    def end(self) -> None:
        """Stop listening and close every connection."""
        self.has_ended = True
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            _close(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.removeprefix("do_") in METHODS:
            return self._do
        raise AttributeError(name)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: `Proxy.seen` tells."""

    def _do(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        act = proxy.note(self.command, self.path.removeprefix("/v1/"))
        if isinstance(act, Lose):
            return self._hang_up()
        if isinstance(act, Answer):
            said = (
                act.body if act.body is not None else {"errors": [f"the proxy says {act.status}"]}
            )
            return self._answer(act.status, act.headers, json.dumps(said).encode())
        if isinstance(act, Hang):
            proxy.hang(act.seconds)
        status, headers, answered = self._ask(body)
        if isinstance(act, Cut):
            if act.after_bytes is not None:
                self._answer(status, headers, answered, only=act.after_bytes)
            return self._hang_up()
        return self._answer(status, headers, answered)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        vault = http.client.HTTPSConnection(
            "127.0.0.1",
            self.server.proxy.upstream_port,
            timeout=TIMEOUT_S,
            context=self.server.upstream,
        )
        with contextlib.closing(vault):
            vault.request(self.command, self.path, body or None, headers)
            answer = vault.getresponse()
            passed = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
            return answer.status, passed, answer.read()

    def _answer(
        self, status: int, headers: Mapping[str, str], body: bytes, only: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])

    def _hang_up(self) -> None:
        self.close_connection = True


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
