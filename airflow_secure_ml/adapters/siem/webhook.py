"""Events to a web hook: one POST a batch, confirmed by a status from 200 to 299.

A redirect is a refusal: whoever answers must not choose who else reads the events and the token.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from airflow_secure_ml import __version__
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.siem import CONTENT_TYPES, OTLP_PATH, Busy, encode_body
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from airflow_secure_ml.outgoing import DEADLINE_S, TIMEOUT_S, HttpPoster

_MAX_SAID = 200
_TOKEN = re.compile(rb"[!-~]{1,4096}")
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)


class WebhookReceiver:
    """One web hook. A `core.audit.siem.Receiver`.

    Args:
        url: Its address; OTLP without a path goes to `/v1/logs`.
        form: One of `core.audit.siem.FORMATS`.
        ca: Path of the certificates to trust for it; empty: those of the system.
        token_path: A private file with a bearer token, read for each batch; None: none is sent.
        timeout_s: How long it may be silent.
        deadline_s: How long one batch may take in all.
    """

    name = "siem webhook"

    def __init__(
        self,
        url: str,
        *,
        form: str,
        ca: str = "",
        token_path: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._form, self._token_path = form, token_path
        place = urlsplit(url)
        is_bare = place.path in ("", "/")
        self._path = OTLP_PATH if is_bare and form == "otlp" else place.path or "/"
        self._poster = HttpPoster(
            self.name,
            f"{place.scheme}://{place.netloc}",
            action="take events",
            ca=ca,
            ca_option="siem_ca",
            timeout_s=timeout_s,
            deadline_s=deadline_s,
        )

    def send(self, leaves: Sequence[Leaf], *, origin: str) -> Busy | None:
        """Post leaves; None: confirmed.

        Raises:
            ServiceUnavailableError: No connection, no whole answer in time, or too long a one.
            ServiceRefusedError: A redirect, or a status that another try does not change.
            ConfigurationError: The token or the certificates cannot be read.
        """
        body = encode_body(leaves, self._form, origin=origin, version=__version__)
        token = self._authorization()
        answer = self._poster.post(self._path, body, CONTENT_TYPES[self._form], headers=token)
        if 200 <= answer.status < 300:
            self._check_all_taken(answer.body)
            return None
        said = f"{answer.status}: {_said(answer.body)}"
        if answer.status in (408, 429) or answer.status >= 500:
            after = answer.retry_after
            is_known = _DIGITS.fullmatch(after) is not None
            return Busy(reason=said, retry_after_s=float(after) if is_known else None)
        if 300 <= answer.status < 400:
            said = f"{answer.status}: a redirect is not followed; set siem_url to where it leads"
        raise self._refused(f"{said}; leaves {leaves[0].index} to {leaves[-1].index} wait")

    def _authorization(self) -> dict[str, str]:
        if self._token_path is None:
            return {}
        try:
            token = read_token(self._token_path)
        except OSError as error:
            raise ConfigurationError(
                f"{self.name}: [secure_ml] siem_token_path: {error.strerror or error}: expected a "
                f"file of this user alone (mode 0600) with a token, {self._token_path}"
            ) from error
        return {"Authorization": f"Bearer {token}"}

    def _check_all_taken(self, body: bytes) -> None:
        """OTLP confirms with 200 also what it took in part, and says that no retry is asked for."""
        if self._form != "otlp" or not body.strip():
            return
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return
        partial = found.get("partialSuccess") if isinstance(found, dict) else None
        count = partial.get("rejectedLogRecords", 0) if isinstance(partial, dict) else 0
        if str(count) != "0":
            raise self._refused(f"it rejected {str(count)[:20]} of the records")

    def _refused(self, reason: str) -> ServiceRefusedError:
        return ServiceRefusedError(
            service=self.name, action="take events", reason=reason, why="misconfigured"
        )


def read_token(path: Path) -> str:
    """Read a bearer token from its private file.

    Raises:
        OSError: It is not there, others can read it, or it holds no token.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise OSError("others can read it")
        data = file.read(5000).strip()
    if not _TOKEN.fullmatch(data):
        raise OSError("it holds no token")
    return data.decode("ascii")


def _said(body: bytes) -> str:
    text = body[:_MAX_SAID].decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else " " for sign in text).strip() or "no reason"
