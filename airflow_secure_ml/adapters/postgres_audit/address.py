"""Where a log in PostgreSQL is: an address without a secret, and how it is reached.

Everything that is not known is refused, since an option that is passed over could be the one that
was to keep the connection safe.

Source: libpq, "Connection URIs" and "SSL Support".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from airflow_secure_ml.errors import ConfigurationError

SCHEME = "postgresql://"
EXAMPLE = "postgresql://asml_reader@db.example.org:5432/trail?sslrootcert=/etc/ssl/db.pem"
_PORT = 5432
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,63}")
_PATHS = ("sslrootcert", "sslcert", "sslkey")
_WEAKER = ("verify-ca", "require")
_ALLOWED = ("host", "sslmode", "allow_weaker_tls", *_PATHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """A database that holds a log.

    Attributes:
        hosts: (name, port) in the order they are tried; a name with a slash first is a socket's
            directory.
        user: The login; empty: the operating system's user.
        database: Its name.
        tls: libpq's `sslmode`.
        files: libpq's `sslrootcert`, `sslcert`, `sslkey`, as far as given.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str
    database: str
    tls: str
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        places = ",".join(f"{name}:{port}" for name, port in self.hosts)
        return f"{SCHEME}{places}/{self.database}"


def parse_address(text: str) -> StoreAddress:
    """Parse `postgresql://user@host:port/database?…`; several hosts are separated by commas.

    TLS with the certificate and the host's name checked is what a host elsewhere gets; less has to
    be asked for twice, by `sslmode` and `allow_weaker_tls=yes`.

    Raises:
        ConfigurationError: A password in it, an unknown part, or TLS that checks too little. The
            message holds nothing of the text: it may hold a password.
    """
    try:
        parts = urlsplit(text)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise _wrong("no address") from error
    options = dict(pairs)
    if parts.scheme != "postgresql" or parts.fragment or len(options) != len(pairs):
        raise _wrong("no address, or an option twice")
    user, has_user, places = parts.netloc.rpartition("@")
    # Passwords first: whatever else is wrong, this is what has to be taken out at once.
    if ":" in user or "%3a" in user.lower() or options.keys() & {"password", "passfile"}:
        raise _wrong("a password, or a file of them; it belongs into audit_store_passfile")
    if unknown := sorted(options.keys() - set(_ALLOWED)):
        raise _wrong(f"option {unknown[0][:40]!r}; allowed: {', '.join(_ALLOWED)}")
    user, database = unquote(user), unquote(parts.path.removeprefix("/"))
    if not _NAME.fullmatch(database) or "/" in database or "=" in database:
        raise _wrong("no database's name")
    if has_user and not _NAME.fullmatch(user):
        raise _wrong("an empty or too long user")
    hosts = _hosts(places, options.get("host"))
    return StoreAddress(
        hosts=hosts,
        user=user,
        database=database,
        tls=_tls(hosts, options),
        files=_files(options),
    )


def _hosts(places: str, socket: str | None) -> tuple[tuple[str, int], ...]:
    if socket is not None:
        if places.strip(":0123456789") or not socket.startswith("/") or "," in socket:
            raise _wrong("a host option that is not one socket's directory")
        return ((socket, _port(places.removeprefix(":") or None)),)
    found = []
    for place in places.split(","):
        match = _HOST.fullmatch(place)
        if match is None:
            raise _wrong("no host")
        found.append((match["host"].strip("[]"), _port(match["port"])))
    return tuple(found)


def _port(text: str | None) -> int:
    port = _PORT if text is None else int(text)
    if not 0 < port < 65536:
        raise _wrong(f"port {port}")
    return port


def _tls(hosts: tuple[tuple[str, int], ...], options: Mapping[str, str]) -> str:
    given, weaker = options.get("sslmode"), options.get("allow_weaker_tls", "no")
    if weaker not in ("yes", "no"):
        raise _wrong("allow_weaker_tls other than yes or no")
    if all(_is_here(name) for name, _ in hosts):
        # Nobody is on the way; a server without TLS is usual there.
        if given not in (None, "verify-full", *_WEAKER, "prefer", "disable"):
            raise _wrong("an sslmode that libpq does not know")
        return given or "prefer"
    if given in (None, "verify-full"):
        return "verify-full"
    if given in _WEAKER and weaker == "yes":
        return given
    raise _wrong(
        "an sslmode that believes any server; leave it out for verify-full, or, knowing that who "
        f"is on the way can then answer in the server's place, give one of {', '.join(_WEAKER)} "
        "with allow_weaker_tls=yes"
    )


def _files(options: Mapping[str, str]) -> Mapping[str, str]:
    found = {name: options[name] for name in _PATHS if name in options}
    for name, path in found.items():
        if not path.startswith("/") and (name, path) != ("sslrootcert", "system"):
            raise _wrong(f"{name} that is no absolute path")
    return found


def _is_here(name: str) -> bool:
    if name.startswith("/") or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _wrong(found: str) -> ConfigurationError:
    return ConfigurationError(f"audit_store: found {found}; expected an address such as {EXAMPLE}")
