"""A keyring as JSON text, and back; strict, since a key that is read wrong seals wrong.

```json
{"keys": {"data": {"purpose": "wrap", "versions": [{"created": "…", "number": 1,
  "secret": "<base64>", "state": "active"}]}}, "secure_ml_keyring": 1}
```
Format 2 has keys to receive with, recipients and second signatures besides; it is written only
where there is one, so that an older release reads what it knows, and refuses the rest by number.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any

from airflow_secure_ml.core.keyring.model import (
    MAX_KEYS,
    MAX_VERSIONS,
    OTHERS,
    PURPOSES,
    SECRET_BYTES,
    STATES,
    Key,
    Keyring,
    Purpose,
    Secret,
    Version,
    check_name,
)
from airflow_secure_ml.core.ml_dsa import PUBLIC_BYTES as SECOND_PUBLIC_BYTES
from airflow_secure_ml.core.sealed_file.hpke import ALGORITHMS, PUBLIC_BYTES
from airflow_secure_ml.errors import ConfigurationError

FORMAT, FORMAT_RECIPIENTS = 1, 2
_FIRST_PURPOSES: tuple[Purpose, ...] = ("wrap", "sign", "trust")
_FIELDS = {
    FORMAT: {"secret", "public", "key_id"},
    FORMAT_RECIPIENTS: {
        "secret",
        "public",
        "key_id",
        "algorithm",
        "second_secret",
        "second_public",
    },
}
# 1,000 keys of some versions each; a larger file is not one that this release wrote.
MAX_TEXT_BYTES = 4 << 20
_MAX_CREATED = 32
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}/[1-9][0-9]{0,8}", re.ASCII)


def encode(keyring: Keyring) -> bytes:
    """The file's bytes.

    Raises:
        ConfigurationError: More than a reader takes: written, nobody could read any key again.
    """
    keys = {name: _key_record(key) for name, key in keyring.keys.items()}
    is_first = all(
        key.purpose in _FIRST_PURPOSES and each.second_public is None
        for key in keyring.keys.values()
        for each in key.versions
    )
    record = {"secure_ml_keyring": FORMAT if is_first else FORMAT_RECIPIENTS, "keys": keys}
    text = json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
    if len(text) > MAX_TEXT_BYTES:
        raise ConfigurationError(
            f"{keyring.where}: expected at most {MAX_TEXT_BYTES} bytes of keys, found {len(text)} "
            "with this change, which was not made; take a second keyring for some names (key_names)"
        )
    return text


def decode(data: bytes | bytearray, *, system: str, where: str) -> Keyring:
    """Read a keyring.

    Raises:
        ConfigurationError: Not such a text, or a field that this release does not write.
            The message never holds what was found: it may be a key.
    """
    record = _parse(data)
    if record is None:
        raise ConfigurationError(f"{where}: expected a keyring (JSON), found something else")
    match record:
        case {"secure_ml_keyring": int(number), "keys": dict(keys), **rest} if (
            number in _FIELDS and not isinstance(number, bool) and not rest
        ):
            if len(keys) > MAX_KEYS:
                raise ConfigurationError(f"{where}: expected at most {MAX_KEYS} keys")
            parsed = {name: _key(name, each, where, number) for name, each in sorted(keys.items())}
            return Keyring(system=system, where=where, keys=MappingProxyType(parsed))
        case {"secure_ml_keyring": int(found)} if found not in _FIELDS:
            raise ConfigurationError(
                f"{where}: keyring format {found}, this release reads "
                f"{' and '.join(map(str, _FIELDS))}; upgrade"
            )
    raise ConfigurationError(f"{where}: expected a keyring, found another JSON text")


def _parse(data: bytes | bytearray) -> Any:
    # No error leaves: a JSONDecodeError carries the whole text, keys included.
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _key_record(key: Key) -> dict[str, Any]:
    return {"purpose": key.purpose, "versions": [_version_record(each) for each in key.versions]}


def _version_record(version: Version) -> dict[str, Any]:
    record: dict[str, Any] = {
        "number": version.number,
        "state": version.state,
        "created": version.created,
    }
    if version.secret is not None:
        record["secret"] = base64.b64encode(version.secret.value).decode()
    if version.key_id is not None:
        record["key_id"] = version.key_id
    if version.public is not None:
        record["public"] = base64.b64encode(version.public).decode()
    if version.algorithm is not None:
        record["algorithm"] = version.algorithm
    if version.second_secret is not None:
        record["second_secret"] = base64.b64encode(version.second_secret.value).decode()
    if version.second_public is not None:
        record["second_public"] = base64.b64encode(version.second_public).decode()
    return record


def _key(name: str, record: object, where: str, number: int) -> Key:
    check_name(name)
    match record:
        case {"purpose": str(purpose), "versions": [_, *_] as given, **rest} if (
            not rest and len(given) <= MAX_VERSIONS
        ):
            for known in PURPOSES if number > FORMAT else _FIRST_PURPOSES:
                if known == purpose:
                    place = f"{where}: key {name}"
                    versions = tuple(_version(each, place, _FIELDS[number]) for each in given)
                    key = Key(name=name, purpose=known, versions=versions)
                    _check(key, f"{where}: key {name}")
                    return key
    raise ConfigurationError(f"{where}: key {name}: expected purpose and versions, nothing else")


def _version(record: object, where: str, fields: Set[str]) -> Version:
    match record:
        case {"number": int(number), "state": str(state), "created": str(created), **rest} if (
            number > 0 and not set(rest) - fields and len(created) <= _MAX_CREATED
        ):
            for known in STATES:
                if known == state:
                    secret = _bytes(rest, "secret", where)
                    second = _bytes(rest, "second_secret", where)
                    algorithm = _algorithm(rest.get("algorithm"), where)
                    return Version(
                        number=number,
                        state=known,
                        created=created,
                        secret=None if secret is None else Secret(secret),
                        public=_bytes(rest, "public", where, PUBLIC_BYTES.get(algorithm or "", 32)),
                        key_id=_key_id(rest.get("key_id"), where),
                        algorithm=algorithm,
                        second_secret=None if second is None else Secret(second),
                        second_public=_bytes(rest, "second_public", where, SECOND_PUBLIC_BYTES),
                    )
    raise ConfigurationError(f"{where}: a version with a missing, unknown or wrong field")


def _check(key: Key, where: str) -> None:
    numbers = [each.number for each in key.versions]
    if numbers != sorted(set(numbers)):
        raise ConfigurationError(f"{where}: expected each version once, oldest first")
    for each in key.versions:
        has_secret, has_public = each.secret is not None, each.public is not None
        wants_secret = key.purpose not in OTHERS and each.state != "destroyed"
        wants_algorithm = key.purpose in ("receive", "recipient")
        if each.key_id is not None and key.purpose != "trust":
            raise ConfigurationError(f"{where}: version {each.number}: key_id is for trusted keys")
        fits = has_secret == wants_secret and has_public == (key.purpose != "wrap")
        fits = fits and (each.algorithm is not None) == wants_algorithm
        if not fits or not _second_fits(key, each):
            raise ConfigurationError(
                f"{where}: version {each.number} is {each.state}, and the bytes it holds "
                "do not fit that; restore the file from a backup"
            )


def _second_fits(key: Key, version: Version) -> bool:
    """A second half stands only where a key signs; its seed goes where the first one goes."""
    if version.second_public is None:
        return version.second_secret is None
    wants_secret = key.purpose == "sign" and version.state != "destroyed"
    is_place = key.purpose in ("sign", "trust")
    return is_place and (version.second_secret is not None) == wants_secret


def _key_id(found: object, where: str) -> str | None:
    if found is None or (isinstance(found, str) and _KEY_ID.fullmatch(found)):
        return found
    raise ConfigurationError(f"{where}: key_id: expected NAME/VERSION")


def _algorithm(found: object, where: str) -> str | None:
    if found is None or (isinstance(found, str) and found in ALGORITHMS):
        return found
    raise ConfigurationError(f"{where}: algorithm: expected {' or '.join(ALGORITHMS)}")


def _bytes(
    record: Mapping[Any, object], name: str, where: str, length: int = SECRET_BYTES
) -> bytes | None:
    text = record.get(name)
    if text is None:
        return None
    try:
        value = base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != length:
        raise ConfigurationError(f"{where}: {name}: expected {length} bytes in base64")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name twice")
    return record
