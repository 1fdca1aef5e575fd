"""One POST to one server, and its whole answer or an error; a redirect is an answer."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from airflow_secure_ml.core.audit.relaying import Answer
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.outgoing.connecting import DEADLINE_S, TIMEOUT_S, connected, context_of

# An answer is a few lines; a time stamp with its certificates, a few KiB.
MAX_ANSWER_BYTES = 65_536


class HttpPoster:
    """Sends requests to one server. A `core.audit.relaying.Poster`.

    Args:
        service: How errors name it.
        url: Its address; every request's path is appended.
        action: What errors say it could not do.
        ca: Path of the certificates to trust for it; empty: those of the system.
        ca_option: The option that names them, for errors; empty: none does.
        timeout_s: How long it may be silent.
        deadline_s: How long one request may take in all.
    """

    def __init__(
        self,
        service: str,
        url: str,
        *,
        action: str = "ask",
        ca: str = "",
        ca_option: str = "",
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._service, self._url, self._action = service, urlsplit(url), action
        self._ca, self._ca_option = ca, ca_option
        self._timeout_s, self._deadline_s = timeout_s, deadline_s

    def post(
        self,
        path: str,
        body: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send it; a redirect is an answer like any other.

        Raises:
            ConfigurationError: The certificates to trust cannot be read.
            ServiceUnavailableError: No connection, no whole answer in time, or too long a one.
        """
        context = None
        if self._url.scheme != "http":
            context = context_of(self._service, self._ca, option=self._ca_option)
        named = {"Content-Type": content_type, "User-Agent": "airflow-secure-ml", **(headers or {})}
        try:
            answer, missing = exchange(
                self._url,
                f"{self._url.path}{path}",
                body,
                named,
                context=context,
                timeout_s=self._timeout_s,
                deadline_s=self._deadline_s,
                max_bytes=MAX_ANSWER_BYTES + 1,
            )
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        if len(answer.body) > MAX_ANSWER_BYTES:
            raise self._failed(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if missing:
            raise self._failed(f"an answer that ends {missing} bytes early")
        return answer

    def _failed(self, reason: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            service=self._service, action=self._action, reason=reason.strip()[:300]
        )


def exchange(
    url: SplitResult,
    target: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    context: ssl.SSLContext | None,
    timeout_s: float,
    deadline_s: float,
    max_bytes: int,
) -> tuple[Answer, int]:
    """Post once: what was answered, and how many bytes of it were not read or did not come.

    Args:
        url: The server's address.
        target: The path to post to.
        body: What is posted.
        headers: All headers but those that HTTP itself needs.
        context: What its certificate is checked by; None: no TLS.
        timeout_s: How long it may be silent.
        deadline_s: How long the exchange may take in all.
        max_bytes: So much of the answer's body is read.

    Raises:
        OSError, http.client.HTTPException: No connection, or no answer in time.
    """
    host, port = url.hostname or "", url.port
    limits = {"timeout_s": timeout_s, "deadline_s": deadline_s}
    with connected(host, port or (443 if context else 80), context, **limits) as line:
        connection = _connection(host, port, context)
        connection.sock = line
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        answer = Answer(
            status=response.status,
            body=response.read(max_bytes),
            retry_after=(response.getheader("Retry-After") or "").strip(),
        )
        missing = response.length or 0
        response.close()
    return answer, missing


def _connection(
    host: str, port: int | None, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    # Which of them only decides whether the port is in the header `Host`: the socket is made.
    if context is None:
        return http.client.HTTPConnection(host, port)
    return http.client.HTTPSConnection(host, port, context=context)
