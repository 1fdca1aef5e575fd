"""A sender's line to an ingest end point: frames in a request, durable when it says so.

What was sent without an answer is sent again; the end point drops what it has. The token is read
anew for each connection, is in no argument and no message.

Source: AUDIT_TRAIL, When it is durable.
"""

from __future__ import annotations

import errno
import http.client
import os
import stat
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from airflow_secure_ml.core.audit.frame import cut_frames
from airflow_secure_ml.core.audit.ingesting import (
    DURABLE,
    EMITTER_HEADER,
    MAX_BODY_BYTES,
    MEDIA_TYPE,
    TOKEN_BYTES,
)
from airflow_secure_ml.core.audit.lines import FINAL, Patience, not_durable
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.outgoing import context_of, exchange

PATIENCE_S: Final = 30.0
# Of one request, from the first byte out to the last one in.
_ANSWER_S: Final = 30.0
_CLOSE_S: Final = 3.0
_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 5.0
_MAX_ANSWER: Final = 2000


class IngestLines:
    """Gives each emitter its line to an ingest end point.

    Args:
        url: Its address; https, or http to this machine.
        token_path: The private file with the token.
        patience_s: How long to wait for one that does not answer or has no room.
    """

    def __init__(self, url: str, token_path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._url, self._token_path, self._patience_s = url, token_path, patience_s

    def open(self, emitter: str) -> IngestLine:
        """A line for a new emitter; it connects with its first frames."""
        return IngestLine(self._url, self._token_path, emitter, patience_s=self._patience_s)

    def unavailable(self, found: str) -> ServiceUnavailableError:
        """What to raise where it does not take what it should."""
        advice = "see [secure_ml] audit_ingest_url and audit_ingest_token_path"
        return not_durable("audit ingest", self._url, found, advice)


class IngestLine:
    """One emitter's line. Not safe from many threads: the sink's lock is. A connection a request:
    nothing is kept that a forked child could share.

    Args:
        url: The end point's address.
        token_path: The private file with the token.
        emitter: 32 hex digits.
        patience_s: How long to wait for one that does not answer or has no room.
    """

    def __init__(self, url: str, token_path: Path, emitter: str, *, patience_s: float) -> None:
        self._url, self._token_path, self._emitter = urlsplit(url), token_path, emitter
        self._patience = Patience(patience_s, time.monotonic)

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Send frames; the same bytes again if it failed. Durable with and without `wait`.

        Args:
            frames: Everything since the last call that returned with `wait`.
            wait: Whether to be patient with an end point that does not answer.

        Raises:
            OSError: They are not taken, or nobody is there to take them.
        """
        with self._patience.turn(wait=wait) as until:
            for _, body in cut_frames(frames, MAX_BODY_BYTES):
                self._send_patiently(body, until, _ANSWER_S if wait else _CLOSE_S)

    def close(self) -> None:
        """Nothing is held."""

    def _send_patiently(self, body: bytes, until: float, timeout_s: float) -> None:
        while True:
            try:
                retry_s = self._send(body, timeout_s)
                if retry_s is None:
                    return
                failure = OSError(errno.EAGAIN, "it has no room now")
            except OSError as error:
                retry_s, failure = _RETRY_S, error
            except http.client.HTTPException as error:
                retry_s, failure = _RETRY_S, OSError(errno.EPROTO, type(error).__name__)
            if failure.errno in FINAL or time.monotonic() + retry_s >= until:
                raise failure
            time.sleep(retry_s)

    def _send(self, body: bytes, timeout_s: float) -> float | None:
        """Send once; seconds after which to try again, None: it is durable."""
        headers = {
            "Authorization": f"Bearer {read_token(self._token_path)}",
            "Content-Type": MEDIA_TYPE,
            EMITTER_HEADER: self._emitter,
        }
        context = None
        if self._url.scheme == "https":
            # The system's certificates, and the host's name; SSL_CERT_FILE adds to them.
            context = context_of("audit ingest", "")
        answer, missing = exchange(
            self._url,
            self._url.path or "/",
            body,
            headers,
            context=context,
            timeout_s=timeout_s,
            deadline_s=timeout_s,
            max_bytes=_MAX_ANSWER,
        )
        if missing and len(answer.body) < _MAX_ANSWER:
            raise OSError(errno.ECONNABORTED, f"its answer ends {missing} bytes early")
        if answer.status == 200 and answer.body == DURABLE:
            return None
        if answer.status in {429, 502, 503, 504}:
            return _retry_after(answer.retry_after)
        raise OSError(errno.EPROTO, f"status {answer.status}: {_shown(answer.body)}")


def read_token(path: Path) -> str:
    """Read a token from its private file.

    Raises:
        OSError: It is not there, others can read it, or it holds no token.
    """
    data = read_private(path, 1000).strip()
    if not is_token(data):
        raise OSError(errno.EINVAL, f"{path}: no token of `secure-ml audit ingest-token`")
    return data.decode("ascii")


def is_token(data: bytes) -> bool:
    """Whether these are a token's hex digits."""
    return len(data) == 2 * TOKEN_BYTES and all(sign in b"0123456789abcdef" for sign in data)


def read_private(path: Path, limit: int) -> bytes:
    """A file's first bytes, if others can neither read nor change it.

    Raises:
        OSError: It is not there, or they can.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o037:
            # A group may: that is how a cluster's secret gets to a pod's user.
            raise OSError(errno.EPERM, f"{path}: others can read it; expected mode 0600 or 0440")
        return file.read(limit)


def _retry_after(text: str) -> float:
    return min(float(text), _MAX_RETRY_S) if text.isascii() and text.isdigit() else 1.0


def _shown(said: bytes) -> str:
    text = said.decode("utf-8", "replace")[:200]
    return "".join(sign if sign.isprintable() else " " for sign in text)
