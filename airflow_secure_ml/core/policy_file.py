"""Read a policy file's bytes: `version`, `default` and `[[data]]` tables, and nothing else.

Whatever it does not know is refused, since a misspelt field would be a rule that does nothing; so
is a rule that can never be reached, so that order never hides one. Reading the file is the
caller's part.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_secure_ml.core.policy import Rule, Rules
from airflow_secure_ml.errors import ConfigurationError

MAX_POLICY_BYTES = 1 << 20
DEFAULTS = ("observe", "warn", "refuse")
PLAIN = ("allow", "refuse")
MAX_KEEP_DAYS = 36_525
_FIELDS = (
    "prefix",
    "key",
    "readers",
    "signers",
    "same_as",
    "plain",
    "plain_until",
    "column_keys",
    "keep_days",
)
_GLOB = re.compile(r"[*?\[\]]")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\0]*")


def parse_rules(data: bytes, *, canonical: Callable[[str], str]) -> Rules:
    """Read a policy file's bytes.

    Args:
        data: The file, TOML 1.0 in UTF-8.
        canonical: Gives a local address its canonical form, symlinks resolved: a rule for a
            link's name would otherwise never match (`ObjectStore.canonical`).

    Raises:
        ConfigurationError: Not TOML, an unknown table or field, a value of another type, or a
            rule that can never be reached; the message names it.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"policy file: {len(data)} bytes, at most {MAX_POLICY_BYTES}")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"policy file: not TOML in UTF-8: {error}") from error
    _only(document, ("version", "default", "data"), "policy file")
    tables = document.get("data", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError("policy file: data: expected [[data]] tables")
    rules = tuple(
        _rule(table, f"policy file: [[data]] {number}", canonical)
        for number, table in enumerate(tables, start=1)
    )
    _check_reachable(rules)
    version = _text(document, "version", "policy file")
    if version is None:
        raise ConfigurationError("policy file: version is missing; it stands in every event")
    default = _choice(document, "default", "policy file", DEFAULTS) or "observe"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Rules(version=version, digest=digest, default=default, data=rules)


def _rule(table: Mapping[str, Any], where: str, canonical: Callable[[str], str]) -> Rule:
    _only(table, _FIELDS, where)
    prefix = _address(table, "prefix", where, canonical)
    if prefix is None:
        raise ConfigurationError(f"{where}: prefix is missing")
    until = table.get("plain_until")
    # A TOML date-time is a date to Python too.
    if until is not None and type(until) is not dt.date:
        raise ConfigurationError(f"{where}: plain_until: expected a day such as 2027-01-31")
    plain = _choice(table, "plain", where, PLAIN)
    if until is not None and plain != "refuse":
        raise ConfigurationError(f'{where}: plain_until needs plain = "refuse" beside it')
    same_as = _address(table, "same_as", where, canonical)
    if same_as == prefix:
        raise ConfigurationError(f"{where}: same_as: expected another address than prefix")
    return Rule(
        prefix=prefix,
        key=_text(table, "key", where),
        readers=_texts(table, "readers", where),
        signers=_texts(table, "signers", where),
        same_as=same_as,
        plain=plain,
        plain_until=until,
        keep_days=_days(table, "keep_days", where),
        column_keys=_column_keys(table, where),
    )


def _column_keys(table: Mapping[str, Any], where: str) -> Mapping[str, tuple[str, ...]] | None:
    keys = table.get("column_keys")
    if keys is None:
        return None
    if not isinstance(keys, dict) or not keys:
        raise ConfigurationError(f"{where}: column_keys: expected a table of keys and their DAGs")
    return {name: _texts(keys, name, f"{where}: column_keys") or () for name in keys}


def _check_reachable(rules: Sequence[Rule]) -> None:
    for number, rule in enumerate(rules, start=1):
        for before, other in enumerate(rules[: number - 1], start=1):
            if other.covers(rule.prefix):
                raise ConfigurationError(
                    f"policy file: [[data]] {number} ({rule.prefix}) is never reached: number"
                    f" {before} ({other.prefix}) comes first and covers it; move it up"
                )


def _only(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{where}: {unknown[0]!r} is not known to this release, only {', '.join(known)}"
        )


def _text(table: Mapping[str, Any], name: str, where: str) -> str | None:
    value = table.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: {name}: expected a text that is not empty")
    return value


def _texts(table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...] | None:
    value = table.get(name)
    if value is None:
        return None
    # An empty list could be read as nobody or as everybody; a text alone as a list of letters.
    if not isinstance(value, list) or not value:
        raise ConfigurationError(f"{where}: {name}: expected a list of at least one name")
    if not all(isinstance(each, str) and each for each in value):
        raise ConfigurationError(f"{where}: {name}: expected names, texts that are not empty")
    return tuple(value)


def _days(table: Mapping[str, Any], name: str, where: str) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_KEEP_DAYS:
        raise ConfigurationError(f"{where}: {name}: expected days, 1 to {MAX_KEEP_DAYS}")
    return value


def _choice(table: Mapping[str, Any], name: str, where: str, allowed: Sequence[str]) -> str | None:
    value = _text(table, name, where)
    if value is not None and value not in allowed:
        raise ConfigurationError(f"{where}: {name}: expected {' or '.join(allowed)}")
    return value


def _address(
    table: Mapping[str, Any], name: str, where: str, canonical: Callable[[str], str]
) -> str | None:
    value = _text(table, name, where)
    if value is None:
        return None
    address = f"file://{value}" if value.startswith("/") else value
    if not _is_canonical(address):
        raise ConfigurationError(
            f"{where}: {name}: expected an address such as file:///folder/ or s3://bucket/folder/,"
            f" without * ? [ ] and .. in it, and without conn_id@; found {value!r}"
        )
    if not address.startswith("file://"):
        return address.rstrip("/")
    try:
        # As it was written: in a path a percent sign is one, in an address it is a code.
        resolved = canonical(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {name}: {error}") from error
    return "file://" + resolved.removeprefix("file://").rstrip("/")


def _is_canonical(address: str) -> bool:
    """Whether objects can have such addresses; a rule for others would never match."""
    if not _ADDRESS.fullmatch(address) or _GLOB.search(address):
        return False
    scheme, _, rest = address.partition("://")
    host, *parts = rest.rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return False
    return not host if scheme == "file" else bool(host) and "@" not in host
