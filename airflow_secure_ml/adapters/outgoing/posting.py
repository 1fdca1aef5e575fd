"""One POST to one server: bounded in time and bytes, by TLS, never redirected.

Proxies of the environment are not used, as nothing here shall depend on who started the process.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from airflow_secure_ml.core.audit.relaying import Answer
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

# An answer is a few lines; a time stamp with its certificates, a few KiB.
MAX_ANSWER_BYTES = 65_536
TIMEOUT_S = 10.0
# A server that sends a byte now and then would hold its job for hours.
DEADLINE_S = 30.0


class HttpPoster:
    """Sends requests to one server. A `core.audit.relaying.Poster`.

    Args:
        service: How errors name it.
        url: Its address; every request's path is appended.
        ca: Path of the certificates to trust for it; empty: those of the system.
        timeout_s: How long it may be silent.
        deadline_s: How long one request may take in all.
    """

    def __init__(
        self,
        service: str,
        url: str,
        *,
        ca: str = "",
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._service, self._url, self._ca = service, urlsplit(url), ca
        self._timeout_s, self._deadline_s = timeout_s, deadline_s

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """Send it; a redirect is an answer like any other.

        Raises:
            ConfigurationError: The certificates to trust cannot be read.
            ServiceUnavailableError: No connection, no answer in time, or one that is too long.
        """
        headers = {"Content-Type": content_type, "User-Agent": "airflow-secure-ml"}
        context = self._context()
        try:
            with self._connected() as plain:
                connection = self._connection(plain, context)
                connection.request("POST", f"{self._url.path}{path}", body, headers)
                response = connection.getresponse()
                found = response.read(MAX_ANSWER_BYTES + 1)
                missing = response.length or 0
                response.close()
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        if len(found) > MAX_ANSWER_BYTES:
            raise self._failed(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if missing:
            raise self._failed(f"an answer that ends {missing} bytes early")
        return Answer(status=response.status, body=found)

    def _context(self) -> ssl.SSLContext | None:
        if self._url.scheme == "http":
            return None
        try:
            context = ssl.create_default_context(cafile=self._ca or None)
        except OSError as error:
            raise ConfigurationError(
                f"{self._service}: {self._ca}: expected certificates to trust, PEM: {error}"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """A connection that is shut down from outside once the time for all of it is over."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        plain = socket.create_connection((self._url.hostname or "", port), self._timeout_s)
        # A second descriptor: TLS takes the first one, and the reading thread sees the end of both.
        with plain, plain.dup() as other:
            timer = threading.Timer(self._deadline_s, _end, [other])
            timer.daemon = True
            timer.start()
            try:
                yield plain
            finally:
                timer.cancel()
                timer.join()

    def _connection(
        self, plain: socket.socket, context: ssl.SSLContext | None
    ) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        connection: http.client.HTTPConnection
        if context is None:
            connection = http.client.HTTPConnection(host, self._url.port)
            connection.sock = plain
        else:
            connection = http.client.HTTPSConnection(host, self._url.port, context=context)
            connection.sock = context.wrap_socket(plain, server_hostname=host)
        return connection

    def _failed(self, reason: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            service=self._service, action="ask", reason=reason.strip()[:300]
        )


def _end(other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
