"""What people write for an object in S3, and the one address that it has.

`s3://[conn_id@]bucket/key`. The canonical one has no connection, and the key byte for byte as it
is written: a percent sign is a percent sign. So it can stand in a sealed file's context and in a
rule, and be compared.

Source: Amazon S3 User Guide, "Naming Amazon S3 objects", "Bucket naming rules".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_secure_ml.errors import ConfigurationError, FormatError

# A key's limit; a longer one is refused by the store when all is uploaded already.
MAX_KEY_BYTES = 1024

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", re.ASCII)
_CONN_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)
_GLOB = re.compile(r"[*?\[]")
# C0, DEL, C1 and no characters: they cannot stand in a listing's XML, or be seen in a log.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Address:
    """The parts of an address.

    Attributes:
        bucket: The bucket's name.
        key: The object's key, or a directory's; empty for the whole bucket.
        conn_id: The Airflow connection that was written into the address; empty: none.
    """

    bucket: str
    key: str
    conn_id: str = ""

    @property
    def uri(self) -> str:
        """The canonical address."""
        return f"{_SCHEME}{self.bucket}/{self.key}" if self.key else f"{_SCHEME}{self.bucket}"

    @property
    def prefix(self) -> str:
        """What the keys of everything below it begin with."""
        return f"{self.key}/" if self.key else ""


def parse(address: str) -> S3Address:
    """Read what people write; one slash at the end is taken off.

    Raises:
        ConfigurationError: Not an address in S3, a glob, a control character, an empty part, `.`
            or `..`, or longer than a key may be.
    """
    if not address.startswith(_SCHEME):
        raise ConfigurationError(f"{_shown(address)}: expected s3://bucket/key, found another form")
    _check_characters(address)
    place, _, key = address[len(_SCHEME) :].partition("/")
    conn_id, at, bucket = place.rpartition("@")
    if at and not _CONN_ID.fullmatch(conn_id):
        raise ConfigurationError(f"{_shown(address)}: expected a connection's id before the '@'")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigurationError(
            f"{_shown(address)}: expected s3://bucket/key with a bucket's name of 3 to 63 "
            "lower-case letters, digits, dots and hyphens"
        )
    return S3Address(bucket=bucket, key=_key(key.removesuffix("/"), address), conn_id=conn_id)


def split(uri: str) -> S3Address:
    """The parts of a canonical address.

    Raises:
        ConfigurationError: It is not canonical.
    """
    found = parse(uri)
    if found.uri != uri:
        raise ConfigurationError(
            f"{_shown(uri)}: expected a canonical address such as {found.uri}; "
            "use the one that canonical() gives"
        )
    return found


def child(uri: str, relative: str) -> str:
    """The canonical address of a name below a directory.

    Raises:
        FormatError: Empty, absolute, `.`, `..`, an empty part, or no key could end so.
    """
    above = split(uri)
    try:
        key = _key(relative, relative)
        if not key:
            raise ConfigurationError(f"{uri}: an empty name")
        _check_characters(relative)
        return split(f"{_SCHEME}{above.bucket}/{above.prefix}{key}").uri
    except ConfigurationError as error:
        raise FormatError(
            f"{uri}: {relative[:200]!r}: expected a relative name such as a/b.csv: {error}"
        ) from error


def _check_characters(address: str) -> None:
    if _GLOB.search(address):
        raise ConfigurationError(
            f"{_shown(address)}: expected the address of one object, found a glob character "
            "(* ? [); name each object"
        )
    if _CONTROL.search(address):
        raise ConfigurationError(f"{_shown(address)}: an address holds a control character")


def _key(key: str, address: str) -> str:
    parts = key.split("/")
    if key and any(part in ("", ".", "..") for part in parts):
        raise ConfigurationError(
            f"{_shown(address)}: expected no empty part, '.' or '..' in a key; "
            "other programs would take them for another place"
        )
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{_shown(address)}: half a surrogate pair, which no key can hold"
        ) from error
    if length > MAX_KEY_BYTES:
        raise ConfigurationError(
            f"{_shown(address)}: a key of {length} bytes, at most {MAX_KEY_BYTES} are allowed"
        )
    return key


def _shown(address: str) -> str:
    """An address in a message: short, no password, and nothing that moves a terminal's cursor."""
    scheme, slashes, rest = address.partition("//")
    before, at, place = rest.rpartition("@")
    # A secret may hold slashes and more, so up to the last @.
    if at and ":" in before:
        address = f"{scheme}{slashes}…@{place}"
    cut = address if len(address) <= 200 else f"{address[:200]}…"
    return cut if cut and cut.isprintable() else ascii(cut) if cut else "(empty)"
