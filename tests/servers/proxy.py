"""A proxy between a client and a real server that misbehaves on request, one way a request.

It ends TLS with a certificate that the same authority issued and speaks TLS to the server. What it
is told to do is done to the next requests that fit, in order; all others pass. It keeps count.
What only S3 can do wrong is in `s3_proxy`.
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
from typing import Any, Protocol, Self

from dags_examples.demo.certificates import Certificate, CertificateAuthority

TIMEOUT_S = 60.0
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LIST")
# These concern one connection; the proxy has two. Not the host: who signs a request signs it, too.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect"}


class Running(Protocol):
    """A server with TLS on the loopback interface."""

    port: int
    authority: CertificateAuthority | None

    @property
    def ca(self) -> Path:
        """The certificate of its authority, PEM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What to do to a request instead of passing it.

    Attributes:
        path: Only to requests whose path, without the server's `base`, begins so.
        method: Only to requests of this method; empty: of any.
        has: Only to requests in whose path and query this stands.
        skip: How many of those pass first.
        times: To how many of them.
    """

    path: str = ""
    method: str = ""
    has: str = ""
    skip: int = 0
    times: int = 1

    def fits(self, method: str, path: str) -> bool:
        """Whether a request is one of those."""
        return path.startswith(self.path) and self.method in ("", method) and self.has in path


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Act):
    """Answer in the server's place, which never sees the request.

    Attributes:
        body: Bytes as they are, or what becomes JSON; None: an error as Vault tells it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang(Act):
    """Keep the request for some time, then pass it; the time ends early when the proxy stops."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose(Act):
    """Close the connection; the server never sees the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRequest(Act):
    """Pass the head and some bytes of the body, then close both connections."""

    after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Act):
    """Pass the request, then close the connection after some bytes of the answer's body.

    The server has done what was asked; the client cannot know. Before the body goes the whole head.
    `None`: not even the head is sent.
    """

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alter(Act):
    """Pass the request, and another answer than the server gave."""

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """The headers and the body to answer with."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that reached the proxy."""

    method: str
    path: str


@dataclass(slots=True, kw_only=True)
class Proxy:
    """A proxy that listens for as long as the block lasts.

    Attributes:
        upstream_port: The server's.
        ca: The authority of its certificate, PEM; a client of the proxy trusts it too.
        certificate: What the proxy shows; None: it speaks plain HTTP, as nobody should.
        base: What every path of the server begins with; acts and counts leave it out.
        port: Where it listens.
        seen: Every request so far, in order, whatever became of it.
    """

    upstream_port: int
    ca: Path
    certificate: Certificate | None
    base: str = "/v1/"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    _acts: list[Act] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _server: _Server | None = None

    @classmethod
    def before(
        cls, server: Running, folder: Path, *, plain: bool = False, base: str = "/v1/"
    ) -> Self:
        """A proxy before a running server; `folder` gets its certificate."""
        assert server.authority is not None
        certificate = None if plain else server.authority.for_server(folder, "proxy")
        return cls(upstream_port=server.port, ca=server.ca, certificate=certificate, base=base)

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

    def count(self, path: str = "", method: str = "", has: str = "") -> int:
        """How many requests came that an act of the same words would fit."""
        with self._lock:
            seen = list(self.seen)
        wanted = Act(path=path, method=method, has=has)
        return sum(wanted.fits(one.method, one.path) for one in seen)

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
                if act.fits(method, path):
                    if act.skip:
                        self._acts[place] = replace(act, skip=act.skip - 1)
                        continue
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
        act = proxy.note(self.command, self.path.removeprefix(proxy.base))
        body = self._body(act)
        if isinstance(act, CutRequest):
            self._begin(body)
            return self._hang_up()
        if isinstance(act, Lose):
            return self._hang_up()
        if isinstance(act, Answer):
            said = (
                act.body if act.body is not None else {"errors": [f"the proxy says {act.status}"]}
            )
            raw = said if isinstance(said, bytes) else json.dumps(said).encode()
            return self._answer(act.status, act.headers, raw)
        if isinstance(act, Hang):
            proxy.hang(act.seconds)
        status, headers, answered = self._ask(body)
        if isinstance(act, Cut):
            if act.after_bytes is not None:
                self._answer(status, headers, answered, only=act.after_bytes)
            return self._hang_up()
        if isinstance(act, Alter):
            headers, answered = act.altered(headers, answered)
        return self._answer(status, headers, answered)

    def _body(self, act: Act | None) -> bytes:
        only = act.after_bytes if isinstance(act, CutRequest) else None
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            return self._chunks()[:only]
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length if only is None else min(length, only))

    def _chunks(self) -> bytes:
        # RFC 9112, 7.1: each chunk after its length in hexadecimal, the last one of none.
        body = bytearray()
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1",
            self.server.proxy.upstream_port,
            timeout=TIMEOUT_S,
            context=self.server.upstream,
        )

    def _begin(self, body: bytes) -> None:
        """Send the head, which announces a byte more than follows, and close."""
        with contextlib.closing(self._connection()) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    server.putheader(name, value)
            server.putheader("Content-Length", str(len(body) + 1))
            server.endheaders(body)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        with contextlib.closing(self._connection()) as server:
            server.request(self.command, self.path, body or None, headers)
            answer = server.getresponse()
            passed = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
            return answer.status, passed, answer.read()

    def _answer(
        self, status: int, headers: Mapping[str, str], body: bytes, only: int | None = None
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
            elif self.command == "HEAD":
                length = value
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])

    def _hang_up(self) -> None:
        self.close_connection = True


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
