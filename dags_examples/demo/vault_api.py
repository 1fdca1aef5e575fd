"""Vault's HTTP interface in the few words that setting a server up takes.

For tests and the demo, beside the library that the product uses: what sets the server up and
counts what is left on it must not be what is being tested.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_S = 30.0


class VaultAnswerError(Exception):
    """Vault answered something else than success.

    Attributes:
        status: Of HTTP; 0 when there was no answer.
        errors: What it said.
    """

    def __init__(self, status: int, errors: list[str], asked: str) -> None:
        super().__init__(f"{asked}: {status}, {'; '.join(errors) or 'no reason given'}")
        self.status, self.errors = status, errors


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultApi:
    """One address and one token.

    Attributes:
        url: Where Vault answers, without a slash at the end.
        ca: The certificate of the authority to trust, PEM.
        certificate: Certificate and key to show, for logins by certificate.
        wrap_ttl: Have answers wrapped, to be unwrapped once within this time.
    """

    url: str
    ca: Path
    token: str = field(default="", repr=False)
    certificate: tuple[Path, Path] | None = None
    wrap_ttl: str = ""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask; the answer's JSON, `{}` where it is empty.

        Raises:
            VaultAnswerError: Any other status than 2xx, or no answer.
        """
        headers = {"X-Vault-Token": self.token, "X-Vault-Wrap-TTL": self.wrap_ttl}
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={name: value for name, value in headers.items() if value},
        )
        asked = f"{method} {path}"
        try:
            with self._opener().open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                raise VaultAnswerError(error.code, _errors(error.read()), asked) from error
        except OSError as error:
            raise VaultAnswerError(0, [str(error)], asked) from error

    def names(self, path: str) -> list[str]:
        """List; empty where nothing is."""
        try:
            keys: list[str] = self.call("LIST", path)["data"]["keys"]
        except VaultAnswerError as error:
            if error.status == 404:
                return []
            raise
        return keys

    def leases(self, below: str = "") -> Iterator[str]:
        """The id of every live lease below a path; those of tokens are not among them."""
        for name in self.names(f"sys/leases/lookup/{below}"):
            path = below + name
            if path == "auth/":
                continue
            if name.endswith("/"):
                yield from self.leases(path)
            else:
                yield path

    def _opener(self) -> urllib.request.OpenerDirector:
        trusted = ssl.create_default_context(cafile=str(self.ca))
        if self.certificate is not None:
            trusted.load_cert_chain(*self.certificate)
        # A proxy of the environment is not asked: the server is on this machine.
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )


def _errors(body: bytes) -> list[str]:
    try:
        return [str(one) for one in json.loads(body)["errors"]]
    except (ValueError, KeyError, TypeError):
        return [body.decode(errors="replace")[:200]]
