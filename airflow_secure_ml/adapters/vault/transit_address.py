"""The address of keys in Vault's Transit engine: `vault://<mount>?conn_id=…&key=…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from airflow_secure_ml.errors import ConfigurationError

_VAULT = "vault://"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_MOUNT = re.compile(rf"{_PART}(?:/{_PART})*")
_QUERY = {
    "conn_id": re.compile(r"[A-Za-z0-9_.:#/-]{1,250}"),
    "key": re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"),
}
# A slot's id is mount/name, and has 256 bytes at most.
_MAX_MOUNT_CHARS = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAddress:
    """A mount of Vault's Transit engine.

    Attributes:
        mount: Where the engine is mounted.
        conn_id: The Airflow connection to its Vault.
        key: What Transit calls the key, where that is not our name for it.
    """

    mount: str
    conn_id: str
    key: str | None = None


def parse_vault_address(address: str, *, default_conn_id: str) -> VaultAddress:
    """Read `vault://<mount>?conn_id=<connection>&key=<name>`; both parameters may be left out.

    Raises:
        ConfigurationError: Anything else in it; the message shows no parameter and no user.
    """
    try:
        parts = urlsplit(address)
        pairs = (
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
            if parts.query
            else []
        )
    except ValueError:
        raise _wrong_vault_address(address) from None
    query = dict(pairs)
    mount = parts.netloc + parts.path
    right = (
        address.startswith(_VAULT)
        and len(mount) <= _MAX_MOUNT_CHARS
        and _MOUNT.fullmatch(mount)
        and "#" not in address
        and len(query) == len(pairs)
        and all(name in _QUERY and _QUERY[name].fullmatch(text) for name, text in pairs)
    )
    if not right:
        raise _wrong_vault_address(address)
    conn_id = query.get("conn_id", default_conn_id)
    return VaultAddress(mount=mount, conn_id=conn_id, key=query.get("key"))


def _wrong_vault_address(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"key system {_shown(address)}: expected {_VAULT}<mount>?conn_id=<connection> and nothing "
        "else in it, but &key=<name in Transit> in key_names where that is another one"
    )


def _shown(address: str) -> str:
    # An address may carry a token in its user part or its query.
    scheme, found, rest = address.partition("://")
    if not found:
        return repr(address[:60])
    return repr(f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2][:60]}")
