"""Where a Vault is and how far it is trusted; values only.

Plain http is refused unless it was allowed in so many words: a token sent over it is everybody's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from airflow_secure_ml.errors import ConfigurationError

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?", re.ASCII)
# Two libraries read an address, and must see one host in it.
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_EXPECTED = "expected https://host:port"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultServer:
    """A Vault server, or the load balancer before it.

    Attributes:
        url: `https://host:port`, without a path.
        namespace: Vault Enterprise's or OpenBao's; None: the root's.
        ca: Path of the certificates that its own must lead to; None: those that the `certifi`
            package brings.
        client_cert: Path of a certificate for TLS; None: none is shown.
        client_key: Path of its key; None with `client_cert`: in the same file.
        allow_http: Whether `http://` is taken.
        timeout_s: Seconds that one request may take, connecting and answering each.
        deadline_s: Seconds after which an act is given up, tries and waits included; an answer
            that is on its way may take `timeout_s` more.
    """

    url: str
    namespace: str | None = None
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    allow_http: bool = False
    timeout_s: float = 10.0
    deadline_s: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _plain_url(self.url))
        if not self.is_encrypted and not self.allow_http:
            raise ConfigurationError(
                f"vault: {self.url} is not encrypted, and tokens would be readable on the way; "
                "use https://, or set allow_http on the connection for a test"
            )
        if self.namespace is not None and not _NAMESPACE.fullmatch(self.namespace):
            raise ConfigurationError(
                f"vault: namespace {self.namespace!r}; expected names with / between them"
            )
        if self.client_key is not None and self.client_cert is None:
            raise ConfigurationError("vault: a client key without its certificate")
        if not 0 < self.timeout_s <= 600 or not 0 < self.deadline_s <= 3600:
            raise ConfigurationError(
                f"vault: timeout {self.timeout_s} s, deadline {self.deadline_s} s; expected 0 to "
                "600 and 0 to 3600"
            )

    @property
    def is_encrypted(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.url.startswith("https://")


def _plain_url(text: str) -> str:
    """An address in lower case and without a slash behind it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"vault: its address cannot be read; {_EXPECTED}") from error
    # What stands before an @ may be a password, so the address is not shown.
    if "@" in parts.netloc:
        raise ConfigurationError(f"vault: its address holds a user; {_EXPECTED}")
    if not _is_address(text, parts) or port == 0:
        raise ConfigurationError(f"vault: address {text[:200]!r}; {_EXPECTED}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"vault: address {parts.scheme}://{parts.netloc} has a path or query behind it; "
            f"{_EXPECTED} alone"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_address(text: str, parts: SplitResult) -> bool:
    # urlsplit drops tabs and line ends, and others may not.
    return (
        parts.scheme in ("https", "http")
        and text.isascii()
        and text.isprintable()
        and " " not in text
        and _HOST.fullmatch(parts.hostname or "") is not None
    )
