"""From a key system's address to its adapter, and from a key's name to its system.

Without Airflow, so that the console script needs none. Only names and addresses of the settings
come here: nothing in a file or an XCom can make the process talk to a key system.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from airflow_secure_ml.adapters.aws.kms_address import KmsAddress, parse_kms_address
from airflow_secure_ml.adapters.pkcs11.address import TokenAddress, parse_token_address
from airflow_secure_ml.adapters.vault.transit_address import VaultAddress, parse_vault_address
from airflow_secure_ml.errors import ConfigurationError, SecureMLError

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.aws.session import AwsSession
    from airflow_secure_ml.adapters.local_keyring import LocalKeyring
    from airflow_secure_ml.adapters.pkcs11.token import Token
    from airflow_secure_ml.adapters.vault.client import VaultClient
    from airflow_secure_ml.core.ports import (
        KeyRef,
        KeyVersion,
        KeyWrapper,
        RotatingKeys,
        Signer,
        Verifier,
    )
    from airflow_secure_ml.core.sealed_file.hpke import Recipient
    from airflow_secure_ml.core.sealed_file.slots import Slot
    from airflow_secure_ml.core.secret import Secret

Connect: TypeAlias = "Callable[[str], VaultClient]"
"""From an Airflow connection's id to the client of Vault that this process keeps for it."""

ConnectAws: TypeAlias = "Callable[[str], AwsSession]"
"""From an Airflow connection's id to the AWS session that this process keeps for it."""
FindToken: TypeAlias = "Callable[[str], Token]"
"""From a token's label to the token."""

_LOCAL, _VAULT = "local://", "vault://"
_KMS, _TOKEN = "awskms://", "pkcs11://"
# As in core.sealed_file.hpke, which needs the cryptography library.
_HPKE = "hpke:"
_SUPPORTED = (
    "local:///absolute/path, vault://mount?conn_id=connection, awskms://alias?conn_id=connection "
    "and pkcs11://token"
)
# As in core.sealed_file.keys.
TYPE_HPKE = 2


def open_local_keyring(
    address: str,
    passphrase: Callable[[], Secret] | None = None,
    *,
    demands_passphrase: bool = False,
) -> LocalKeyring:
    """Return the keyring at a `local://` address, with what the command line does to keys.

    Args:
        address: Where it lies.
        passphrase: Asked once a process, where the file is under one.
        demands_passphrase: Whether a file that is under none is refused.

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

    return LocalKeyring(path, passphrase=passphrase, demands_passphrase=demands_passphrase)


def is_in_vault(address: str) -> bool:
    """Whether an address is one of Vault's."""
    return address.startswith(_VAULT)


def is_in_keyring(address: str) -> bool:
    """Whether an address is that of a keyring file, whose keys the command line makes."""
    return not address.startswith((_VAULT, _KMS, _TOKEN, _HPKE))


def is_in_token(address: str) -> bool:
    """Whether an address is one of PKCS#11 tokens, whose keys the command line makes, too."""
    return address.startswith(_TOKEN)


def how_to_make(
    address: str, name: str, purpose: str, *, vault_conn_id: str, aws_conn_id: str
) -> str:
    """What makes a key where an address leads, in words for a person.

    Args:
        address: A key system's, not of a keyring.
        name: Our name of the key.
        purpose: `wrap` or `sign`.
        vault_conn_id: The connection of a Vault address that names none.
        aws_conn_id: The connection of a KMS address that names none.
    """
    if is_in_vault(address):
        from airflow_secure_ml.adapters.vault.transit_key import how_to_make as in_vault

        vault = parse_vault_address(address, default_conn_id=vault_conn_id)
        return in_vault(f"{vault.mount}/{vault.key or name}", purpose)
    if address.startswith(_KMS):
        from airflow_secure_ml.adapters.aws.kms_key import how_to_make as in_kms

        return in_kms(parse_kms_address(address, default_conn_id=aws_conn_id).key, name, purpose)
    if address.startswith(_TOKEN):
        return f"`secure-ml keys create {name} --for {purpose}`"
    return "somebody else has it, and gives only its public half"


class NamedKeys:
    """A key system made of several: each name lies in exactly one of them.

    Args:
        key_system: Address of the system where names lie by default.
        key_names: Names that lie elsewhere, with the address. The default system's key of such
            a name is never used.
        connect: Leads to Vault; None: nothing here may lie there.
        vault_conn_id: The connection of a Vault address that names none.
        connect_aws: Leads to AWS KMS; None: nothing here may lie there.
        aws_conn_id: The connection of a KMS address that names none.
        find_token: Leads to PKCS#11 tokens; None: nothing here may lie there.
        wraps: Names of the settings that seal. Of them and of `key_names`, those that lie in
            Vault, KMS or a token may open when nobody names a key: none is asked for a list.
        signs: Names of the settings that only sign.
        groups: Names that stand for several keys to seal to.
        passphrase: Asked once a process for each keyring that is under one.
        demands_passphrase: Whether keyrings that are under none are refused.

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
        connect_aws: ConnectAws | None = None,
        aws_conn_id: str = "aws_default",
        find_token: FindToken | None = None,
        wraps: Collection[str] = (),
        signs: Collection[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
        passphrase: Callable[[], Secret] | None = None,
        demands_passphrase: bool = False,
    ) -> None:
        self._groups = dict(groups or {})
        places = {
            name: _place(address, vault_conn_id, aws_conn_id)
            for name, address in (key_names or {}).items()
        }
        default, key = _place(key_system, vault_conn_id, aws_conn_id)
        if key is not None:
            raise ConfigurationError(
                f"key system {_shown(key_system)}: expected a place of many keys, found one key's "
                "address, which belongs to one name in key_names"
            )
        names: dict[_System, dict[str, str]] = {
            default: {name: name for name in wraps if name not in places}
        }
        for name, (system, at) in places.items():
            names.setdefault(system, {})[name] = at or name
        sealing = set(wraps) | (set(places) - set(signs))
        ways = _Ways(connect, connect_aws, find_token, passphrase, demands_passphrase)
        self._systems = {
            system: _open(system, there, [name for name in there if name in sealing], ways)
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

    def recipient(self, name: str) -> Recipient | None:
        """What others seal to under this name; None: that is not what it is for."""
        find: Callable[[str], Recipient | None] = getattr(
            self._system(name), "recipient", lambda name: None
        )
        return find(name)

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

    def create(self, name: str, purpose: str) -> KeyRef:
        """Make a key to `wrap` or to `sign` where its name lies; a keyring and a token can."""
        make = getattr(self._system(name), "create", None)
        if make is None:
            raise ConfigurationError(
                f"key {name}: expected a name of a keyring or a token; its own system makes it"
            )
        made: KeyRef = make(name, purpose)
        return made

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


# A keyring's address, a public key's, or an address elsewhere without the key.
_System: TypeAlias = str | VaultAddress | KmsAddress | TokenAddress


@dataclass(frozen=True, slots=True)
class _Ways:
    """What leads to the systems."""

    connect: Connect | None
    connect_aws: ConnectAws | None
    find_token: FindToken | None
    passphrase: Callable[[], Secret] | None
    demands_passphrase: bool


def _place(address: str, vault_conn_id: str, aws_conn_id: str) -> tuple[_System, str | None]:
    """The system at an address, and what it calls the key."""
    at: VaultAddress | KmsAddress | TokenAddress
    if is_in_vault(address):
        at = parse_vault_address(address, default_conn_id=vault_conn_id)
    elif address.startswith(_KMS):
        at = parse_kms_address(address, default_conn_id=aws_conn_id)
    elif address.startswith(_TOKEN):
        at = parse_token_address(address)
    else:
        return address, None
    return replace(at, key=None), at.key


def _open(
    system: _System, names: Mapping[str, str], wraps: Collection[str], ways: _Ways
) -> RotatingKeys:
    """The adapter; nothing is read or connected before it is used."""
    if isinstance(system, str) and system.startswith(_HPKE):
        from airflow_secure_ml.adapters.hpke_recipients import HpkeRecipients

        return HpkeRecipients(system, names)
    if isinstance(system, str):
        demanded = ways.demands_passphrase
        return open_local_keyring(system, ways.passphrase, demands_passphrase=demanded)
    if isinstance(system, VaultAddress):
        return _open_vault(system, names, wraps, ways.connect)
    return _open_elsewhere(system, names, wraps, ways)


def _open_vault(
    at: VaultAddress, names: Mapping[str, str], wraps: Collection[str], connect: Connect | None
) -> RotatingKeys:
    if connect is None:
        raise ConfigurationError(
            f"key system {_VAULT}{at.mount}: expected a keyring file here; nothing leads to Vault"
        )
    from airflow_secure_ml.adapters.vault.transit import VaultTransit

    return VaultTransit(partial(connect, at.conn_id), at.mount, names=names, wraps=wraps)


def _open_elsewhere(
    at: KmsAddress | TokenAddress,
    names: Mapping[str, str],
    wraps: Collection[str],
    ways: _Ways,
) -> RotatingKeys:
    if isinstance(at, TokenAddress):
        if ways.find_token is None:
            raise ConfigurationError(
                f"key system {_TOKEN}{at.token}: expected a keyring file here; nothing leads to "
                "tokens"
            )
        from airflow_secure_ml.adapters.pkcs11.keys import TokenKeys

        return TokenKeys(ways.find_token(at.token), names=names, wraps=wraps)
    if ways.connect_aws is None:
        raise ConfigurationError(
            f"key system {_KMS}: expected a keyring file here; nothing leads to AWS"
        )
    from airflow_secure_ml.adapters.aws.kms_client import KmsClient
    from airflow_secure_ml.adapters.aws.kms_keys import KmsKeys

    client = KmsClient(
        partial(ways.connect_aws, at.conn_id), region=at.region, grant_token=at.grant_token
    )
    # A name that the settings do not place lies at the alias of that name.
    placed = {name: f"alias/{key}" if key == name else key for name, key in names.items()}
    return KmsKeys(client, names=placed, wraps=wraps)


def _shown(address: str) -> str:
    # An address may carry a token in its user part or its query.
    scheme, found, rest = address.partition("://")
    if not found:
        return repr(re.split("[?#]", address)[0][:60])
    return repr(f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2][:60]}")
