"""Send hvac's requests: bounded in time and in size, and answered in one way.

Nothing is read from the environment or the home: no proxy, .netrc, CA file, certificate or token.
Redirects are not followed, since a token would be carried to wherever an answer points.
"""

from __future__ import annotations

import email.utils
import io
import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hvac
import requests
import urllib3

from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.errors import ConfigurationError

_USER_AGENT = "airflow-secure-ml"
# Vault takes requests of 32 MiB; what is read is held in memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 65536
_LEAST_TIMEOUT_S = 0.05
_LONGEST_WAIT_S = 86400.0


class BoundedAdapter(hvac.adapters.RawAdapter):  # type: ignore[misc]  # hvac has no types
    """hvac's adapter, with an end for each request.

    A JSON object comes back for status 200, a Response for any other success, hvac's exception for
    the rest, with `status`, `wait_s` and `leads_back` as attributes.

    Attributes:
        clock: Seconds; any zero, never back.
        until_s: When the clock shows this, an answer is waited for no longer.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)
    until_s: float = float("inf")

    def get_login_token(self, response: Any) -> str:
        """The token in the answer to a login; hvac's own `use_token` asks for it."""
        return str(response["auth"]["client_token"])

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,
        **given: Any,
    ) -> Any:
        """Send one request; see the class for what comes back."""
        left_s = self.until_s - self.clock()
        given["timeout"] = max(_LEAST_TIMEOUT_S, min(self._kwargs["timeout"], left_s))
        answer = super().request(
            method, url, headers=headers, raise_exception=False, stream=True, **given
        )
        body = self._body(answer, given["timeout"])
        if answer.status_code == 200:
            return _object(body)
        if answer.status_code < 300 or not raise_exception:
            return answer
        raise _error(method, url, answer, body, urlsplit(self.base_uri).netloc)

    def _body(self, answer: requests.Response, timeout_s: float) -> bytes:
        # A socket's own limit begins anew with each piece: an answer that trickles has no end.
        until_s = self.clock() + timeout_s
        body = bytearray()
        try:
            while piece := answer.raw.read1(_PIECE_BYTES, decode_content=True):
                body += piece
                if self.clock() > until_s:
                    raise requests.exceptions.ReadTimeout
                if len(body) > MAX_ANSWER_BYTES:
                    raise requests.exceptions.RequestException("answer too long")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ChunkedEncodingError from error
        finally:
            # Given back to the pool only when it was read to the end.
            answer.close()
        answer.raw = io.BytesIO(body)
        return bytes(body)


def make_hvac_client(
    server: VaultServer, clock: Callable[[], float] = time.monotonic
) -> hvac.Client:
    """An hvac client without a token.

    Raises:
        ConfigurationError: A file of certificates that cannot be used.
    """
    check_certificates(server)
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = _USER_AGENT
    # Nothing to unpack: a small answer cannot become a large one.
    session.headers["Accept-Encoding"] = "identity"
    session.verify = server.ca or True
    if server.client_cert is not None:
        cert, key = server.client_cert, server.client_key
        session.cert = cert if key is None else (cert, key)
    made = hvac.Client(
        url=server.url,
        token="",  # None would make hvac read VAULT_TOKEN and ~/.vault-token.
        namespace=server.namespace,
        verify=session.verify,
        # None would make hvac read VAULT_CLIENT_CERT.
        cert=session.cert or (),
        timeout=server.timeout_s,
        allow_redirects=False,
        session=session,
        adapter=BoundedAdapter,
    )
    made.adapter.clock = clock
    return made


def check_certificates(server: VaultServer) -> None:
    """Load what a server's connection names, and raise ConfigurationError where that fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if server.ca is not None:
        try:
            context.load_verify_locations(cafile=server.ca)
        except OSError as error:
            raise ConfigurationError(
                f"vault: CA file {server.ca}: {_why(error)}; expected certificates in PEM"
            ) from error
    if server.client_cert is not None:
        try:
            # Without a password that is given, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(server.client_cert, server.client_key, password=lambda: b"")
        except OSError as error:
            raise ConfigurationError(
                f"vault: client certificate {server.client_cert} and key "
                f"{server.client_key or 'in the same file'}: {_why(error)}; expected both in PEM, "
                "the key without a password"
            ) from error


def _why(error: OSError) -> str:
    return (None if isinstance(error, ssl.SSLError) else error.strerror) or "not usable"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # A page of a proxy, say. Its text is nobody's business.
        raise requests.exceptions.InvalidJSONError("no JSON object")
    return found


def _error(
    method: str, url: str, answer: requests.Response, body: bytes, netloc: str
) -> hvac.exceptions.VaultError:
    """hvac's exception for an answer, as its own adapter would make it, and what that one drops."""
    try:
        said = _object(body)
    except requests.exceptions.InvalidJSONError:
        said = {}
    errors = said.get("errors")
    texts = [str(one) for one in errors] if isinstance(errors, list) else []
    error = hvac.exceptions.VaultError.from_status(
        answer.status_code, "", errors=texts, method=method, url=url, text="", json=said
    )
    error.status = answer.status_code
    error.wait_s = retry_after_s(answer.headers.get("Retry-After"), time.time())
    location = answer.headers.get("Location")
    error.leads_back = (
        300 <= answer.status_code < 400
        and location is not None
        and urlsplit(location).netloc in ("", netloc)
    )
    return error


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Seconds that a Retry-After header asks for; None: it asks for none that can be read.

    Args:
        text: Its value, seconds or a date.
        now_s: Seconds since 1970 UTC.

    Source: RFC 9110, 10.2.3.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), _LONGEST_WAIT_S)
    try:
        until_s = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, until_s - now_s), _LONGEST_WAIT_S)
