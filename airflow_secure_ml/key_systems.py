"""From a key system's address to its adapter, and from a key's name to its system.

Without Airflow, so that the console script needs none. Only names and addresses of the settings
come here: nothing in a file or an XCom can make the process talk to a key system.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from airflow_secure_ml.errors import ConfigurationError, SecureMLError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring
    from airflow_secure_ml.adapters.vault.client import VaultClient
    from airflow_secure_ml.core.ports import (
        KeyRef,
        KeyVersion,
        KeyWrapper,
        RotatingKeys,
        Signer,
        Verifier,
    )
    from airflow_secure_ml.core.sealed_file.slots import Slot

Connect: TypeAlias = "Callable[[str], VaultClient]"
"""From an Airflow connection's id to the client of Vault that this process keeps for it."""

_LOCAL, _VAULT = "local://", "vault://"
# As in core.sealed_file.hpke, which needs the cryptography library.
_HPKE = "hpke:"
_SUPPORTED = "local:///absolute/path and vault://mount?conn_id=connection"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_MOUNT = re.compile(rf"{_PART}(?:/{_PART})*")
_QUERY = {
    "conn_id": re.compile(r"[A-Za-z0-9_.:#/-]{1,250}"),
    "key": re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"),
}
# As in core.sealed_file.keys.
TYPE_HPKE = 2
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


def open_local_keyring(address: str) -> LocalKeyring:
    """Return the keyring at a `local://` address, with what the command line does to keys.

    Raises:
        ConfigurationError: Another scheme, or no absolute path.
    """
    path = Path(address.removeprefix(_LOCAL))
    if not address.startswith(_LOCAL) or not path.is_absolute():
        raise ConfigurationError(
            f"key system {_shown(address)}: this release supports {_SUPPORTED}; "
            "set [secure_ml] key_system, or the name's address in key_names"
        )
    # Imported here: it needs the cryptography library, which reading settings does not.
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring

    return LocalKeyring(path)


def is_in_vault(address: str) -> bool:
    """Whether an address is one of Vault's."""
    return address.startswith(_VAULT)


class NamedKeys:
    """A key system made of several: each name lies in exactly one of them.

    Args:
        key_system: Address of the system where names lie by default.
        key_names: Names that lie elsewhere, with the address. The default system's key of such
            a name is never used.
        connect: Leads to Vault; None: nothing here may lie there.
        vault_conn_id: The connection of a Vault address that names none.
        wraps: Names of the settings that seal. Of them and of `key_names`, those that lie in
            Vault may open when nobody names a key: Vault is never asked for a list.
        signs: Names of the settings that only sign.
        groups: Names that stand for several keys to seal to.

    Raises:
        ConfigurationError: An address without an adapter.
    """

    def __init__(
        self,
        key_system: str,
        key_names: Mapping[str, str] | None = None,
        *,
        connect: Connect | None = None,
        vault_conn_id: str = "vault_default",
        wraps: Collection[str] = (),
        signs: Collection[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._groups = dict(groups or {})
        places = {
            name: _place(address, vault_conn_id) for name, address in (key_names or {}).items()
        }
        default, key = _place(key_system, vault_conn_id)
        if key is not None:
            raise ConfigurationError(
                f"key system {_shown(key_system)}: expected no key=, which belongs to one name "
                "in key_names"
            )
        names: dict[_System, dict[str, str]] = {
            default: {name: name for name in wraps if name not in places}
        }
        for name, (system, at) in places.items():
            names.setdefault(system, {})[name] = at or name
        sealing = set(wraps) | (set(places) - set(signs))
        self._systems = {
            system: _open(system, there, [name for name in there if name in sealing], connect)
            for system, there in names.items()
        }
        self._default = self._systems[default]
        self._elsewhere = {name: self._systems[system] for name, (system, _) in places.items()}

    def wrapper(self, name: str) -> KeyWrapper:
        """The newest active version of a wrap key, from the system where its name lies."""
        return self._system(name).wrapper(name)

    def wrappers(self, name: str) -> Sequence[KeyWrapper]:
        """The same of each key that a name stands for: itself, or a group's."""
        return [self.wrapper(each) for each in self._groups.get(name, (name,))]

    def openers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """As `unwrappers`, with keys to receive with: for who demands a signature besides."""
        if names is not None:
            single = [each for name in names for each in self._groups.get(name, (name,))]
            return [key for name in single for key in _openers(self._system(name), [name])]
        received: list[KeyWrapper] = []
        for place, system in self._systems.items():
            received += [
                key
                for key in (_openers(system) if isinstance(place, str) else ())
                if key.slot_type == TYPE_HPKE and self._system(key.ref.name) is system
            ]
        return [*self.unwrappers(), *received]

    def unwrappers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """Every version that may still open, newest first in each key; None: all keys."""
        if names is not None:
            return [key for name in names for key in self._system(name).unwrappers([name])]
        found: list[KeyWrapper] = []
        for place, system in self._systems.items():
            keys = system.unwrappers()
            # A keyring gives all it has; a Vault what it was told to, and naming a version asks it.
            if isinstance(place, str):
                keys = [key for key in keys if self._system(key.ref.name) is system]
            found += keys
        return found

    def signer(self, name: str) -> Signer:
        """The newest active version of a sign key, from the system where its name lies."""
        return self._system(name).signer(name)

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Every accepted version of these sign keys, each from the system where its name lies."""
        return [key for name in names for key in self._system(name).verifiers([name])]

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the version that a slot names; None: no such key where its name lies."""
        for place, system in self._systems.items():
            state = system.state_of(slot_type, slot_id)
            # Such a slot names a public key, not a name.
            if state is not None and slot_type == TYPE_HPKE:
                return state
            is_its_name = self._system(slot_id.rpartition("/")[0]) is system
            if state is not None and (is_its_name or not isinstance(place, str)):
                return state
        return None

    def versions(self, name: str) -> Sequence[KeyVersion]:
        """Every version of a key as it is now, oldest first."""
        return self._system(name).versions(name)

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""
        return self._system(name).rotate(name)

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it."""
        return self._system(name).ref(name, version)

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version of this key wrapped a slot; None: another key's."""
        return self._system(name).version_in(name, slot)

    def is_blind(self, name: str) -> bool:
        """Whether the key lies where it can rewrap by itself."""
        return self._system(name).is_blind(name)

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Wrap bodies anew under the newest version, where the key lies."""
        return self._system(name).rewrap(name, bodies)

    def fence(self, name: str) -> int:
        """Let only the newest version wrap from now on."""
        return self._system(name).fence(name)

    def retire_below(self, name: str, version: int) -> None:
        """Let versions below this one do nothing more."""
        self._system(name).retire_below(name, version)

    def _system(self, name: str) -> RotatingKeys:
        return self._elsewhere.get(name, self._default)


def _openers(system: RotatingKeys, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
    openers: Callable[[Collection[str] | None], Sequence[KeyWrapper]]
    openers = getattr(system, "openers", system.unwrappers)
    return openers(names)


# A keyring's address, a public key's, or mount and connection of a Vault.
_System: TypeAlias = str | tuple[str, str]


def _place(address: str, vault_conn_id: str) -> tuple[_System, str | None]:
    """The system at an address, and what it calls the key."""
    if not is_in_vault(address):
        return address, None
    at = parse_vault_address(address, default_conn_id=vault_conn_id)
    return (at.mount, at.conn_id), at.key


def _open(
    system: _System, names: Mapping[str, str], wraps: Collection[str], connect: Connect | None
) -> RotatingKeys:
    """The adapter; nothing is read or connected before it is used."""
    if isinstance(system, str) and system.startswith(_HPKE):
        from airflow_secure_ml.adapters.hpke_recipients import HpkeRecipients

        return HpkeRecipients(system, names)
    if isinstance(system, str):
        return open_local_keyring(system)
    mount, conn_id = system
    if connect is None:
        raise ConfigurationError(
            f"key system {_VAULT}{mount}: expected a keyring file here; nothing leads to Vault"
        )
    from airflow_secure_ml.adapters.vault.transit import VaultTransit

    return VaultTransit(partial(connect, conn_id), mount, names=names, wraps=wraps)


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
