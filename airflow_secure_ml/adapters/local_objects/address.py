"""What people write for a local file, and the one address that it has.

One file has one address: absolute, symlinks resolved, percent-encoded in one way. So an address
can stand in a sealed file's context and in a rule, and be compared byte for byte.
"""

from __future__ import annotations

import errno
import os
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from airflow_secure_ml.errors import ConfigurationError, FormatError

# RFC 3986 pchar without '*': what may stand in a path unencoded. Globs are always encoded.
_SAFE = "/!$&'()+,;=:@-._~"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB = re.compile(r"[*?\[]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def to_uri(path: str) -> str:
    """The address of an absolute path that is resolved already."""
    return "file://" + quote_from_bytes(os.fsencode(path), safe=_SAFE)


def to_path(uri: str) -> str:
    """The path that a local path or `file://` address names; nothing is resolved.

    Raises:
        ConfigurationError: Another scheme or host, not absolute, a glob, a NUL.
    """
    if "\0" in uri:
        raise ConfigurationError("an address holds a NUL character; expected a local path")
    try:
        os.fsencode(uri)
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{uri!a}: an address holds half a surrogate pair; expected a local path"
        ) from error
    if _GLOB.search(uri):
        raise ConfigurationError(
            f"{uri}: expected the address of one object, found a glob character (* ? [); "
            "name each object"
        )
    path = _decode(uri) if _SCHEME.match(uri) else uri
    if not path.startswith("/"):
        raise ConfigurationError(
            f"{uri or '(empty)'}: expected an absolute path or file:///…, found a relative one"
        )
    return path


def _decode(uri: str) -> str:
    rest = uri[len("file://") :]
    if not uri.startswith("file://"):
        raise ConfigurationError(f"{uri}: expected file:///…, found another scheme")
    rest = rest.removeprefix("localhost")
    if not rest.startswith("/"):
        raise ConfigurationError(
            f"{uri}: expected file:///… (three slashes), found a host or a relative path"
        )
    if "#" in rest or _BAD_PERCENT.search(rest):
        raise ConfigurationError(
            f"{uri}: expected a percent-encoded path, found a bare '#' or '%'; write %23 or %25"
        )
    raw = unquote_to_bytes(os.fsencode(rest))
    if b"\0" in raw or raw.count(b"/") != rest.count("/"):
        raise ConfigurationError(f"{uri}: expected a path, found an encoded NUL or slash")
    return os.fsdecode(raw)


def canonical(address: str) -> str:
    """The one address of what a path or `file://` address names.

    Symlinks are resolved as far as the path exists.

    Raises:
        ConfigurationError: Not a local address, a glob, a NUL, a loop of symlinks.
    """
    path = os.path.realpath(to_path(address))
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise ConfigurationError(
                f"{address}: expected a path, found {os.strerror(error.errno)}"
            ) from error
    else:
        if os.path.islink(path):
            raise ConfigurationError(f"{address}: expected a path, found a loop of symlinks")
    return to_uri(path)


def canonical_path(uri: str) -> str:
    """The path of a canonical address.

    Raises:
        ConfigurationError: The address is not canonical, or no longer, since a symlink took a
            part's place: following it would read or write under another object's name.
    """
    now = canonical(uri)
    if now != uri:
        raise not_canonical(uri, now)
    return to_path(uri)


def plain_path(uri: str) -> str:
    """The path of an address in its one form; whether symlinks lie on it is not looked at."""
    path = to_path(uri)
    if to_uri(path) != uri:
        raise not_canonical(uri, to_uri(path))
    return path


def not_canonical(uri: str, now: str) -> ConfigurationError:
    """The refusal of an address that leads elsewhere than it says."""
    return ConfigurationError(
        f"{uri}: expected a canonical address, found one that leads to {now}; "
        "use the address that canonical() gives"
    )


def relative_parts(relative: str) -> list[str]:
    """The parts of a relative name such as `a/b.csv`.

    Raises:
        FormatError: Empty, absolute, `.`, `..`, an empty part, a NUL.
    """
    parts = relative.split("/")
    if "\0" in relative or any(part in ("", ".", "..") for part in parts):
        raise FormatError(
            f"{relative!r}: expected a relative name such as a/b.csv, "
            "found an absolute one, an empty part, '.', '..' or NUL"
        )
    return parts
