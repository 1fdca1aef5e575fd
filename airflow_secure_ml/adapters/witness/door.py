"""The witness's door: HTTP with one address, one method, bounded in bytes, time and threads.

The standard library's server is enough, for this is no web server: every request is one POST of at
most 32 KiB on a connection of its own, its body is authenticated by a log's key or dropped, and the
answer is public. No keep-alive, no chunks, no files, no query: nothing to smuggle a request by.
"""

from __future__ import annotations

import http.server
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from airflow_secure_ml.core.audit.add_checkpoint import MAX_REQUEST_BYTES, PATH, Reply
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.timed_sockets import ended_after

log = logging.getLogger(__name__)

# Whoever opens connections and says nothing takes a few threads for a few seconds.
MAX_CONNECTIONS = 32
TIMEOUT_S = 10.0
DEADLINE_S = 30.0
_MAX_SAID = 200


class Door(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves one witness.

    Args:
        address: Host and port to listen on; port 0: a free one.
        answer: Answers the body of a request.
        tls: Paths of certificate and key; None: plain HTTP.

    Raises:
        ConfigurationError: It cannot listen there, or certificate and key cannot be used.
    """

    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[bytes], Reply],
        *,
        tls: tuple[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.answer, self.deadline_s = answer, deadline_s
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._context = None if tls is None else _context(*tls)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"{address[0]}:{address[1]}: cannot listen: {error.strerror}"
            ) from error

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the name service for this host's name.
        socketserver.TCPServer.server_bind(self)
        bound = self.socket.getsockname()
        self.server_name, self.server_port = str(bound[0]), int(bound[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        # Waiting here leaves further connections in the kernel's queue, which is bounded.
        if not self._free.acquire(timeout=self.deadline_s):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread began that would give the place back.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            with ended_after(self.deadline_s, request):
                super().process_request_thread(request, client_address)
        except (OSError, RuntimeError) as error:
            # No descriptor or no thread for its clock: without one nobody is served.
            log.warning("a connection of %s is dropped: %s", client_address[0], error)
            self.shutdown_request(request)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(TIMEOUT_S)
        if self._context is None:
            super().finish_request(request, client_address)
            return
        # In the connection's own thread: a slow handshake keeps nobody else out.
        with self._context.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection of %s broke off", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Door
    server_version, sys_version = "witness", ""
    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:
        if self.path != PATH:
            self._send(Reply(status=404, body="POST /add-checkpoint\n"))
            return
        length = self.headers.get("Content-Length", "")
        is_number = length.isascii() and length.isdigit() and len(length) <= 9
        if self.headers.get("Transfer-Encoding") or not is_number:
            self._send(Reply(status=411, body="a Content-Length is needed\n"))
        elif int(length) > MAX_REQUEST_BYTES:
            self._send(Reply(status=413, body=f"at most {MAX_REQUEST_BYTES} bytes\n"))
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._send(self._answered(body))

    def _answered(self, body: bytes) -> Reply:
        try:
            return self.server.answer(body)
        except SecureMLError as error:
            log.error("%s", error)
            return Reply(status=500, body="the witness cannot answer now\n")

    def _send(self, reply: Reply) -> None:
        data = reply.body.encode("utf-8")
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # Not the base class's page, which repeats what was sent.
        self._send(Reply(status=code, body=f"{HTTPStatus(code).phrase}\n"))

    def log_message(self, format: str, *args: Any) -> None:
        said = format % args if self.command else "unreadable"
        # A stranger's request line: no signs that move a terminal's text, and no pages.
        shown = "".join(sign if sign.isprintable() else "?" for sign in said[:_MAX_SAID])
        log.info("%s %s", self.client_address[0], shown)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        raise ConfigurationError(f"{certificate}, {key}: expected PEM: {error}") from error
    return context


def _no_password() -> str:
    # Else OpenSSL asks at the terminal of whoever started it.
    return ""
