"""From a key system's address to its adapter, and from a key's name to its system.

Without Airflow, so that the console script needs none. Only names and addresses of the settings
come here: nothing in a file or an XCom can make the process talk to a key system.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring
    from airflow_secure_ml.core.ports import KeySystem, KeyWrapper, Signer, Verifier

_LOCAL = "local://"
_SUPPORTED = "local:///absolute/path"


def open_key_system(address: str) -> KeySystem:
    """Return the key system at an address; nothing is read or connected before it is used.

    Raises:
        ConfigurationError: A scheme that this release has no adapter for, or not an address.
    """
    return open_local_keyring(address)


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


def _shown(address: str) -> str:
    # An address may carry a token in its user part or its query.
    scheme, found, rest = address.partition("://")
    if not found:
        return repr(address[:60])
    return repr(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2][:60]}")


class NamedKeys:
    """A KeySystem made of several: each name lies in exactly one of them."""

    def __init__(self, key_system: str, key_names: Mapping[str, str] | None = None) -> None:
        """Open the systems.

        Args:
            key_system: Address of the system where names lie by default.
            key_names: Names that lie elsewhere, with the address. The default system's key of
                such a name is never used.

        Raises:
            ConfigurationError: An address without an adapter.
        """
        systems: dict[str, KeySystem] = {}
        for address in (key_system, *(key_names or {}).values()):
            if address not in systems:
                systems[address] = open_key_system(address)
        self._default = systems[key_system]
        self._elsewhere = {name: systems[at] for name, at in (key_names or {}).items()}

    def wrapper(self, name: str) -> KeyWrapper:
        """The newest active version of a wrap key, from the system where its name lies."""
        return self._system(name).wrapper(name)

    def unwrappers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """Every version that may still open, newest first in each key; None: all keys."""
        if names is not None:
            return [key for name in names for key in self._system(name).unwrappers([name])]
        here = [key for key in self._default.unwrappers() if key.ref.name not in self._elsewhere]
        # Asked for all and filtered: a name that only signs there is no error here.
        return here + [
            key
            for name, system in self._elsewhere.items()
            for key in system.unwrappers()
            if key.ref.name == name
        ]

    def signer(self, name: str) -> Signer:
        """The newest active version of a sign key, from the system where its name lies."""
        return self._system(name).signer(name)

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Every accepted version of these sign keys, each from the system where its name lies."""
        return [key for name in names for key in self._system(name).verifiers([name])]

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the version that a slot names; None: no such key where its name lies."""
        return self._system(slot_id.rpartition("/")[0]).state_of(slot_type, slot_id)

    def _system(self, name: str) -> KeySystem:
        return self._elsewhere.get(name, self._default)
